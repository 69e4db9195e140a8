"""Read every file of a data set and report every fault at once; tell whether its labels can train and measure."""

import hashlib
import os
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from nnti.data import DATASETS, MINIATURES, DataError, SegmentationDataset, class_frequencies, load_dataset
from nnti.data.base import IGNORE_INDEX, MOST_THREADS, check_choice, check_sizes, counted
from nnti.data.files import Convertible, read_image
from nnti.errors import FaultyFiles
from nnti.progress import progress_bar

NEEDED = ("train", "val")
HELD_OUT = ("val", "test")  # an image shared with `train` would make every result look better


@dataclass
class Checked:
    """What `check_dataset` found.

    Attributes:
        title: the data set's. samples: {split: number of images}.
        absent: {split: reason} of the missing splits. faults: one text each.
        unseen: {split: classes without a pixel in its labels}, for train and val; empty if there are faults.
        notes: what was passed over. convert: the folder of the user's images, if `nnti.data.convert` can help them.
    """

    title: str
    samples: dict[str, int] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)
    unseen: dict[str, list[str]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    convert: Path | None = None


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
    found.notes = list(dict.fromkeys(note for dataset in opened.values() for note in dataset.notes))
    seen, digests, blank = {split: set() for split in opened}, {}, dict.fromkeys(opened, 0)
    for image, split, faults, classes, digest in _inspected(opened, progress):
        found.faults += map(str, faults)
        seen[split] |= classes
        blank[split] += not classes and not faults
        digests[image] = digest
        if any(isinstance(fault, Convertible) for fault in faults):
            found.convert = getattr(opened[split], "images", None)
    found.faults += _shared(opened, digests)
    found.notes += _twice(opened, digests)
    found.notes += [f"{count} labels of {split} are void everywhere" for split, count in blank.items() if count]
    together: list[DataError] = []
    found.notes += _noted(together, next(iter(opened.values())).check_together) or []
    found.faults += map(str, together)
    if set(NEEDED) <= set(opened) and not found.faults:  # unreadable files may hold any class
        found.faults += _degenerate(opened["train"], opened["val"], *(seen[split] for split in NEEDED))
    if "train" in opened and not found.faults:
        names = opened["train"].class_names
        found.unseen = {
            split: [name for number, name in enumerate(names) if number not in seen[split]]
            for split in NEEDED if split in opened
        }  # fmt: skip
    return found


def check_labels(train: SegmentationDataset, val: SegmentationDataset, progress: bool = True) -> None:
    """Raise DataError if these labels cannot train a network or measure it; warn of what is passed over.

    All labels are counted once, which costs nothing where there is a decoded copy.
    """
    notes = train.check_together()
    names, others = ({dataset.image_name(image) for image, _ in dataset.files} for dataset in (train, val))
    if shared := names & others:
        warnings.warn(
            f"{len(shared)} of the {len(val)} images of '{val.split}' are in '{train.split}' too: scores on them say "
            "nothing about other images",
            stacklevel=2,
        )
    learned, measured = (set(class_frequencies(data, progress=progress).nonzero()[0].tolist()) for data in (train, val))
    faults = list(_degenerate(train, val, learned, measured))
    if faults:
        raise DataError("\n".join(faults))
    for split, numbers, other in ((train, measured - learned, val), (val, learned - measured, train)):
        if numbers:
            names = ", ".join(train.class_names[number] for number in sorted(numbers))
            warnings.warn(f"never in the labels of '{split.split}', but in '{other.split}': {names}", stacklevel=2)
    for note in (*train.notes, *notes):
        warnings.warn(note, stacklevel=2)


def check_measurable(dataset: SegmentationDataset) -> None:
    """Raise DataError if all labels are void, or the masks contradict each other; warn of those that may."""
    for note in dataset.check_together():
        warnings.warn(note, stacklevel=3)
    if all(bool((dataset.label(index) == IGNORE_INDEX).all()) for index in range(len(dataset))):
        raise DataError(_all_void(dataset))


def warn_of_unmeasured(pixels: Sequence[int], dataset: SegmentationDataset, protocol: str) -> None:
    """Warn if a score rests on one class alone, or if the report protocol's crop leaves out whole classes.

    `pixels`: labelled pixels of each class that were measured.
    """
    found = [name for name, count in zip(dataset.class_names, pixels, strict=True) if count]
    there = class_frequencies(dataset, progress=False) if protocol == "report" else pixels
    cut = [name for name, count in zip(dataset.class_names, there, strict=True) if count and name not in found]
    elsewhere = ". The full protocol takes whole images: protocol=full in a training, --protocol full in evaluate"
    if cut:
        warnings.warn(
            f"in labels of '{dataset.split}', but not in the crop of the report protocol, so that its scores are "
            f"without them: {', '.join(cut)}{elsewhere}",
            stacklevel=3,
        )
    if len(found) == 1:
        warnings.warn(
            f"'{dataset.split}' shows one class only by the {protocol} protocol, {found[0]}: scores on it say nothing "
            "about the others",
            stacklevel=3,
        )


def _degenerate(
    train: SegmentationDataset, val: SegmentationDataset, learned: Collection[int], measured: Collection[int]
) -> Iterator[str]:
    """Yield why a training would mean nothing, given the class numbers that occur in the labels of both splits."""
    if len(learned) < 2:
        only = ", ".join(f"one class only, {train.class_names[number]}" for number in learned) or "no class"
        yield (
            f"the labels of '{train.split}' in {train.root} ({len(train)} images) hold {only}, beside void: a network "
            f"needs two classes to tell apart. {train.one_class_advice}"
        )
    if not measured:
        yield _all_void(val)


def _all_void(dataset: SegmentationDataset) -> str:
    return (
        f"all labels of '{dataset.split}' in {dataset.root} ({len(dataset)} images) are void, so nothing can be "
        "measured on them: add labels, or take more images (val_limit) or another split (--split in evaluate, "
        "val_split in a training)"
    )


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


def _twice(opened: dict[str, SegmentationDataset], digests: dict[Path, bytes | None]) -> list[str]:
    """Name the images of `train` whose pixels another one has too."""
    first: dict[bytes, Path] = {}
    train = [image for image, _ in opened["train"].files if digests[image]] if "train" in opened else []
    again = [
        f"{image} (as {first[digests[image]]})" for image in train if first.setdefault(digests[image], image) != image
    ]
    return counted("the same picture again in train", again)


def _inspected(opened: dict[str, SegmentationDataset], progress: bool) -> Iterator[tuple]:
    """Yield (image file, its split, faults, values in its label, digest) for every pair of files."""
    tasks = {pair: (dataset, split) for split, dataset in reversed(opened.items()) for pair in dataset.files}
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        found = pool.map(_inspect, tasks.items())
        yield from progress_bar(found, total=len(tasks), unit="img", desc="checking", disable=not progress)


def _inspect(task: tuple) -> tuple[Path, str, list[DataError], set[int], bytes | None]:
    """Read an image and its label; a fault in one does not hide a fault in the other."""
    (image_path, label_path), (dataset, split) = task
    faults: list[DataError] = []
    image = _noted(faults, read_image, image_path)
    label = _noted(faults, dataset.read_label, label_path)
    if label is not None:
        _noted(faults, dataset.check_label, label, label_path)
        if image is not None:
            _noted(faults, check_sizes, image, label, image_path, label_path)
    values = set() if label is None else set(label.flatten().bincount().nonzero().flatten().tolist())
    digest = None if image is None else hashlib.blake2b(image.permute(1, 2, 0).numpy(), digest_size=16).digest()
    return image_path, split, faults, values - {IGNORE_INDEX}, digest


def _noted(faults: list[DataError], read: Callable, *arguments) -> torch.Tensor | None:
    """Call `read`; after a DataError, add it to `faults` and return None."""
    try:
        return read(*arguments)
    except DataError as error:
        faults.append(error)
        return None
