"""Cityscapes: street scenes from 50 cities, 2048 × 1024, 19 classes, 2975 train, 500 val and 1525 test images.

Cordts et al., "The Cityscapes Dataset for Semantic Urban Scene Understanding", CVPR 2016. About 20,000 further images,
`train_extra`, have coarse labels only. Names, colours and groups of the classes, and which of the label ids in the
files becomes which class, come from the authors' own table, `cityscapesscripts.helpers.labels`.
"""

import os
from pathlib import Path

import numpy as np
import torch
from cityscapesscripts.helpers.labels import labels as LABELS
from numpy.typing import ArrayLike

from nnti.data.base import IGNORE_INDEX, SegmentationDataset, check_choice, find_root
from nnti.data.images import read_index_png
from nnti.errors import DataError, permissions_explained
from nnti.folders import data_roots

__all__ = ["Cityscapes", "count_files", "find_split", "to_label_ids", "to_train_ids"]


File = tuple[str, str]  # image and label, as text: to make Path objects of 40,000 files would be most of the work

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
PLACES = ("", "cityscapes", "Cityscapes")
# where an archive lands: in the folder itself, or in one of the archive's name
UNPACKED = {
    IMAGES: ("leftImg8bit", "leftImg8bit_trainvaltest/leftImg8bit", "leftImg8bit_trainextra/leftImg8bit"),
    FINE: ("gtFine", "gtFine_trainvaltest/gtFine"),
    COARSE: ("gtCoarse", "gtCoarse/gtCoarse"),
}
IMAGE_ENDINGS = ("_leftImg8bit.png", "_leftImg8bit.jpg")  # as published; as re-encoded to save space
ENCODINGS = ("labelIds", "labelTrainIds")  # as published; as converted with csCreateTrainIdLabelImgs
RELEASES_DIFFER = 2  # train_extra was published with 20,000 and with 19,998 images: so many may lack their label

ACCOUNT = """\
Cityscapes needs an account, free of charge for research and teaching: https://www.cityscapes-dataset.com/register/"""
FIX = f"""\
{ACCOUNT}
Download it:         python -m nnti data cityscapes (drives csDownload, which asks for the account)
                     and with --coarse for gtCoarse, train_extra (gtCoarse.zip, leftImg8bit_trainextra.zip)
By hand:             put gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip into the data folder and run the same
It lies elsewhere:   set NNTI_DATA to the folder that holds leftImg8bit and gtFine (or cityscapes), or pass root=
Go on without it:    dataset="cityscapes_miniature", for example python -m nnti train pspnet_cityscapes_miniature"""
FIX_TEST = """
Only to see results: python -m nnti predict RUN IMAGES needs no labels"""

_CLASSES = sorted((label for label in LABELS if 0 <= label.trainId < IGNORE_INDEX), key=lambda label: label.trainId)
_CATEGORIES = dict(sorted((label.categoryId, label.category) for label in LABELS))
_UNKNOWN = 254  # in the tables below: there is no such number in the files' encoding

_TRAIN_ID_OF = np.full(256, _UNKNOWN, dtype=np.uint8)
for _label in LABELS:
    _TRAIN_ID_OF[_label.id % 256] = _label.trainId % 256  # −1, the licence plate's, is 255 in eight bits: void

_LABEL_ID_OF = np.full(256, _UNKNOWN, dtype=np.uint8)
_LABEL_ID_OF[: len(_CLASSES)] = [label.id for label in _CLASSES]
_LABEL_ID_OF[IGNORE_INDEX] = 0  # "unlabeled"

_STORED_TRAIN_IDS = np.arange(256, dtype=np.uint8)  # other values stay, for `check_label` to refuse
_STORED_TRAIN_IDS[254] = IGNORE_INDEX  # some converters keep licence plates, −1, apart from the other void


