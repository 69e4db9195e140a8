"""Base class of all data sets: a list of (image file, label file), read as uint8 tensors at their own size."""

import codecs
import difflib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch

from nnti.data.files import read_image, read_index_png
from nnti.errors import DataError, denied
from nnti.progress import progress_bar

IGNORE_INDEX = 255  # the label of void pixels in every data set, whatever the files use
MOST_THREADS = 8  # that read files: more would crowd a network drive
NOTED = 3  # names that are shown of what was passed over


class FilePairs(Sequence[tuple[Path, Path]]):
    """A list of (image, label) paths that takes hardly more memory than the file names.

    A list of `Path` objects would take many times as much, grow with use, and be copied, page by page, into every
    process that reads it.
    """

    def __init__(self, pairs: Iterable[tuple[str | Path, str | Path]]):
        numbers: dict[str, int] = {}  # folder → its position in `_folders`
        entries = [(*_split(image, numbers), *_split(label, numbers)) for image, label in pairs]
        image, label = (max((len(entry[part]) for entry in entries), default=1) for part in (1, 3))  # longest names
        columns = [("image_folder", "u4"), ("image", f"S{image}"), ("label_folder", "u4"), ("label", f"S{label}")]
        self._folders = [Path(folder) for folder in numbers]
        self._entries = np.array(entries, dtype=columns)

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int | slice) -> "tuple[Path, Path] | FilePairs":
        if isinstance(index, slice):
            return FilePairs(self[at] for at in range(*index.indices(len(self))))
        image_folder, image, label_folder, label = self._entries[index]
        return self._folders[image_folder] / os.fsdecode(image), self._folders[label_folder] / os.fsdecode(label)


def _split(path: str | Path, numbers: dict[str, int]) -> tuple[int, bytes]:
    """Return the number of a path's folder, adding it to `numbers` if it is new, and the file's name."""
    folder, name = os.path.split(path)
    return numbers.setdefault(folder, len(numbers)), os.fsencode(name)


