"""The lists that name the classes of your own data: names a line, or a table of names and colours."""

import csv
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nnti.data.base import IGNORE_INDEX, read_list
from nnti.errors import DataError

COLUMNS = ("name", "red", "green", "blue")
NUMBERED = re.compile(r"(\d+)(?:\s*[\t,;:=]|\s+\S)|.*[\t,;:=]\s*(\d+)$")  # a line of a list with numbers
NO_CLASSES = ("name", "names", "class", "classes", "label", "labels", "__ignore__")  # a heading; LabelMe's value −1

Row = tuple[str, tuple[int, int, int]]


def read_colours(table: Path | Any) -> list[Row]:
    """Return (name, (red, green, blue)) for each row of a colour table.

    `table` is a CSV file with the columns name, red, green, blue, a labelmap.txt as CVAT exports it, a DataFrame with
    these columns, a list of (name, red, green, blue), or {name: (red, green, blue)}.
    """
    where = table if isinstance(table, Path) else "colours"
    if isinstance(table, Path):
        table = _read_csv(table) if table.suffix == ".csv" else _read_labelmap(table)
    elif isinstance(table, Mapping):
        table = [(name, *colour) for name, colour in table.items()]
    elif hasattr(table, "columns"):  # a DataFrame
        table = table.reindex(columns=list(COLUMNS)).to_numpy().tolist()
    return [_row(row, f"{where}, row {number}") for number, row in enumerate(table, 1)]


def check_list(lines: Sequence[str], where: Path) -> None:
    """Raise DataError for a list of classes with blank lines, or with a heading, numbers or comments of a program."""
    if "" in lines:
        raise DataError(
            f"line {lines.index('') + 1} of {where} is blank, and each line names a value: remove it, or give the "
            "value a name, such as unused"
        )
    others = [line for line in lines if line.casefold() in NO_CLASSES or line.startswith("#")]
    numbers = [match and int(match[1] or match[2]) for match in map(NUMBERED.match, lines)]
    if others or (lines and set(numbers) in (set(range(len(lines))), set(range(1, len(lines) + 1)))):
        found = f"numbers, as in '{lines[0]}': leave the name alone"
        if others:
            found = f"the line '{others[0]}': remove it, or rename it if it is a class"
        raise DataError(
            f"{where} has {found}. The first line names the value 0, the second 1, and so on; a "
            "value that no mask holds needs a line too, such as unused"
        )


def check_names(names: Sequence[str], where: str) -> None:
    """Raise DataError for fewer than two names, for too many, and for one that occurs twice."""
    if len(names) == 1:
        raise DataError(
            f"{where} names one class only, {names[0]}: a network needs two to tell apart, each on a line of "
            "its own. If void pixels are a class too, give them a name of their own, such as background"
        )
    if not 2 <= len(names) <= IGNORE_INDEX:
        raise DataError(f"{where} names {len(names)} classes; there must be 2 to {IGNORE_INDEX}")
    for number, name in enumerate(names):
        if (first := names.index(name)) < number:
            raise DataError(f"{where}: classes {first} and {number} are both called '{name}'; rename one of them")


def is_void(name: str) -> bool:
    """Whether a name stands for pixels that belong to no class."""
    return name.casefold() == "void"


def _read_csv(path: Path) -> list[list[str]]:
    """Return the cells of each row, in the order of `COLUMNS`."""
    lines = read_list(path)
    heading = lines[0].casefold().replace(" ", "") if lines else ""
    delimiter = next((sign for sign in ";\t" if sign in heading), ",")  # a spreadsheet's, by country
    rows = csv.DictReader([heading, *lines[1:]], delimiter=delimiter, skipinitialspace=True)
    if not set(COLUMNS) <= set(rows.fieldnames or ()):
        raise DataError(f"{path}: its first line is '{heading}', and must be {','.join(COLUMNS)}")
    return [[row[column] for column in COLUMNS] for row in rows if any(row.values())]


def _read_labelmap(path: Path) -> list[list[str]]:
    """Return the cells of each line `name:red,green,blue:parts:actions`; a name may hold colons."""
    lines = [line.rsplit(":", 3) for line in read_list(path) if not line.startswith("#")]
    return [[line[0], *line[1].split(",")] if len(line) > 1 else line for line in lines]


def _row(row: Sequence[Any], where: str) -> Row:
    try:
        name, *colour = row
        numbers = tuple(int(part) for part in colour)
        whole = list(numbers) == [float(part) for part in colour]
        if whole and len(numbers) == 3 and all(0 <= number <= 255 for number in numbers) and name.strip():
            return name.strip(), numbers
    except (TypeError, ValueError, AttributeError):
        pass
    raise DataError(f"{where} is {row!r}, and must be a name and whole numbers 0 … 255 for red, green and blue")
