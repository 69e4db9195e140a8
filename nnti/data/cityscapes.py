"""Cityscapes: street scenes from 50 cities, 2048 × 1024, 19 classes, 2975 train, 500 val and 1525 test images.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016. About 20,000 further images,
`train_extra`, have coarse labels only. Class names, colours and groups, and the mapping of label ids to classes, come
from the authors' own table, `cityscapesscripts.helpers.labels`.
"""

import os
from pathlib import Path

import numpy as np
import torch
from cityscapesscripts.helpers.labels import labels as LABELS
from numpy.typing import ArrayLike

from nnti.data.base import IGNORE_INDEX, SegmentationDataset, check_choice, find_root, passed_over
from nnti.data.files import read_index_png
from nnti.errors import DataError, permissions_explained
from nnti.folders import data_roots

IMAGES, FINE, COARSE = "leftImg8bit", "gtFine", "gtCoarse"
# split → (labels, folder) of its parts
SPLITS = {
    "train": [(FINE, "train")],
    "val": [(FINE, "val")],
    "trainval": [(FINE, "train"), (FINE, "val")],
    "test": [(FINE, "test")],
    "train_coarse": [(COARSE, "train")],
    "val_coarse": [(COARSE, "val")],
    "train_extra": [(COARSE, "train_extra")],
}
PLACES = ("", "cityscapes/", "Cityscapes/")
# where an archive is unpacked: in the folder itself, or in one named after the archive
UNPACKED = {
    IMAGES: ("leftImg8bit", "leftImg8bit_trainvaltest/leftImg8bit", "leftImg8bit_trainextra/leftImg8bit"),
    FINE: ("gtFine", "gtFine_trainvaltest/gtFine"),
    COARSE: ("gtCoarse", "gtCoarse/gtCoarse"),
}
# the published form comes last: images may be re-encoded, labels be train ids
ENDINGS = {
    IMAGES: ("_leftImg8bit.jpg", "_leftImg8bit.png"),
    FINE: ("_gtFine_labelTrainIds.png", "_gtFine_labelIds.png"),
    COARSE: ("_gtCoarse_labelTrainIds.png", "_gtCoarse_labelIds.png"),
}
RELEASES_DIFFER = 2  # train_extra was published with 20,000 and with 19,998 images, so two may lack their label

ACCOUNT = """\
Cityscapes needs an account, free of charge for research and teaching: https://www.cityscapes-dataset.com/register/"""
FIX = f"""\
{ACCOUNT}
Download it:         python -m nnti data cityscapes (uses csDownload, which asks for the account)
                     and with --coarse for gtCoarse, train_extra (gtCoarse.zip, leftImg8bit_trainextra.zip)
By hand:             put gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip into the data folder, run it again
It lies elsewhere:   set NNTI_DATA to the folder that holds leftImg8bit and gtFine (or cityscapes), or pass root=
Continue without:    dataset="cityscapes_miniature", for example python -m nnti train pspnet_cityscapes_miniature"""
FIX_TEST = """
Only to see results: python -m nnti predict RUN IMAGES needs no labels"""

_CLASSES = sorted((label for label in LABELS if 0 <= label.trainId < IGNORE_INDEX), key=lambda label: label.trainId)
_CATEGORIES = dict(sorted((label.categoryId, label.category) for label in LABELS))

# unknown values stay unchanged, for `check_label` to refuse
_FROM_LABEL_IDS = np.arange(256, dtype=np.uint8)
for _label in LABELS:
    _FROM_LABEL_IDS[_label.id] = _label.trainId % 256  # both are −1 for the licence plate: 255 in eight bits, void
_FROM_TRAIN_IDS = np.arange(256, dtype=np.uint8)
_FROM_TRAIN_IDS[254] = IGNORE_INDEX  # some converters keep licence plates apart from the other void
_TO_LABEL_IDS = np.zeros(256, dtype=np.uint8)  # 0 is "unlabeled"
_TO_LABEL_IDS[: len(_CLASSES)] = [label.id for label in _CLASSES]


