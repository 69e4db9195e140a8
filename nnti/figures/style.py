"""Shared style of all figures: page, fonts, colours, legend, and files with the same bytes every time.

Figures are made for a page whose text is 16 cm wide: 7.1 inches shrink to that by a ninth, so 8 pt prints as 7 pt.
Every place is given in inches, so that nothing has to be measured while a figure is drawn. Nothing goes through
pyplot's list of open figures: a notebook shows each figure once, and none has to be closed.
"""

import functools
import io
import textwrap
import unicodedata
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, findSystemFonts, fontManager, get_font
from matplotlib.text import Text
from matplotlib.textpath import text_to_path

from nnti.folders import figures_dir, write_whole

WIDTH = 7.1  # inches
FONT, TITLE_FONT = 8, 9.5  # points
TITLE_LETTERS = 92  # of a title's line
LEGEND_ENTRY, LEGEND_LINE = 0.5, 0.172  # inches: what an entry needs beside its name, from one line to the next
DPI = 200  # of a PNG
DARK, PALE = "#333333", "#d9d9d9"

STYLE = {
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "legend.fontsize": FONT,
    "figure.titlesize": TITLE_FONT,
    "axes.titley": 1.0,
    "axes.edgecolor": DARK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.5,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.major.size": 2.5,
    "ytick.major.size": 2.5,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,  # a name with $ is drawn as it is; formulas of our own say parse_math=True
    "pdf.fonttype": 42,  # letters stay text that can be searched and copied
}

# Okabe and Ito's colours, which readers with any kind of colour vision tell apart; yellow is too pale on white
RUN_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
RUN_LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (3, 1)))
RUN_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
RUN_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\")

# neither a date nor a version of matplotlib: the same figure gives the same bytes
METADATA = {"png": {"Software": None}, "pdf": dict.fromkeys(("Creator", "Producer", "CreationDate"))}


EAST_ASIAN = ("CJK", "HIRAGANA", "KATAKANA", "HANGUL")  # how Unicode's names of their letters begin
_TOLD: set[str] = set()  # letters without a font that a warning has named


class Page(Figure):
    """A figure that notebooks show by itself, whatever matplotlib backend they chose, or none."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        _write(self, buffer, format="png", dpi=110)
        return buffer.getvalue()


def styled(function: Callable[..., Figure]) -> Callable[..., Figure]:
    """Make `function` draw in this module's style and leave matplotlib's settings as they were."""

    @functools.wraps(function)
    def draw(*arguments, **options) -> Figure:
        with matplotlib.rc_context(STYLE):
            return function(*arguments, **options)

    return draw


def run_style(number: int) -> dict:
    """Return colour, line style and marker of the run at position `number`; any one of them tells the runs apart."""
    return {
        "color": RUN_COLORS[number % len(RUN_COLORS)],
        "linestyle": RUN_LINES[number % len(RUN_LINES)],
        "marker": RUN_MARKERS[number % len(RUN_MARKERS)],
        "markersize": 3.2,
        "linewidth": 1.2,
    }


def page(
    height: float,
    title: str,
    rows: int = 1,
    columns: int = 1,
    below: float = 0.0,
    left: float = 0.4,
    low: float = 0.42,
    high: float = 0.2,
) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with a grid of panels, and the panels in reading order.

    Args:
        height: of the whole grid, in inches. The title's strip above and `below` come on top of it.
        below: inches under the panels, for a legend.
        left, low, high: inches around each panel for tick labels and names of axes, and above it for its title.
    """
    figure, above = bare_page(height, title, below)
    total, width, tall = above + height + below, (WIDTH - 0.12) / columns, height / rows
    size = ((width - left - 0.04) / WIDTH, (tall - low - high) / total)
    corners = [
        ((column * width + left) / WIDTH, (below + (rows - 1 - row) * tall + low) / total)
        for row in range(rows)
        for column in range(columns)
    ]
    return figure, [figure.add_axes((*corner, *size)) for corner in corners]


def bare_page(height: float, title: str, below: float = 0.0) -> tuple[Figure, float]:
    """Return an empty figure with a title, and the inches that the title takes; `height` and `below` as in `page`."""
    lines = [part for line in title.splitlines() for part in _wrap(line)]
    above = 0.12 + 0.17 * len(lines)
    total = above + height + below
    figure = Page(figsize=(WIDTH, total))
    figure.suptitle("\n".join(lines), y=1 - 0.05 / total, verticalalignment="top")
    return figure, above


