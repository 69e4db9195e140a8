"""PASCAL VOC 2012 segmentation and its extension `train_aug`.

VOC: Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010; 1464 train and 1449 val images.
SBD: Hariharan et al., "Semantic Contours from Inverse Detectors", ICCV 2011; labels for 11,355 images of VOC 2011.
`train_aug` is VOC train ∪ SBD without every VOC val image, 10,582 images, computed here rather than read from a list.
"""

import os
from pathlib import Path

import numpy as np
import torch
from scipy.io import loadmat

from nnti.data.base import SegmentationDataset, check_choice, find_root, read_list
from nnti.errors import DataError, denied, permissions_explained
from nnti.folders import data_roots

LAYOUTS = (
    "",
    "VOCdevkit/VOC2012",
    "VOC2012",
    "voc/VOCdevkit/VOC2012",
    "voc/VOC2012",
    "VOCtrainval_11-May-2012/VOCdevkit/VOC2012",
    "VOC2012_train_val/VOC2012_train_val",
    "VOC2012_train_val",
)
SBD_LAYOUTS = [place + inside for place in ("", "sbd/", "SBD/") for inside in ("", "benchmark_RELEASE/dataset")]
MASKS, LISTS = "SegmentationClass", "ImageSets/Segmentation"

VOC_FIX = """\
Download it:         python -m nnti data voc
It lies elsewhere:   set NNTI_DATA to the folder that holds VOCdevkit (or VOC2012), or pass root=
Continue without:    dataset="voc_miniature", on the command line: python -m nnti train enet_voc_miniature"""
SBD_FIX = """\
Download it:         python -m nnti data sbd
It lies elsewhere:   set NNTI_DATA to the folder that holds benchmark_RELEASE (or sbd), or put a ready
                     SegmentationClassAug/ into {voc}
Continue without:    split "train" (1464 images)"""


def voc_colormap(count: int) -> np.ndarray:
    """Return VOC's official colours, uint8 (count, 3).

    The bits of a class number, lowest first, are dealt in turn to R, G and B, whose bits fill from the top down.
    """
    numbers = np.arange(count)[:, None]
    bits = sum((numbers >> (3 * level + np.arange(3)) & 1) << (7 - level) for level in range(8))
    return bits.astype(np.uint8)


class VOC(SegmentationDataset):
    """One split of PASCAL VOC 2012: "train", "val", "trainval", or "train_aug" with SBD's labels.

    `root` is the folder VOC2012 or one above it; None searches `nnti.folders.data_roots()`.
    Raises DataError, with the fix, when the data is missing.
    """

    name = "voc"
    title = "PASCAL VOC 2012"
    splits = ("train", "val", "trainval", "train_aug")
    class_names = (
        "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
        "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
    )  # fmt: skip
    palette = voc_colormap(21)

    @permissions_explained()
    def __init__(self, split: str = "train", root: str | Path | None = None):
        check_choice(f"{self.title}: split", split, self.splits)
        folder = find_voc(root)
        if (folder / "miniature.json").exists():
            self.title = "VOC miniature (drawn)"
        files = _train_aug_files(folder, root) if split == "train_aug" else _voc_files(folder, split)
        super().__init__(folder, split, files)

    def read_label(self, path: Path) -> torch.Tensor:
        """Read a palette PNG, or one of SBD's .mat files, as class numbers: uint8 (H, W)."""
        return torch.from_numpy(read_sbd_label(path)) if path.suffix == ".mat" else super().read_label(path)


def find_voc(root: str | Path | None = None) -> Path:
    """Return the folder VOC2012 at or below `root` (None: below the data roots); raise DataError with the fix."""
    return find_root(VOC.title, data_roots(root), LAYOUTS, ("JPEGImages", MASKS, LISTS), VOC_FIX)


def find_sbd(*roots: Path, voc: str | Path = "VOC2012") -> Path:
    """Return SBD's folder, with cls/, train.txt and val.txt, at or below one of `roots`; raise DataError if none."""
    title, needs = "SBD, which the split 'train_aug' needs,", ("cls", "train.txt", "val.txt")
    return find_root(title, roots, SBD_LAYOUTS, needs, SBD_FIX.format(voc=voc))


def read_sbd_label(path: Path) -> np.ndarray:
    """Read the class labels of one SBD file: uint8 (H, W), no void.

    The struct GTcls holds Boundaries (a sparse H × W per class), Segmentation (H × W) and CategoriesPresent.
    """
    try:
        with open(path, "rb") as file:
            label = loadmat(file)["GTcls"][0]["Segmentation"][0]
        return np.ascontiguousarray(label, dtype=np.uint8)
    except FileNotFoundError:
        raise DataError(f"{path} is missing; unpack SBD again: python -m nnti data sbd") from None
    except PermissionError:
        raise denied(path) from None
    except Exception as error:  # scipy raises many kinds for damaged files
        raise DataError(f"{path} is not a label file of SBD ({error!r}); copy or download it again") from error


def _voc_files(voc: Path, split: str) -> list[tuple[Path, Path]]:
    names = read_list(voc / LISTS / f"{split}.txt")
    return [(voc / "JPEGImages" / f"{name}.jpg", voc / MASKS / f"{name}.png") for name in names]


def _train_aug_files(voc: Path, root: str | Path | None) -> list[tuple[Path, Path]]:
    """Return VOC's own files for VOC train and SBD's for the others, sorted by name."""
    files = {image.stem: (image, label) for image, label in [*_sbd_files(voc, root), *_voc_files(voc, "train")]}
    held_out = {image.stem for image, _ in _voc_files(voc, "val")}
    return [files[name] for name in sorted(files.keys() - held_out)]


def _sbd_files(voc: Path, root: str | Path | None) -> list[tuple[Path, Path]]:
    """Return all of SBD, from VOC2012/SegmentationClassAug/ if it exists, else from its .mat files."""
    images, ready = voc / "JPEGImages", voc / "SegmentationClassAug"
    if ready.is_dir():
        names = [name.removesuffix(".png") for name in os.listdir(ready) if name.endswith(".png")]
        return [(images / f"{name}.jpg", ready / f"{name}.png") for name in names]
    sbd = find_sbd(*data_roots(root), *data_roots(), voc, voc.parent, voc.parent.parent, voc=voc)
    own = sbd / "img" if (sbd / "img").is_dir() else images
    known = set(os.listdir(images))  # one listing instead of a stat per image
    files = [f"{name}.jpg" for name in read_list(sbd / "train.txt") + read_list(sbd / "val.txt")]
    return [((images if file in known else own) / file, (sbd / "cls" / file).with_suffix(".mat")) for file in files]
