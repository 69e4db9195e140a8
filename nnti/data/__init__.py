"""Data sets: files in, (uint8 image, uint8 label) out. `load_dataset("voc", "train")` is the way in."""

from collections.abc import Callable
from pathlib import Path

from nnti.data.base import IGNORE_INDEX, DataError, SegmentationDataset, check_choice
from nnti.data.cache import attach_cache
from nnti.data.camvid import CamVid
from nnti.data.cityscapes import Cityscapes
from nnti.data.statistics import class_frequencies, evenly_spread
from nnti.data.voc import VOC
from nnti.paths import miniature_root

__all__ = [
    "DATASETS",
    "IGNORE_INDEX",
    "MINIATURES",
    "VOC",
    "CamVid",
    "Cityscapes",
    "DataError",
    "SegmentationDataset",
    "attach_cache",
    "available",
    "class_frequencies",
    "evenly_spread",
    "load_dataset",
]


def voc_miniature(split: str = "train", root: str | Path | None = None) -> VOC:
    """Return a split of the VOC miniature in `root` (None: the project's own folder), rendering it first if need be."""
    from nnti.data.miniature import write_miniature_voc

    root = _miniature_place("VOC", "VOCdevkit/VOC2012", root)
    dataset = VOC(split, write_miniature_voc(root))
    dataset.name = "voc_miniature"
    return dataset


def cityscapes_miniature(split: str = "train", root: str | Path | None = None) -> Cityscapes:
    """Return a split of the Cityscapes miniature; otherwise as `voc_miniature`."""
    from nnti.data.miniature import write_miniature_cityscapes

    root = _miniature_place("Cityscapes", "cityscapes", root)
    dataset = Cityscapes(split, write_miniature_cityscapes(root))
    dataset.name = "cityscapes_miniature"
    return dataset


def _miniature_place(title: str, folder: str, root: str | Path | None) -> Path:
    """Return the root to render into, after a word to whoever waits."""
    root = miniature_root() if root is None else Path(root).expanduser()
    if not (root / folder / "miniature.json").exists():
        print(f"Rendering the {title} miniature into {root} (some seconds, once)")
    return root


MINIATURES: dict[str, Callable[..., SegmentationDataset]] = {
    "voc_miniature": voc_miniature,
    "cityscapes_miniature": cityscapes_miniature,
}
DATASETS: dict[str, Callable[..., SegmentationDataset]] = {
    "voc": VOC,
    "camvid": CamVid,
    "cityscapes": Cityscapes,
    **MINIATURES,
}


def load_dataset(name: str, split: str, root: str | Path | None = None) -> SegmentationDataset:
    """Return one split of the data set `name`, a key of `DATASETS`; raise DataError, with the fix, if it is missing."""
    check_choice("data set", name, DATASETS)
    return DATASETS[name](split, root)


def available(name: str) -> bool:
    """Tell whether `load_dataset` would find train and val of `name`; a miniature can always be rendered."""
    check_choice("data set", name, DATASETS)
    if name in MINIATURES:
        return True
    try:
        return all(load_dataset(name, split) for split in ("train", "val"))
    except DataError:
        return False
