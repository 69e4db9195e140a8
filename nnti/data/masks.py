"""Masks of your own data: values or colours → class numbers."""

from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from nnti.data.base import IGNORE_INDEX, MOST_THREADS, SegmentationDataset, counted
from nnti.data.class_lists import COLUMNS, Row, check_names, is_void
from nnti.data.files import ColourPicture, palette_of, read_colour_png, read_index_png
from nnti.data.voc import voc_colormap
from nnti.errors import DataError

LISTED = 4  # colours or values that an error names
SMOOTHED = 16  # more unknown colours or values than this are not forgotten classes
ALIKE = 12  # distance in RGB below which two colours look the same
ALONE = "If only this mask holds them, save it as the others are. If all do"
SMOOTHING = (
    "So many come from JPEG compression or smoothed edges (anti-aliasing): export the mask again as PNG from the tool "
    "that it was drawn with, without smoothing, and resize only by nearest neighbour"
)


class IndexMasks:
    """Masks whose values are class numbers.

    The name `void` marks a value that is not a class; the classes after it move up by one.

    Args:
        names: one for each value 0, 1, … where: the file or argument that they come from, for errors.
        void: further values that are no class; None: 255. any_palette: colours do not matter, only values.
        samples: some masks; the first one with a palette gives the colours, otherwise they are VOC's.

    Raises DataError for impossible names.
    """

    def __init__(
        self,
        names: Sequence[str],
        where: str,
        void: Collection[int] | None,
        samples: Sequence[Path],
        any_palette: bool = False,
    ):
        looked_at, self.any_palette = list(_looked_at(samples)), any_palette
        self.void_is_said = void is not None
        void = (IGNORE_INDEX,) if void is None else void
        classes = self.values = [value for value, name in enumerate(names) if not (is_void(name) or value in void)]
        self.names, self.where = tuple(names[value] for value in classes), where
        check_names(self.names, where)
        self.void = sorted({*range(len(names)), *void} - set(classes))
        self.numbers = np.full(256, -1)  # value → class number, −1 for unknown ones
        self.numbers[self.void] = IGNORE_INDEX
        self.numbers[classes] = np.arange(len(classes))
        stored = next((palette for *_, palette in looked_at if palette is not None), np.empty((0, 3), np.uint8))
        chosen = classes[-1] < len(stored) and _distinguishable(stored[classes])
        self.palette = stored[classes] if chosen else voc_colormap(len(classes))
        white = _if_white_is_a_class(where, self.names)
        self.one_class_advice = f"{SegmentationDataset.one_class_advice}. {white}"
        self.void_color = SegmentationDataset.void_color
        if chosen and self.void and self.void[-1] < len(stored):
            self.void_color = tuple(stored[self.void[-1]].tolist())

    def __str__(self) -> str:
        return f"values {self.numbers.tolist()}"

    def read(self, path: Path) -> np.ndarray:
        """Read a mask as class numbers, uint8 (H, W); raise DataError for a value that is neither class nor void."""
        try:
            stored = read_index_png(path)
        except ColourPicture:
            raise DataError(
                f"{describe_mask(path)}, and {self.where} names values. If the colours are the classes, "
                f"{_as_colours(self.where)}"
            ) from None
        counts = np.bincount(stored.ravel(), minlength=256)
        wrong = np.flatnonzero((counts > 0) & (self.numbers < 0))
        if len(wrong):
            shown = _listed([f"{value} ({counts[value]} pixels)" for value in wrong[:LISTED]], len(wrong))
            advice = SMOOTHING
            if len(wrong) <= SMOOTHED:
                void = _argument(f"void={sorted({*map(int, wrong), *self.void})}".replace(" ", ""))
                advice = f", give every value up to {wrong[-1]} a line in {self.where}, whose first line is that of 0"
                if wrong[-1] > len(self.names) + SMOOTHED:
                    grey = f"{wrong[-1]} is {','.join(3 * [str(wrong[-1])])}, and 255 needs a line as well"
                    advice = f" and they are greys, {_as_colours(self.where)}; {grey}"
                advice = f"{ALONE}{advice}. If they are void: {void}"
            raise DataError(
                f"{path} holds values beyond the classes: {shown}. {self.where} has {len(self.names)} classes, void is "
                f"{self.void}. {advice}"
            )
        return self.numbers.astype(np.uint8)[stored]

    def check_together(self, masks: Sequence[Path]) -> list[str]:
        """Return notes on masks that may mean something else than they are read as; raise DataError where they do.

        That is where 255 stands for a class rather than for void, and where masks show one class in different colours.
        """
        return [
            *([] if self.void_is_said else self._white(masks)),
            *self._one_bit(masks),
            *([] if self.any_palette else self._palettes(masks)),
        ]

    def _white(self, masks: Sequence[Path]) -> list[str]:
        """Look for 255 as a painted class: it then lies beside 0 alone, and not around a class as void does."""
        white, around, seen = [], 0, set()
        for path, values, _ in _looked_at(masks):
            seen |= values
            if IGNORE_INDEX not in values:
                continue
            if values == {0, IGNORE_INDEX}:
                white.append(path)
            elif values != {IGNORE_INDEX}:
                around += 1
        others, missing = seen - {0, IGNORE_INDEX}, sorted(set(self.values) - seen)
        foreign = any(self.numbers[value] < 0 for value in seen)  # which is a fault of its own
        if not white and (foreign or not missing or IGNORE_INDEX not in seen):
            return []
        found, advice = "255 means void", _if_white_is_a_class(self.where, self.names)
        if white:
            found = f"{len(white)} of {len(masks)} masks hold 0 and 255 alone, such as {white[0]}, and {found}"
        if missing and others:
            name = self.names[self.values.index(missing[0])]
            advice = f"If it is a class, such as {name}, which no mask holds, save it as {missing[0]}"
        elif others:
            number = min(others) if len(self.names) == 2 else "a number"
            advice = f"If it is a class, which other masks have as {number}, save it with that number there too"
        advice = f"{found}. {advice}"
        if others:  # else one class alone would remain
            advice += f". If it is void: {_argument('void=255')}"
        if len(white) > around:
            raise DataError(advice)
        return [advice]

    def _one_bit(self, masks: Sequence[Path]) -> list[str]:
        """Name masks of black and white alone among others of more classes."""
        drawn = [str(path) for path in masks if _is_one_bit(path)] if len(self.names) > 2 else []
        why = "black and white alone, unlike the others, so that white is read as 1"
        return counted(why, drawn) if len(drawn) < len(masks) else []

    def _palettes(self, masks: Sequence[Path]) -> list[str]:
        with ThreadPoolExecutor(MOST_THREADS) as pool:
            palettes = list(pool.map(_palette_in_head, masks))
        bare, notes = palettes.count(None), []
        if 0 < bare < len(masks):
            one = masks[[own is None for own in palettes].index(2 * bare < len(masks))]
            notes = [
                f"{len(masks) - bare} masks have a palette and {bare} have none ({one} is one of the fewer): values "
                "are read alike, whatever their colours"
            ]
        if len(set(palettes) - {None}) < 2:
            return notes
        shown: dict[int, tuple[np.ndarray, Path]] = {}  # value → the colour that a mask shows it in
        meant: dict[tuple[int, ...], int] = {}  # colour → the value that a mask shows in it
        for path, values, palette in _looked_at(masks):
            count = 0 if palette is None else len(palette)
            colours = {value: palette[value] for value in values - set(self.void) if value < count}
            told_apart = len({tuple(colour.tolist()) for colour in colours.values()}) == len(colours)
            for value, colour in sorted(colours.items()):
                known, first = shown.setdefault(value, (colour, path))
                same = meant.setdefault(tuple(colour.tolist()), value) == value or not told_apart
                if _distinguishable(np.stack([known, colour])) or not same:
                    raise DataError(
                        f"{path} shows the value {value} in the colour {tuple(colour.tolist())}, and {first} "
                        f"in {tuple(known.tolist())}. If the colours are right, {_as_colours(self.where)}. If the "
                        f"values are right, say that colours do not count: {_argument('colours=false')}"
                    )
        return notes


