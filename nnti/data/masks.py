"""What the pixels of one's own masks mean: values or colours → class numbers, with the classes' names and colours."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nnti.data.base import IGNORE_INDEX, SegmentationDataset, read_lines
from nnti.data.images import palette_of, read_colour_png, read_index_png
from nnti.errors import DataError

__all__ = ["ColourMasks", "IndexMasks", "describe_mask", "distinct_colours", "read_colours", "read_names"]


VOID = "void"  # the name that marks what is no class
COLUMNS = ("name", "red", "green", "blue")
MOST_CLASSES = IGNORE_INDEX
LISTED = 4  # colours or values that an error names
SMOOTHED = 16  # more wrong colours, or values, than these are not somebody's classes
ALIKE = 12  # distance in RGB below which two colours are one to the eye
LEVELS = (0, 43, 85, 128, 170, 213, 255)  # of red, green and blue in generated colours
SMOOTHING = (
    "So many come from JPEG compression or from smoothed edges (anti-aliasing): export the mask anew as PNG from the "
    "tool that it was drawn with, without smoothing, and resize only by nearest neighbour"
)

Row = tuple[str, tuple[int, int, int]]


class IndexMasks:
    """Masks whose values are class numbers.

    A name `void` stands for a value that is no class: the classes after it move up by one.

    Args:
        names: a name for each value 0, 1, … where: the file or argument that they come from, for errors.
        void: values that are no class either; None: 255.
        samples: some masks, of which the first with a palette gives the colours.

    Raises DataError for names and values that contradict each other or the samples.
    """

    def __init__(self, names: Sequence[str], where: str, void: Sequence[int] | None, samples: Sequence[Path]):
        values = [value for value, name in enumerate(names) if not _is_void(name)]
        self.names, self.where = tuple(names[value] for value in values), where
        _check_names(self.names, where)
        self.void = sorted({*(set(range(len(names))) - set(values)), *((IGNORE_INDEX,) if void is None else void)})
        if len(names) > 256:
            raise DataError(f"{where} has {len(names)} lines; the values of 8-bit masks end at 255")
        for value in sorted(set(values) & set(self.void)):
            raise DataError(f"{where}: the value {value} is '{names[value]}' and in void={void}; leave it out of one")
        self.known = np.isin(np.arange(256), [*values, *self.void])
        self.numbers = np.full(256, IGNORE_INDEX, dtype=np.uint8)
        self.numbers[values] = np.arange(len(values))
        if void is None and len(names) <= IGNORE_INDEX:
            _refuse_black_and_white(samples, where)
        stored = next((found for found in map(_palette, samples) if found is not None), np.empty((0, 3), np.uint8))
        usable = max(values) < len(stored) and _apart(stored[values])
        self.palette = stored[values] if usable else distinct_colours(len(values))
        own = stored[self.void[-1]] if usable and self.void and self.void[-1] < len(stored) else None
        self.void_color = SegmentationDataset.void_color if own is None else tuple(own.tolist())

    def __str__(self) -> str:
        return f"values {self.numbers.tolist()} {self.known.tolist()}"

    def read(self, path: Path) -> np.ndarray:
        """Read a mask as class numbers, uint8 (H, W); raise DataError for a value that is neither class nor void."""
        stored = read_index_png(path)
        counts = np.bincount(stored.ravel(), minlength=256)
        wrong = np.flatnonzero((counts > 0) & ~self.known)
        if len(wrong):
            shown = ", ".join(f"{value} ({counts[value]} pixels)" for value in wrong[:LISTED])
            advice = SMOOTHING if len(wrong) > SMOOTHED else f"Give each a line in {self.where}, or name it in void=[…]"
            raise DataError(
                f"{path} holds values beyond the classes: {_listed(shown, len(wrong))}. {self.where} has the values 0 "
                f"to {max(np.flatnonzero(self.numbers < IGNORE_INDEX))}, void is {self.void}. {advice}"
            )
        return self.numbers[stored]


class ColourMasks:
    """Masks whose colours are looked up in a table.

    Args:
        rows: (name, (red, green, blue)) of each class in order of class number; rows named `void` are no class.
        where: the file or argument that they come from, for errors.
    """

    def __init__(self, rows: Sequence[Row], where: str):
        classes, voids = [row for row in rows if not _is_void(row[0])], [row for row in rows if _is_void(row[0])]
        self.names, self.where = tuple(name for name, _ in classes), where
        _check_names(self.names, where)
        first: dict[tuple[int, int, int], str] = {}
        for name, colour in rows:
            if colour in first:
                raise DataError(f"{where}: '{first[colour]}' and '{name}' have the same colour {colour}; change one")
            first[colour] = name
        self.palette = np.array([colour for _, colour in classes], dtype=np.uint8)
        self.void_color = voids[0][1] if voids else SegmentationDataset.void_color
        ordered = [*classes, *voids]
        packed = _packed(np.array([colour for _, colour in ordered], dtype=np.uint8))
        numbers = np.array([*range(len(classes)), *[IGNORE_INDEX] * len(voids)], dtype=np.uint8)
        self._rows, order = ordered, np.argsort(packed)
        self._colours, self._numbers = packed[order], numbers[order]

    def __str__(self) -> str:
        return f"colours {self._rows}"

    def read(self, path: Path) -> np.ndarray:
        """Read a mask as class numbers, uint8 (H, W); raise DataError for a colour that is not in the table."""
        packed = _packed(read_colour_png(path))
        places = np.minimum(np.searchsorted(self._colours, packed), len(self._colours) - 1)
        unknown = self._colours[places] != packed
        if unknown.any():
            raise self._foreign(path, packed[unknown])
        return self._numbers[places]

    def _foreign(self, path: Path, packed: np.ndarray) -> DataError:
        values, counts = np.unique(packed, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        shown = ", ".join(self._described(values[at], counts[at]) for at in order[:LISTED])
        advice = SMOOTHING if len(values) > SMOOTHED else (
            "Give each a row (a second one named void is allowed), or paint these pixels in a colour of the table"
        )  # fmt: skip
        if max(_unpacked(values[-1])) < len(self._rows):  # values of an index mask look like nearly black colours
            advice += f". If the masks hold class numbers, remove {self.where} and put the names into classes.txt"
        return DataError(
            f"{path} holds colours that {self.where} does not have: {_listed(shown, len(values))}. {advice}"
        )

    def _described(self, packed: int, count: int) -> str:
        colour = _unpacked(packed)
        name, near = min(self._rows, key=lambda row: sum((a - b) ** 2 for a, b in zip(row[1], colour, strict=True)))
        return f"{colour} in {count} pixels (nearest: {name} {near})"


def read_names(names: Path | Iterable[str]) -> list[str]:
    """Return one name for each value of index masks, from a text file (a line each) or a list."""
    if not isinstance(names, Path):
        if isinstance(names, str) or not all(isinstance(name, str) and name.strip() for name in names):
            raise DataError(f"classes={names!r}: it must be a list of names in the order of class numbers")
        return [name.strip() for name in names]
    lines = read_lines(names)
    while lines and not lines[-1]:
        lines.pop()
    if "" in lines:
        raise DataError(
            f"{names}: line {lines.index('') + 1} is empty, but each line stands for a value, beginning with 0; remove "
            "it, or write void for a value that is no class"
        )
    return lines


def read_colours(table: Path | Any) -> list[Row]:
    """Return (name, (red, green, blue)) for each row of a colour table.

    `table` is a CSV file with the columns name, red, green, blue, a DataFrame with these columns, a list of
    (name, red, green, blue), or {name: (red, green, blue)}.
    """
    if isinstance(table, Path):
        return [_row(row, f"{table}, line {line}") for line, row in _csv_rows(table)]
    if isinstance(table, Mapping):
        rows = [
            (name, *colour) if isinstance(colour, list | tuple) else (name, colour) for name, colour in table.items()
        ]
    elif hasattr(table, "columns"):  # a DataFrame
        lacking = [name for name in COLUMNS if name not in table.columns]
        if lacking:
            raise DataError(f"colours: the table lacks {', '.join(lacking)}; it must have {', '.join(COLUMNS)}")
        rows = table[list(COLUMNS)].to_numpy().tolist()
    elif isinstance(table, list | tuple):
        rows = table
    else:
        raise DataError(f"colours={table!r}: it must be a list of (name, red, green, blue), or {{name: (r, g, b)}}")
    return [_row(row, f"colours, row {number}") for number, row in enumerate(rows, 1)]


def describe_mask(path: Path) -> str:
    """Return what a mask holds, in words, for a user who has yet to write down what that means."""
    try:
        return f"{path} holds the values {', '.join(map(str, np.unique(read_index_png(path))))}"
    except DataError:
        values = np.unique(_packed(read_colour_png(path)))
        shown = ", ".join(str(_unpacked(value)) for value in values[:SMOOTHED])
        return f"{path} holds the colours {_listed(shown, len(values), SMOOTHED)}"


def distinct_colours(count: int) -> np.ndarray:
    """Return colours that are told apart at a glance, uint8 (count, 3): each the one farthest from all before it.

    The distance is Riemersma's ("Colour metric", compuphase.com, 2008), in whole numbers: the same on every machine.
    """
    grid = np.stack(np.meshgrid(LEVELS, LEVELS, LEVELS, indexing="ij"), axis=-1).reshape(-1, 3)
    nearest = _difference(grid, np.array(SegmentationDataset.void_color))
    chosen = []
    for _ in range(count):
        chosen.append(grid[nearest.argmax()])
        nearest = np.minimum(nearest, _difference(grid, chosen[-1]))
    return np.array(chosen, dtype=np.uint8)


def _difference(colours: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Return 512 × the squared distances of colours (n, 3) to another one, weighted as the eye does."""
    twice_red = colours[:, 0] + other[0]
    weights = np.stack([1024 + twice_red, np.full(len(colours), 2048), 1534 - twice_red], axis=1)
    return (weights * (colours - other) ** 2).sum(axis=1)


