"""Data sets: files in, (uint8 image, uint8 label) out. Start with `load_dataset("voc", "train")`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nnti.data.base import SegmentationDataset, check_choice, class_frequencies, evenly_spread
from nnti.data.cache import attach_cache
from nnti.data.camvid import CamVid
from nnti.data.cityscapes import Cityscapes
from nnti.data.folder import Folder
from nnti.data.voc import VOC
from nnti.errors import DataError
from nnti.folders import miniature_root


class VOCMiniature(VOC):
    """A split of the VOC miniature in `root` (None: the project's own folder), which is drawn first if needed."""

    name = "voc_miniature"

    def __init__(self, split: str = "train", root: str | Path | None = None):
        from nnti.data.miniature import write_miniature_voc

        super().__init__(split, write_miniature_voc(_announced("VOC", "VOCdevkit/VOC2012", root)))


class CityscapesMiniature(Cityscapes):
    """A split of the Cityscapes miniature; otherwise as `VOCMiniature`."""

    name = "cityscapes_miniature"

    def __init__(self, split: str = "train", root: str | Path | None = None):
        from nnti.data.miniature import write_miniature_cityscapes

        super().__init__(split, write_miniature_cityscapes(_announced("Cityscapes", "cityscapes", root)))


def _announced(title: str, folder: str, root: str | Path | None) -> Path:
    """Return the root to draw into; print a line if the miniature is still to be drawn."""
    root = miniature_root() if root is None else Path(root).expanduser()
    if not (root / folder / "miniature.json").exists():
        print(f"Drawing the {title} miniature into {root} (some seconds, once)")
    return root


MINIATURES = {dataset.name: dataset for dataset in (VOCMiniature, CityscapesMiniature)}
DATASETS = {dataset.name: dataset for dataset in (VOC, CamVid, Cityscapes, Folder)} | MINIATURES


def load_dataset(
    name: str, split: str, root: str | Path | None = None, arguments: Mapping[str, Any] | None = None
) -> SegmentationDataset:
    """Return one split of the data set `name`, a key of `DATASETS`; raise DataError, with the fix, if it is missing.

    `arguments`, the setting `dataset_arguments`, go to the constructor of a data set that takes any.
    """
    check_choice("data set", name, DATASETS)
    takes = DATASETS[name].arguments
    if arguments and not takes:
        raise DataError(
            f"dataset_arguments={dict(arguments)}: the data set '{name}' takes none; leave them out, or set "
            "dataset to folder"
        )
    for argument in arguments or {}:
        check_choice("dataset_arguments: argument", argument, takes)
    given = {**(arguments or {}), **({} if root is None else {"root": root})}
    if takes and "root" not in given:
        raise DataError(
            f"the data set '{name}' needs to know where it lies: --set dataset_arguments.root=PATH, in "
            'Python dataset_arguments={"root": "PATH"} (data check: --root PATH)'
        )
    return DATASETS[name](split=split, **given)


def available(name: str, arguments: Mapping[str, Any] | None = None) -> bool:
    """Tell whether `load_dataset` would find train and val of `name`; a miniature can always be drawn."""
    check_choice("data set", name, DATASETS)
    if name in MINIATURES:
        return True
    try:
        return all(load_dataset(name, split, arguments=arguments) for split in ("train", "val"))
    except DataError:
        return False
