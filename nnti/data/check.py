"""Read every file of a data set and report every fault at once."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nnti.data import DATASETS, MINIATURES, DataError, SegmentationDataset, load_dataset
from nnti.data.base import check_choice, check_sizes, read_image
from nnti.errors import FaultyFiles
from nnti.progress import progress_bar

NEEDED = ("train", "val")
HELD_OUT = ("val", "test")  # an image shared with `train` would make every result look better
MOST_THREADS = 8  # more would crowd a network drive


@dataclass
class Checked:
    """What `check_dataset` found.

    Attributes:
        title: the data set's. samples: {split: number of images}.
        absent: {split: reason} of the missing splits. faults: one text each.
        unseen: classes without a pixel in the labels of `train`; empty if there are faults.
    """

    title: str
    samples: dict[str, int] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)


def check_dataset(
    name: str, root: str | Path | None = None, progress: bool = True, arguments: Mapping[str, Any] | None = None
) -> Checked:
    """Read all images and labels of all splits of a data set (a key of `nnti.data.DATASETS`), each file once.

    `root` and `arguments` are those of `nnti.data.load_dataset`. Raises DataError if no split can be opened.
    """
    check_choice("data set", name, DATASETS)
    found, opened = Checked(name), {}
    for split in NEEDED if name in MINIATURES else DATASETS[name].splits:
        try:
            opened[split] = load_dataset(name, split, root, arguments)
        except FaultyFiles as error:
            found.faults += error.faults
            if error.rest is not None:
                opened[split] = error.rest
        except DataError as error:
            if split in NEEDED:
                found.faults.append(str(error))
            else:
                found.absent[split] = _in_one_line(error)
    found.faults = list(dict.fromkeys(found.faults))  # some are reported once per split
    if not opened:
        raise DataError("\n".join(found.faults))
    found.title = next(iter(opened.values())).title
    found.samples = {split: len(dataset) for split, dataset in opened.items()}
    seen, digests = set(), {}
    for image, faults, classes, digest in _inspected(opened, progress):
        found.faults += faults
        seen |= classes
        digests[image] = digest
    found.faults += _shared(opened, digests)
    if "train" in opened and not found.faults:  # unreadable files may hold any class
        found.unseen = [name for number, name in enumerate(opened["train"].class_names) if number not in seen]
    return found


def _in_one_line(error: DataError) -> str:
    """Return why a split is missing: what is denied or incomplete, else what was searched."""
    first, *others = str(error).splitlines()
    reasons = [line for line in others if " may not be read" in line or " is incomplete" in line]
    return next(iter(reasons), first.removesuffix(". Looked in"))


def _shared(opened: dict[str, SegmentationDataset], digests: dict[Path, bytes | None]) -> Iterator[str]:
    """Report images used for both training and validation, by name (some data sets have a folder per split) or content.

    `digests`: image → digest of its pixels, None if it cannot be read.
    """
    train = [image for image, _ in opened["train"].files] if "train" in opened else []
    names = {opened["train"].image_name(image) for image in train}
    learned = {digests[image]: image for image in train if digests[image] is not None}
    for split in (split for split in HELD_OUT if split in opened):
        for image, _ in opened[split].files:
            if opened[split].image_name(image) in names:
                yield f"{image} is in the split '{split}' and in 'train' as well: remove it from one of them"
            elif digests[image] in learned:
                other = learned[digests[image]]
                yield f"{image} of the split '{split}' has the same pixels as {other} of 'train': remove one of them"


def _inspected(opened: dict[str, SegmentationDataset], progress: bool) -> Iterator[tuple]:
    """Yield (image file, faults, classes in its label if it is an image of `train`, digest) for every pair of files."""
    tasks = {pair: (dataset, split) for split, dataset in reversed(opened.items()) for pair in dataset.files}
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        found = pool.map(_inspect, tasks.items())
        yield from progress_bar(found, total=len(tasks), unit="img", desc="checking", disable=not progress)


def _inspect(task: tuple) -> tuple[Path, list[str], set[int], bytes | None]:
    """Read an image and its label; a fault in one does not hide a fault in the other."""
    (image_path, label_path), (dataset, split) = task
    faults: list[str] = []
    image = _noted(faults, read_image, image_path)
    label = _noted(faults, dataset.read_label, label_path)
    if label is not None:
        _noted(faults, dataset.check_label, label, label_path)
        if image is not None:
            _noted(faults, check_sizes, image, label, image_path, label_path)
    learned = label is not None and split == "train"
    classes = set(label.flatten().bincount().nonzero().flatten().tolist()) if learned else set()
    digest = None if image is None else hashlib.blake2b(image.permute(1, 2, 0).numpy(), digest_size=16).digest()
    return image_path, faults, classes, digest


def _noted(faults: list[str], read: Callable, *arguments) -> torch.Tensor | None:
    """Call `read`; after a DataError, add it to `faults` and return None."""
    try:
        return read(*arguments)
    except DataError as error:
        faults.append(str(error))
        return None
