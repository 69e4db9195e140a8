"""The list of a split's files, small enough to be kept in every process that reads them."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

__all__ = ["FilePairs"]


class FilePairs(Sequence[tuple[Path, Path]]):
    """A list of (image, label) paths that takes as much memory as the files' names.

    The names lie in one array, each folder is kept once, and a pair of paths is made when it is asked for. A list of
    `Path` objects would take about ten times as much, would grow as they are used, and would be copied into every
    process that reads them, page by page.
    """

    def __init__(self, pairs: Iterable[tuple[str | Path, str | Path]]):
        numbers: dict[str, int] = {}  # folder → its position in `_folders`
        entries = [(*_split(image, numbers), *_split(label, numbers)) for image, label in pairs]
        self._folders = [Path(folder) for folder in numbers]
        widths = [max((len(entry[part]) for entry in entries), default=1) for part in (1, 3)]
        columns = {"image_folder": "u4", "image": f"S{widths[0]}", "label_folder": "u4", "label": f"S{widths[1]}"}
        self._entries = np.array(entries, dtype=list(columns.items()))

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int | slice) -> "tuple[Path, Path] | FilePairs":
        if isinstance(index, slice):
            return FilePairs(self[at] for at in range(*index.indices(len(self))))
        image_folder, image, label_folder, label = self._entries[index]
        return self._folders[image_folder] / os.fsdecode(image), self._folders[label_folder] / os.fsdecode(label)

    def __repr__(self) -> str:
        return f"{len(self)} pairs of files" + (f", the first {self[0]}" if len(self) else "")


def _split(path: str | Path, numbers: dict[str, int]) -> tuple[int, bytes]:
    """Return the number of a path's folder, a new one if it is not among `numbers`, and its name."""
    folder, name = os.path.split(path)
    return numbers.setdefault(folder, len(numbers)), os.fsencode(name)