def _wrap(line: str) -> list[str]:
    """Break a line that is wider than the page into lines of about equal length."""
    lines = -(-len(line) // TITLE_LETTERS)
    return textwrap.wrap(line, len(line) // lines + 8) if lines > 1 else [line]


@functools.cache
def text_width(text: str, size: float = FONT) -> float:
    """Return the width of a text's longest line in inches; `size` in points."""
    font = FontProperties(family=fonts_for(text)[0], size=size)
    with warnings.catch_warnings(action="ignore"):  # of letters without a font: `_write` warns
        widths = [text_to_path.get_text_width_height_descent(line, font, ismath=False)[0] for line in text.splitlines()]
    return max(widths, default=0.0) / 72


@functools.cache
def fonts_for(text: str) -> tuple[list[str], set[str]]:
    """Return the families to draw a text in, and the letters that no installed font has.

    They are DejaVu Sans, which comes with matplotlib, and installed ones for letters that it lacks.
    """
    families = ["DejaVu Sans"]
    missing = set(filter(str.isprintable, text)) - _letters(findfont("DejaVu Sans"))
    if missing:
        for path in set(findSystemFonts()) - {font.fname for font in fontManager.ttflist}:  # newer than its list
            with suppress(Exception):  # many kinds; it takes outlines only
                fontManager.addfont(path)
    for font in sorted(fontManager.ttflist, key=lambda font: (font.weight != 400, font.style != "normal", font.name)):
        if not missing:
            break
        if "Last Resort" not in font.name and missing & _letters(font.fname):  # that one has boxes for everything
            families.append(font.name)
            missing = missing - _letters(font.fname)
    return families, missing


@functools.cache
def _letters(font: str) -> set[str]:
    return set(map(chr, get_font(font).get_charmap()))


def legend_height(handles: Sequence[Artist]) -> float:
    """Return the inches that `draw_legend` needs."""
    return 0.08 + LEGEND_LINE * -(-len(handles) // _legend_columns(handles))


def draw_legend(figure: Figure, handles: Sequence[Artist], bottom: float = 0.0) -> None:
    """Draw one legend for the whole figure, `bottom` inches above its lower edge."""
    figure.legend(
        handles=list(handles),
        loc="lower center",
        bbox_to_anchor=(0.5, bottom / figure.get_figheight()),
        ncols=_legend_columns(handles),
        borderaxespad=0.2,
        borderpad=0.2,
        columnspacing=1.4,
        handlelength=2.2,
    )


def _legend_columns(handles: Sequence[Artist]) -> int:
    """Return how many columns fit the page, or fewer if that leaves as many rows."""
    widths = [LEGEND_ENTRY + text_width(handle.get_label()) for handle in handles]
    fitting = [n for n in range(1, len(widths) + 1) if sum(max(part) for part in np.array_split(widths, n)) <= WIDTH]
    rows = -(-len(widths) // max(fitting, default=1))
    return max(1, -(-len(widths) // max(1, rows)))


def folder_for(title: str) -> Path:
    """Return where figures of a data set go, by its title: those of a miniature are kept apart from real results."""
    return figures_dir() / "miniature" if "miniature" in title else figures_dir()


def save(figure: Figure, name: str, folder: str | Path | None = None) -> list[Path]:
    """Write `name`.png (200 dots per inch) and `name`.pdf (vector) and return their paths.

    `folder` is made if needed; None is `nnti.folders.figures_dir()`.
    """
    folder, paths = figures_dir() if folder is None else Path(folder), []
    for kind, metadata in METADATA.items():
        paths.append(folder / f"{name}.{kind}")
        write_whole(paths[-1], functools.partial(_write, figure, format=kind, dpi=DPI, metadata=metadata))
    return paths


def _write(figure: Figure, file: BinaryIO, **options: Any) -> None:
    """Render a figure in fonts that have its letters; warn, once, of letters that none has."""
    texts = figure.findobj(Text)
    families, missing = fonts_for("".join(sorted(set("".join(text.get_text() for text in texts)))))
    if missing - _TOLD:
        _TOLD.update(missing)
        eastern = [unicodedata.name(letter, "").startswith(EAST_ASIAN) for letter in missing]
        packages = ["fonts-noto-cjk"] * any(eastern) + ["fonts-noto-core"] * (not all(eastern))
        warnings.warn(
            f"no installed font has {' '.join(sorted(missing))}: figures show boxes instead. Install one, for example "
            f"on Ubuntu: sudo apt install {' '.join(packages)}",
            stacklevel=2,
        )
    for text in texts:
        text.set_fontfamily(families)
    with matplotlib.rc_context(STYLE), warnings.catch_warnings():  # some settings are read only here
        warnings.filterwarnings("ignore", "Glyph")  # matplotlib's own, for each letter that no font has
        figure.savefig(file, **options)


def keep(figure: Figure, name: str, folder: str | Path | None = None) -> Figure:
    """Write a figure as `save` does and return it, so that a notebook's cell can end with this call and show it."""
    save(figure, name, folder)
    return figure
