"""The miniature VOC: a small synthetic data set in the layout of PASCAL VOC 2012, for anyone without the real one."""

from nnti.data.miniature.voc import write_miniature_voc

__all__ = ["write_miniature_voc"]
