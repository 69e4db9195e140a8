"""What all figures share: page width, fonts, colours, and strips above and below the panels for title and legend.

Figures are made for a page whose text is 16 cm wide: 7.1 inches shrink to that by a ninth, so 8 pt prints as 7 pt.
Nothing here goes through pyplot's list of open figures: a notebook shows each figure once, and none has to be closed.

Figures as files: the same figure always gives the same bytes, so that version control shows real changes only.
"""

import functools
import io
import os
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from nnti.folders import figures_dir

__all__ = [
    "Page",
    "STYLE",
    "WIDTH",
    "bare_page",
    "draw_legend",
    "folder_for",
    "legend_shape",
    "page",
    "run_style",
    "save",
    "styled",
]


WIDTH = 7.1  # inches
FONT, TITLE_FONT = 8, 9.5  # points
TITLE_LETTERS = 92  # of a title's line
LETTER, LEGEND_ENTRY = 0.066, 0.52  # inches: a letter of average width, what a legend's entry needs beside its name
DARK, PALE = "#333333", "#d9d9d9"

STYLE = {
    "font.size": FONT,
    "axes.titlesize": FONT,
    "axes.labelsize": FONT,
    "xtick.labelsize": FONT,
    "ytick.labelsize": FONT,
    "legend.fontsize": FONT,
    "figure.titlesize": TITLE_FONT,
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
    "pdf.fonttype": 42,  # letters stay text that can be searched and copied
}

# Okabe and Ito's colours, which readers with any kind of colour vision tell apart; yellow is too pale on white
RUN_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
RUN_LINES = ("-", "--", "-.", ":", (0, (6, 1, 1, 1, 1, 1)), (0, (3, 1)))
RUN_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
RUN_HATCHES = ("", "////", "....", "xxxx", "\\\\\\\\")


class Page(Figure):
    """A figure that notebooks show by itself, whatever matplotlib backend they chose, or none."""

    def _repr_png_(self) -> bytes:
        buffer = io.BytesIO()
        self.savefig(buffer, format="png", dpi=110)
        return buffer.getvalue()


def styled(function: Callable[..., Figure]) -> Callable[..., Figure]:
    """Make `function` draw in this module's style and leave matplotlib's settings as they were."""

    @functools.wraps(function)
    def draw(*arguments, **options) -> Figure:
        with plt.rc_context(STYLE):
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
    height: float, title: str, rows: int = 1, columns: int = 1, below: float = 0.0
) -> tuple[Figure, Sequence[Axes]]:
    """Return a figure with a grid of panels `height` inches high, and the panels in reading order.

    The title's strip above and the `below` inches under the panels, for a legend, come on top of `height`.
    """
    figure, above = bare_page(height, title, below)
    total = figure.get_figheight()
    figure.set_layout_engine("constrained", rect=(0, below / total, 1, 1 - (above + below) / total))
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes in panels:
        axes.tick_params(labelsize=FONT)
    return figure, panels


def bare_page(height: float, title: str, below: float = 0.0) -> tuple[Figure, float]:
    """Return an empty figure with a title, and the inches that the title takes; `height` and `below` as in `page`."""
    text = "\n".join(_wrap(line) for line in title.splitlines())
    above = 0.12 + 0.17 * len(text.splitlines())
    total = above + height + below
    figure = Page(figsize=(WIDTH, total))
    figure.suptitle(text, y=1 - 0.05 / total, verticalalignment="top").set_in_layout(False)
    return figure, above


def _wrap(line: str) -> str:
    """Break a line that is wider than the page into lines of about equal length, two at a comma or bracket if any."""
    lines = -(-len(line) // TITLE_LETTERS)
    if lines < 2:
        return line
    fitting = range(len(line) - TITLE_LETTERS - 1, TITLE_LETTERS + 1)  # empty for three lines or more
    pauses = [at for at in fitting if line[at] == " " and (line[at - 1] in ",;:" or line[at + 1 : at + 2] == "(")]
    if pauses:
        cut = min(pauses, key=lambda at: abs(2 * at - len(line)))
        return f"{line[:cut]}\n{line[cut + 1 :]}"
    return textwrap.fill(line, len(line) // lines + 8)


def legend_shape(names: Sequence[str]) -> tuple[int, float]:
    """Return the number of columns of a legend as wide as the page, and its height in inches."""
    lengths = [len(name) for name in names] or [0]
    for columns in range(len(lengths), 0, -1):
        widths = [LEGEND_ENTRY + LETTER * part.max() for part in np.array_split(lengths, columns)]
        if sum(widths) <= WIDTH:
            break
    rows = -(-len(lengths) // columns)
    columns = -(-len(lengths) // rows)  # as few columns as so many rows need: even rows
    return columns, 0.08 + 0.172 * rows


def draw_legend(figure: Figure, handles: Sequence[Artist], bottom: float = 0.0) -> None:
    """Draw one legend for the whole figure, `bottom` inches above its lower edge."""
    columns, _ = legend_shape([handle.get_label() for handle in handles])
    legend = figure.legend(
        handles=list(handles),
        loc="lower center",
        bbox_to_anchor=(0.5, bottom / figure.get_figheight()),
        ncols=columns,
        borderaxespad=0.2,
        borderpad=0.2,
        columnspacing=1.4,
        handlelength=2.2,
    )
    legend.set_in_layout(False)


# neither a date nor a version of matplotlib
METADATA = {"png": {"Software": None}, "pdf": dict.fromkeys(("Creator", "Producer", "CreationDate"))}
DPI = 200


def folder_for(title: str) -> Path:
    """Return where figures of a data set go, by its title: those of a miniature are kept apart from real results."""
    return figures_dir() / "miniature" if "miniature" in title else figures_dir()


def save(figure: Figure, name: str, folder: str | Path | None = None) -> list[Path]:
    """Write `name`.png (200 dots per inch) and `name`.pdf (vector) and return their paths.

    Args:
        figure: any matplotlib figure.
        name: file name without its ending.
        folder: made if need be; None: `nnti.folders.figures_dir()`.
    """
    folder = figures_dir() if folder is None else Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(figure, folder / f"{name}.{kind}", kind) for kind in METADATA]


def _write(figure: Figure, path: Path, kind: str) -> Path:
    """Render in memory, write beside the file's place and move it there whole."""
    buffer = io.BytesIO()
    with plt.rc_context(STYLE):  # some settings are read only when a figure is rendered
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=METADATA[kind])
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(buffer.getvalue())
    os.replace(temporary, path)
    return path