class ColourMasks:
    """Masks whose colours are looked up in a table.

    Args:
        rows: (name, (red, green, blue)) of each class in order of class number; rows named `void` are no class.
        where: the file or argument that they come from, for errors.

    Raises DataError where two rows have the same name or colour.
    """

    def __init__(self, rows: Sequence[Row], where: str):
        classes, voids = [row for row in rows if not is_void(row[0])], [row for row in rows if is_void(row[0])]
        self.names, self.where, self.rows = tuple(name for name, _ in classes), where, [*classes, *voids]
        check_names(self.names, where)
        first: dict[tuple[int, int, int], str] = {}
        for name, colour in rows:
            if colour in first:
                raise DataError(f"{where}: '{first[colour]}' and '{name}' have the same colour {colour}; change one")
            first[colour] = name
        self.values, self.one_class_advice = list(range(len(classes))), SegmentationDataset.one_class_advice
        self.palette = np.array([colour for _, colour in classes], dtype=np.uint8)
        self.void_color = voids[0][1] if voids else SegmentationDataset.void_color
        packed = _packed(np.array([colour for _, colour in self.rows]))
        order = np.argsort(packed)
        self._colours = packed[order]
        self._numbers = np.where(order < len(classes), order, IGNORE_INDEX).astype(np.uint8)

    def __str__(self) -> str:
        return f"colours {self.rows}"

    def read(self, path: Path) -> np.ndarray:
        """Read a mask as class numbers, uint8 (H, W); raise DataError for a colour that is not in the table."""
        packed = _packed(read_colour_png(path))
        places = np.minimum(np.searchsorted(self._colours, packed), len(self._colours) - 1)
        unknown = self._colours[places] != packed
        if unknown.any():
            raise self._foreign(path, packed[unknown])
        return self._numbers[places]

    def check_together(self, masks: Sequence[Path]) -> list[str]:
        """Accept all: each mask is read by its own colours."""
        return []

    def _foreign(self, path: Path, packed: np.ndarray) -> DataError:
        values, counts = np.unique(packed, return_counts=True)
        shown = []
        for at in np.argsort(-counts, kind="stable")[:LISTED]:
            colour = _unpacked(values[at])
            near = min(self.rows, key=lambda row: sum((a - b) ** 2 for a, b in zip(row[1], colour, strict=True)))
            shown.append(f"{colour} in {counts[at]} pixels (nearest: {near[0]} {near[1]})")
        advice = f"{ALONE}, give each a row (a second one named void is allowed)"
        if len(values) > SMOOTHED:
            advice = SMOOTHING
        elif max(_unpacked(values[-1])) < len(self.rows):  # values of an index mask look like nearly black colours
            advice = f"{ALONE} and they are class numbers, remove {self.where} and put the names into classes.txt"
        elif all(any(_alike(_unpacked(value), colour) for _, colour in self.rows) for value in values):
            advice = "That is nearly a colour of the table: correct its row, or paint these pixels in it"
        return DataError(
            f"{path} holds colours that {self.where} does not have: {_listed(shown, len(values))}. {advice}"
        )