class SegmentationDataset(torch.utils.data.Dataset):
    """One split of a data set.

    A sample is `(image, label)`: a uint8 tensor (3, H, W) in RGB and a uint8 tensor (H, W) with values
    0 … num_classes − 1 or 255 for void, both at the image's own size.

    Subclasses give the (image, label) paths and, where the stored label values are not the class numbers, override
    `read_label`. `files` is that list; another one can be assigned, for example a part of it.

    Attributes:
        label_values: what the files hold for each class.
        notes: what was passed over, a text each.
    """

    name = ""  # key in `nnti.data.DATASETS`
    title = ""  # name in figures and tables
    class_names: Sequence[str] = ()
    palette: np.ndarray  # (num_classes, 3) uint8, RGB: the colours that the data set's authors use
    void_color = (224, 224, 192)
    decoded = None  # a copy of all samples; see `nnti.data.attach_cache`
    encoding = ""  # what `read_label` depends on besides the files; a decoded copy is renewed when it changes
    arguments: Sequence[str] = ()  # what an experiment's `dataset_arguments` may hold
    notes: Sequence[str] = ()
    one_class_advice = "Label a second class, or take another split or more images (train_limit)"

    def __init__(self, root: Path, split: str, files: Iterable[tuple[str | Path, str | Path]]):
        self.root, self.split, self.files = Path(root), split, files
        if not self.files:
            raise DataError(f"{self.title}: split '{split}' in {root} is empty; check its list file")
        self.label_values = list(range(self.num_classes))

    @property
    def files(self) -> FilePairs:
        """The (image, label) paths."""
        return self._files

    @files.setter
    def files(self, pairs: Iterable[tuple[str | Path, str | Path]]) -> None:
        self._files = pairs if isinstance(pairs, FilePairs) else FilePairs(pairs)
        self.decoded = self.counted = None  # they belonged to the old list

    @property
    def num_classes(self) -> int:
        """Number of classes, void not counted."""
        return len(self.class_names)

    @property
    def cache(self) -> str:
        """Where samples are read from: "disk" or "ram" for a decoded copy, "none" for the files themselves."""
        return "none" if self.decoded is None else self.decoded.kind

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return self.read(index) if self.decoded is None else self.decoded[index]

    def read(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Read a sample from its files, whether or not a decoded copy is there."""
        image_path, label_path = self.files[index]
        image, label = read_image(image_path), self.read_label(label_path)
        check_sizes(image, label, image_path, label_path)
        self.check_label(label, label_path)
        return image, label

    def label(self, index: int) -> torch.Tensor:
        """Read the label of a sample, uint8 (H, W), without its image."""
        if self.decoded is not None:
            return self.decoded[index][1]
        path = self.files[index][1]
        label = self.read_label(path)
        self.check_label(label, path)
        return label

    def image_name(self, path: Path) -> str:
        """Return the name of an image in results, unique in its split."""
        return path.stem

    def read_label(self, path: Path) -> torch.Tensor:
        """Read one label file as class numbers: uint8 (H, W)."""
        return torch.from_numpy(read_index_png(path))

    def check_together(self) -> list[str]:
        """Return notes on the label files of all splits; raise DataError if they contradict each other."""
        return []

    def check_label(self, label: torch.Tensor, path: Path) -> None:
        """Raise DataError, naming the file, if a label is neither a class nor void."""
        values = torch.bincount(label.flatten(), minlength=256).nonzero().flatten().tolist()
        wrong = [value for value in values if value >= self.num_classes and value != IGNORE_INDEX]
        if wrong:
            raise DataError(
                f"{path} holds label values {wrong}; {self.title} has classes 0 to {self.num_classes - 1} "
                f"and {IGNORE_INDEX} for void. Restore the original file"
            )


def check_sizes(image: torch.Tensor, label: torch.Tensor, image_path: Path, label_path: Path) -> None:
    """Raise DataError if an image (3, H, W) and its label (H, W) differ in size."""
    (height, width), (label_height, label_width) = image.shape[1:], label.shape
    if (height, width) != (label_height, label_width):
        raise DataError(
            f"{image_path} is {width} × {height} pixels but its label {label_path} is {label_width} × {label_height}: "
            "one of them was resized or belongs to another picture; restore the originals"
        )


def read_list(path: Path, blanks: bool = False) -> list[str]:
    """Read a list file (UTF-8): one entry a line, in order; spaces at the ends and CRLF do not matter.

    Blank lines do not either; with `blanks`, those before the last entry are entries.
    """
    try:
        content = Path(path).read_bytes()
        wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
        text = content.decode("utf-16" if wide else "utf-8-sig")
        if "\0" in text:
            raise ValueError("it holds zero bytes, as UTF-16 does")
    except FileNotFoundError:
        raise DataError(f"the list {path} is missing; unpack the data set again") from None
    except PermissionError:
        raise denied(path) from None
    except OSError as error:
        raise DataError(f"the list {path} cannot be read ({error}); copy it again") from error
    except ValueError as error:
        raise DataError(
            f"{path} is not UTF-8 text ({error}). Save it as UTF-8: in an editor under Save as, Encoding; in Excel as "
            "CSV UTF-8"
        ) from error
    return [line.strip() for line in text.rstrip().splitlines() if blanks or line.strip()]


def files_below(folder: str | Path, above: Sequence[str] = ()) -> Iterator[str]:
    """Yield the paths of all files below a folder and in linked folders, sorted, without hidden ones.

    `above`: the folders around this one; a link back to one of them is not followed.
    """
    real = os.path.realpath(folder)
    if real in above:
        return
    with os.scandir(folder) as entries:
        seen = sorted((entry for entry in entries if not entry.name.startswith(".")), key=lambda entry: entry.name)
    for entry in seen:
        if entry.is_dir():
            yield from files_below(entry.path, (*above, real))
        else:
            yield entry.path


def passed_over(names: Sequence[str], why: str) -> list[str]:
    """Return a text that names and counts what was passed over; nothing if that is nothing."""
    return counted(f"passed over, {why}", names)


def counted(what: str, names: Sequence[str]) -> list[str]:
    """Return a text that names the first of them and counts all; nothing if there are none."""
    shown = ", ".join(names[:NOTED]) + ", …" * (len(names) > NOTED)
    return [f"{what}: {shown} ({len(names)} in all)"] if names else []


def check_choice(what: str, choice: str, choices: Iterable[str]) -> None:
    """Raise DataError, with the nearest of `choices`, if `choice` is none of them."""
    choices = list(choices)
    if choice not in choices:
        near = difflib.get_close_matches(str(choice), choices, n=1)
        hint = f"; did you mean '{near[0]}'?" if near else ""
        raise DataError(f"{what} '{choice}' is not one of {', '.join(choices)}{hint}")


def find_root(title: str, roots: Iterable[Path], layouts: Sequence[str], needs: Sequence[str], fix: str) -> Path:
    """Return the first `root / layout` that holds all of `needs`; else raise DataError with `fix`.

    The layout "" is the root itself.
    """
    roots = list(dict.fromkeys(map(Path, roots)))
    remarks: dict[str, None] = {}  # partial matches
    for candidate in (root / layout for root in roots for layout in layouts):
        try:
            missing = [need for need in needs if not exists(candidate / need)]
        except PermissionError as error:
            remarks[str(denied(error.filename))] = None
            continue
        if not missing:
            return candidate
        if len(missing) < len(needs):
            remarks[f"{candidate} is incomplete: it lacks {', '.join(missing)}"] = None
    below = f"(each itself and below it {', '.join(filter(None, layouts))})"
    looked = [f"{title} was not found. Looked in", *(f"  {root}" for root in roots), below]
    raise DataError("\n".join([*looked, *remarks, fix]))


def exists(path: Path) -> bool:
    """Like Path.exists, but raise PermissionError in every version of Python."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def evenly_spread(length: int, limit: int | None) -> list[int]:
    """Return `limit` indices spread evenly over range(length), ascending; all of them if `limit` is None or larger."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: it must be at least 1, or None for all")
    count = length if limit is None else min(limit, length)
    return [index * length // count for index in range(count)]


def class_frequencies(dataset: SegmentationDataset, limit: int | None = None, progress: bool = True) -> np.ndarray:
    """Count the pixels of each class: int64 (num_classes,), void excluded.

    Reads labels only, and all of them only once. `limit`: count only this many images, spread evenly over the split.
    """
    if limit is None and dataset.counted is not None:
        return dataset.counted[: dataset.num_classes]
    counts, indices = np.zeros(256, np.int64), evenly_spread(len(dataset), limit)
    title = f"{dataset.title} {dataset.split}: class frequencies"
    with ThreadPoolExecutor(min(MOST_THREADS, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda index: count_values(dataset.label(index)), indices)
        for one in progress_bar(found, total=len(indices), desc=title, disable=not progress):
            counts += one
    if limit is None:
        dataset.counted = counts
    return counts[: dataset.num_classes]


def count_values(label: torch.Tensor) -> np.ndarray:
    """Count the pixels of each value of a label: int64 (256,)."""
    return torch.bincount(label.flatten(), minlength=256).numpy()
