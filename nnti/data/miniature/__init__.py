"""The miniatures: small drawn data sets in the layouts of VOC and Cityscapes, for anyone without the real ones."""

from nnti.data.miniature.cityscapes import write_miniature_cityscapes
from nnti.data.miniature.voc import write_miniature_voc