def describe_mask(path: Path) -> str:
    """Describe the values or colours of a mask, for the error where no classes are given."""
    try:
        return f"{path} holds the values {', '.join(map(str, np.unique(read_index_png(path))))}"
    except DataError:
        values = np.unique(_packed(read_colour_png(path)))
        return (
            f"{path} holds the colours {_listed([str(_unpacked(value)) for value in values[:SMOOTHED]], len(values))}"
        )


def _argument(setting: str) -> str:
    """Say where a data set's argument is given."""
    return f'--set "{setting}" in data check, --set "dataset_arguments.{setting}" in train'


def _as_colours(where: str) -> str:
    return f"write a colours.csv instead of {where}: {','.join(COLUMNS)}, then a line for each class and its colour"


def _looked_at(masks: Sequence[Path]) -> Iterator[tuple[Path, set[int], np.ndarray | None]]:
    """Yield path, values and palette of readable masks; faults are reported when masks are read."""

    def look(path: Path) -> tuple[Path, set[int], np.ndarray | None] | None:
        with suppress(DataError):
            return path, set(np.unique(read_index_png(path)).tolist()), palette_of(path)

    with ThreadPoolExecutor(MOST_THREADS) as pool:
        yield from filter(None, pool.map(look, masks))


def _is_one_bit(path: Path) -> bool:
    """Whether the head of a PNG says that it is grey with one bit per sample."""
    with suppress(OSError), open(path, "rb") as file:
        return file.read(26)[24:] == b"\1\0"
    return False


def _palette_in_head(path: Path) -> bytes | None:
    """Return a file's palette without decoding its pixels; None if it has none."""
    with suppress(OSError, SyntaxError, ValueError, Image.DecompressionBombError), Image.open(path) as image:
        return image.palette.getdata()[1] if image.palette else None
    return None


def _if_white_is_a_class(where: str, names: Sequence[str]) -> str:
    black, white = names if len(names) == 2 else ("background", "object")
    return (
        f"If white is a class, write a colours.csv instead of {where}: the lines {','.join(COLUMNS)}, "
        f"{black},0,0,0 and {white},255,255,255"
    )


def _distinguishable(colours: np.ndarray) -> bool:
    """Tell whether all colours are visibly different: many tools write an arbitrary palette of greys."""
    squares = ((colours[:, None].astype(int) - colours) ** 2).sum(axis=-1)
    return bool((squares + ALIKE**2 * np.eye(len(colours)) >= ALIKE**2).all())


def _alike(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    return not _distinguishable(np.array([one, other]))


def _packed(colours: np.ndarray) -> np.ndarray:
    """Return colours (…, 3) as one number each, int32 (…)."""
    wide = colours.astype(np.int32)
    return wide[..., 0] << 16 | wide[..., 1] << 8 | wide[..., 2]


def _unpacked(packed: int) -> tuple[int, int, int]:
    return int(packed) >> 16, int(packed) >> 8 & 255, int(packed) & 255


def _listed(shown: list[str], count: int) -> str:
    return ", ".join(shown) + (f" and {count - len(shown)} more" if count > len(shown) else "")
