"""Schematic drawings: a page measured in inches, rounded arrows, small text, and how wide a text is."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.textpath import TextPath

from nnti.figures.style import DARK, bare_page

__all__ = ["LINE", "SIDE", "canvas", "draw_arrow", "text_width", "tint", "write"]

LABEL_FONT = 7  # points
LINE = 0.118  # inches from one line of text to the next
SIDE = 0.08  # inches at the page's left and right
ROUND = 0.07  # inches, a corner's radius

Point = tuple[float, float]


def canvas(width: float, height: float, top: float, title: str, below: float = 0.0) -> tuple[Figure, Axes]:
    """Return a figure with one invisible panel whose units are inches: x from 0 to `width`, y from `top` downwards.

    The title's strip above and the `below` inches under the panel come on top of `height`.
    """
    figure, above = bare_page(height, title, below)
    figure.set_figwidth(width + 2 * SIDE)
    total = figure.get_figheight()
    axes = figure.add_axes((0, below / total, 1, (total - below - above) / total))
    axes.set(xlim=(-SIDE, width + SIDE), ylim=(top - height, top))
    axes.set_axis_off()
    return figure, axes


def draw_arrow(axes: Axes, points: Sequence[Point], color: str = DARK, head: bool = True, **options) -> None:
    """Draw a line through points, its corners rounded, with an arrow's head at the end."""
    style = {"arrowstyle": "-|>" if head else "-", "mutation_scale": 6, "linewidth": 0.9, "zorder": 3}
    axes.add_patch(FancyArrowPatch(path=_rounded(points), color=color, **style, **options))


def write(axes: Axes, x: float, y: float, text: str, **options) -> Text:
    """Write in the small font of labels."""
    return axes.text(x, y, text, **{"fontsize": LABEL_FONT, "linespacing": 1.02, **options})


def text_width(text: str) -> float:
    """Return the width of a label's longest line in inches."""
    lines = [line for line in text.splitlines() if line.strip()]
    return max((TextPath((0, 0), line, size=LABEL_FONT).get_extents().x1 for line in lines), default=0.0) / 72


def tint(color: str, white: float) -> tuple[float, ...]:
    """Mix a colour with white; `white` is its share, 0 … 1."""
    return tuple((1 - white) * part + white for part in to_rgb(color))


def _rounded(points: Sequence[Point]) -> Path:
    vertices, codes = [points[0]], [Path.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        vertices += [_towards(corner, before), corner, _towards(corner, after)]
        codes += [Path.LINETO, Path.CURVE3, Path.CURVE3]
    return Path([*vertices, points[-1]], [*codes, Path.LINETO])


def _towards(point: Point, other: Point) -> Point:
    """Go from a point towards another by a corner's radius, or half the way if that is less."""
    distance = ((other[0] - point[0]) ** 2 + (other[1] - point[1]) ** 2) ** 0.5
    share = min(0.5, ROUND / distance) if distance else 0.0
    return point[0] + share * (other[0] - point[0]), point[1] + share * (other[1] - point[1])
