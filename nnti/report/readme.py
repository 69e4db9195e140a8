"""README's tables are made from the records too: each stands between two remarks that browsers do not show."""

import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from nnti.records import RunError
from nnti.report.tables import as_markdown

__all__ = ["fill_readme", "filled"]

BLOCK = re.compile(r"(<!-- table: (\w+)(?: without (\S+))? -->\n).*?(<!-- end of table -->)", re.DOTALL)


def fill_readme(path: Path, tables: Mapping[str, pd.DataFrame]) -> list[Path]:
    """Write the tables into a Markdown file; return its path in a list if it has changed."""
    text = path.read_text(encoding="utf-8")
    new = filled(text, tables)
    if new == text:
        return []
    path.write_text(new, encoding="utf-8", newline="\n")
    return [path]


def filled(text: str, tables: Mapping[str, pd.DataFrame]) -> str:
    """Return a text in which each block `<!-- table: NAME -->` … `<!-- end of table -->` holds the table of that name.

    `<!-- table: NAME without WORD -->` leaves out the rows that contain the word.
    """

    def block(match: re.Match) -> str:
        begin, name, word, end = match.groups()
        if name not in tables:
            raise RunError(f"there is no table '{name}' for README; the report has {', '.join(tables)}")
        table = tables[name]
        if word:
            table = table[~table.apply(lambda row: row.str.contains(word, regex=False).any(), axis=1)]
        return f"{begin}\n{as_markdown(table)}\n{end}"

    return BLOCK.sub(block, text)