class Cityscapes(SegmentationDataset):
    """One split of Cityscapes, in the order of city and name.

    Fine labels: "train", "val", "trainval" (both, in this order) and "test", whose published labels are void
    everywhere. Coarse labels: "train_extra", and of the fine splits' images "train_coarse" and "val_coarse".

    `root` is the folder with leftImg8bit and gtFine, or one above it; None searches `nnti.folders.data_roots()`. Images
    and labels are looked for one by one, so that archives may be unpacked apart from each other.
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
            self.title = "Cityscapes miniature (rendered)"
        super().__init__(folder, split, [pair for part in SPLITS[split] for pair in _pairs(*part, root)])

    def read_label(self, path: Path) -> torch.Tensor:
        """Read one file of label ids, or of train ids, as class numbers: uint8 (H, W)."""
        stored = read_index_png(path)
        if path.stem.endswith("_labelTrainIds"):
            return torch.from_numpy(_STORED_TRAIN_IDS[stored])
        try:
            return torch.from_numpy(to_train_ids(stored))
        except ValueError as error:
            raise DataError(f"{path}: {error}; if the file was converted, restore the original") from None


def to_train_ids(label_ids: ArrayLike) -> np.ndarray:
    """Turn label ids (0 to 33, and −1 or 255 for the licence plate) into class numbers, uint8, void 255.

    Raises ValueError for other numbers.
    """
    return _look_up(_TRAIN_ID_OF, np.asarray(label_ids), "label ids of Cityscapes, which are 0 to 33")


def to_label_ids(train_ids: ArrayLike) -> np.ndarray:
    """Turn class numbers into the label ids that the benchmark's server expects, uint8; void becomes 0, "unlabeled".

    Raises ValueError for other numbers.
    """
    return _look_up(_LABEL_ID_OF, np.asarray(train_ids), "classes of Cityscapes, which are 0 to 18 and 255 for void")


def find_split(part: str, folder: str, root: str | Path | None = None) -> Path:
    """Return the folder of cities of one part, for example ("gtFine", "val"), at or below `root` (None: data roots).

    Raises DataError with the fix.
    """
    roots = data_roots() if root is None else [Path(root).expanduser()]
    layouts = [f"{place}/{unpacked}".lstrip("/") for place in PLACES for unpacked in UNPACKED[part]]
    fix = FIX + FIX_TEST if (part, folder) == (FINE, "test") else FIX
    return find_root(f"Cityscapes: {part}/{folder}", roots, layouts, (folder,), fix) / folder


def count_files(folder: Path, part: str) -> int:
    """Return how many images of a split's folder (as `find_split` returns it) have a file of `part`."""
    return sum(len(_listing(folder / city, part)) for city in _cities(folder))


def _pairs(part: str, split: str, root: str | Path | None) -> list[File]:
    """Return the (image, label) files of one part of a split; raise DataError if images have no label."""
    images, labels = find_split(IMAGES, split, root), find_split(part, split, root)
    pairs, bare = [], []
    for city in _cities(images):
        here, there = images / city, labels / city
        known = _listing(there, part)
        for name, file in sorted(_listing(here, IMAGES).items()):
            if name in known:
                pairs.append((os.path.join(here, file), os.path.join(there, known[name])))
            else:
                bare.append(f"{city}/{name}")
    if not pairs and not bare:
        raise DataError(f"{images} holds no images CITY/NAME{IMAGE_ENDINGS[0]}; delete the empty folder.\n{FIX}")
    if len(bare) > (RELEASES_DIFFER if split == "train_extra" and pairs else 0):
        raise DataError(_without_label(bare, labels, part))
    return pairs


def _without_label(bare: list[str], labels: Path, part: str) -> str:
    archive = {FINE: "gtFine_trainvaltest.zip", COARSE: "gtCoarse.zip"}[part]
    first = ", ".join(bare[:3]) + (", …" if len(bare) > 3 else "")
    return (
        f"{len(bare)} images have no label file CITY/NAME_{part}_labelIds.png (or _labelTrainIds.png) in {labels}: "
        f"{first}. Unpack {archive} again, or remove these images" + (FIX_TEST if labels.name == "test" else "")
    )


def _cities(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_dir() and not entry.name.startswith("."))


def _listing(folder: Path, part: str) -> dict[str, str]:
    """Return {name of the image: file} of a city's images or labels, preferring what is published; empty if absent."""
    endings = IMAGE_ENDINGS if part == IMAGES else [f"_{part}_{encoding}.png" for encoding in ENCODINGS]
    try:
        files = [file for file in os.listdir(folder) if not file.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    return {file.removesuffix(end): file for end in reversed(endings) for file in files if file.endswith(end)}


def _look_up(table: np.ndarray, values: np.ndarray, what: str) -> np.ndarray:
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"values of type {values.dtype} are not {what}")
    outside = values.size > 0 and (values.min() < -1 or values.max() > 255)
    found = None if outside else table[values]  # −1 is the last entry, 255
    if found is None or (found == _UNKNOWN).any():
        wrong = [value for value in np.unique(values).tolist() if not -1 <= value <= 255 or table[value] == _UNKNOWN]
        raise ValueError(f"{wrong} are not {what}")
    return found