class Cityscapes(SegmentationDataset):
    """One split of Cityscapes, in the order of city and name.

    Fine labels: "train", "val", "trainval" (both, in this order) and "test", whose published labels are void
    everywhere. Coarse labels: "train_extra", and of the fine splits' images "train_coarse" and "val_coarse".

    `root` is the folder with leftImg8bit and gtFine, or one above it; None searches `nnti.folders.data_roots()`. Images
    and labels are searched separately, so their archives may be unpacked in different places.
    Raises DataError, with the fix, when the data is missing.
    """

    name = "cityscapes"
    title = "Cityscapes"
    splits = tuple(SPLITS)
    class_names = tuple(label.name for label in _CLASSES)
    palette = np.array([label.color for label in _CLASSES], dtype=np.uint8)
    void_color = (0, 0, 0)
    categories = tuple(_CATEGORIES.values())  # the 8 groups of classes; "void" is the first
    category_of_class = tuple(list(_CATEGORIES).index(label.categoryId) for label in _CLASSES)

    @permissions_explained()
    def __init__(self, split: str = "train", root: str | Path | None = None):
        check_choice(f"{self.title}: split", split, self.splits)
        folder = find_split(IMAGES, SPLITS[split][0][1], root).parent.parent
        if (folder / "miniature.json").exists():
            self.title = "Cityscapes miniature (drawn)"
        notes: list[str] = []
        super().__init__(folder, split, [pair for part in SPLITS[split] for pair in _pairs(*part, root, notes)])
        self.notes = notes
        if self.files[0][1].stem.endswith("_labelIds"):
            self.label_values = _TO_LABEL_IDS[: len(_CLASSES)].tolist()

    def read_label(self, path: Path) -> torch.Tensor:
        """Read one file of label ids, or of train ids, as class numbers: uint8 (H, W)."""
        table = _FROM_TRAIN_IDS if path.stem.endswith("_labelTrainIds") else _FROM_LABEL_IDS
        return torch.from_numpy(table[read_index_png(path)])


def to_label_ids(train_ids: ArrayLike) -> np.ndarray:
    """Turn class numbers into the label ids that the benchmark's server expects, uint8; void becomes 0, "unlabeled"."""
    return _TO_LABEL_IDS[np.asarray(train_ids)]


def find_split(part: str, folder: str, root: str | Path | None = None) -> Path:
    """Return the folder of cities of one part, for example ("gtFine", "val"), at or below `root` (None: data roots).

    Raises DataError with the fix.
    """
    layouts = [place + unpacked for place in PLACES for unpacked in UNPACKED[part]]
    fix = FIX + FIX_TEST if (part, folder) == (FINE, "test") else FIX
    return find_root(f"Cityscapes: {part}/{folder}", data_roots(root), layouts, (folder,), fix) / folder


def _pairs(part: str, split: str, root: str | Path | None, notes: list[str]) -> list[tuple[str, str]]:
    """Return the (image, label) files of one part of a split; raise DataError if images have no label.

    Labels without image, and the few images that a release left out, are added to `notes`.
    """
    pictures, folder = find_split(IMAGES, split, root), find_split(part, split, root)
    images, labels = _listing(pictures, IMAGES), _listing(folder, part)
    if not images:
        raise DataError(f"{pictures} holds no images CITY/NAME_leftImg8bit.png; delete the empty folder.\n{FIX}")
    pairs = [(images[name], labels[name]) for name in sorted(images) if name in labels]
    if len(images) - len(pairs) > (RELEASES_DIFFER if split == "train_extra" and pairs else 0):
        bare = sorted(f"{city}/{name}" for city, name in images.keys() - labels.keys())
        archive = {FINE: "gtFine_trainvaltest.zip", COARSE: "gtCoarse.zip"}[part]
        raise DataError(
            f"{len(bare)} images have no label file CITY/NAME_{part}_labelIds.png (or _labelTrainIds.png) in {folder}: "
            f"{', '.join(bare[:3])}{', …' * (len(bare) > 3)}. Unpack {archive} again, or remove these images"
            + (FIX_TEST if split == "test" else "")
        )
    for one, other, there, lacking in ((images, labels, folder, "label"), (labels, images, pictures, "image")):
        notes += passed_over(sorted("/".join(name) for name in one.keys() - other.keys()), f"no {lacking} in {there}")
    return pairs


def _listing(folder: Path, part: str) -> dict[tuple[str, str], str]:
    """Return {(city, name of the image): file} of a split's images or labels, listing each folder once.

    Paths are text: making a Path of each of 40,000 names takes time.
    """
    found = {}
    with os.scandir(folder) as entries:
        cities = [entry for entry in entries if entry.is_dir() and not entry.name.startswith(".")]
    for city in cities:
        files = [file for file in os.listdir(city.path) if not file.startswith(".")]
        for ending in ENDINGS[part]:
            for file in files:
                if file.endswith(ending):
                    found[city.name, file.removesuffix(ending)] = os.path.join(city.path, file)
    return found