def _is_void(name: str) -> bool:
    return name.casefold() == VOID


def _check_names(names: Sequence[str], where: str) -> None:
    if not names:
        raise DataError(f"{where} names no class; write one a line, in the order of class numbers")
    if len(names) > MOST_CLASSES:
        raise DataError(f"{where} has {len(names)} classes; {MOST_CLASSES} are the most that labels of 8 bits can tell")
    first: dict[str, int] = {}
    for number, name in enumerate(names):
        if name in first:
            raise DataError(f"{where}: classes {first[name]} and {number} are both called '{name}'; rename one of them")
        first[name] = number


def _csv_rows(path: Path) -> list[tuple[int, list[str]]]:
    """Return (line, cells) of each row below the heading, cells in the order of `COLUMNS`; ';' will do as well."""
    lines = read_lines(path)
    heading = lines[0] if lines else ""
    delimiter = next((sign for sign in ";\t" if sign in heading), ",")
    rows = [
        (line, [cell.strip() for cell in row]) for line, row in enumerate(csv.reader(lines, delimiter=delimiter), 1)
    ]
    columns = [name.casefold() for name in rows[0][1]] if rows else []
    if sorted(columns) != sorted(COLUMNS):
        raise DataError(f"{path}: its first line is '{heading}', and must be {','.join(COLUMNS)}")
    found = []
    for line, cells in rows[1:]:
        if any(cells):
            if len(cells) != len(COLUMNS):
                raise DataError(f"{path}, line {line} has {len(cells)} cells, and must have {len(COLUMNS)}")
            found.append((line, [cells[columns.index(name)] for name in COLUMNS]))
    return found


def _row(row: Any, where: str) -> Row:
    try:
        name, *colour = row
        numbers = tuple(int(part) for part in colour)
        whole = all(number == float(part) for number, part in zip(numbers, colour, strict=True))
    except (TypeError, ValueError):
        whole, name, numbers = False, None, ()
    if not whole or len(numbers) != 3 or not all(0 <= number <= 255 for number in numbers):
        raise DataError(f"{where} is {row!r}, and must be a name and whole numbers 0 … 255 for red, green and blue")
    if not isinstance(name, str) or not name.strip():
        raise DataError(f"{where}: the name is {name!r}; write the class's name, or void")
    return name.strip(), numbers


def _refuse_black_and_white(samples: Sequence[Path], where: str) -> None:
    """White would be void: a network would learn nothing of the class that was painted, and nobody would notice."""
    found = [values for values in map(_values, samples) if values is not None]
    if found and all(values <= {0, IGNORE_INDEX} for values in found) and any(IGNORE_INDEX in one for one in found):
        raise DataError(
            f"{samples[0]} and others hold 0 and 255 alone, and 255 means void. If white is a class, write a "
            f"colours.csv instead of {where}: the lines {','.join(COLUMNS)}, background,0,0,0 and object,255,255,255. "
            "If it is void, say so: void=[255]"
        )


def _values(path: Path) -> set[int] | None:
    try:
        return set(np.unique(read_index_png(path)).tolist())
    except DataError:
        return None  # told when it is read


def _palette(path: Path) -> np.ndarray | None:
    try:
        return palette_of(path)
    except DataError:
        return None


def _apart(colours: np.ndarray) -> bool:
    """Tell whether all colours differ to the eye: many tools write a palette of greys that nobody has chosen."""
    steps = colours[:, None].astype(int) - colours
    distances = (steps**2).sum(axis=-1) + np.eye(len(colours), dtype=int) * ALIKE**2
    return bool(distances.min() >= ALIKE**2)


def _packed(colours: np.ndarray) -> np.ndarray:
    """Return colours (…, 3) as one number each, int32 (…)."""
    wide = colours.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _unpacked(packed: int) -> tuple[int, int, int]:
    return int(packed) >> 16, int(packed) >> 8 & 255, int(packed) & 255


def _listed(shown: str, count: int, most: int = LISTED) -> str:
    return shown if count <= most else f"{shown} and {count - most} more"
