"""Drawings of the networks, made from the models themselves: the output of each block, and what it reads.

A slab's height and depth follow the map's rows and columns, its width the channels. Each node has a column of its own,
parallel branches share one. Places are in inches; x grows to the right, y upwards.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch, Polygon
from matplotlib.path import Path
from matplotlib.text import Text
from torch import nn

from nnti.figures.graph import Node, model_graph, shape_text, split_name, summarize_kinds
from nnti.figures.style import DARK, RUN_COLORS, WIDTH, bare_page, draw_legend, legend_height, styled, text_width

LABEL_FONT = 7  # points
LINE = 0.118  # inches from one line of text to the next
SIDE = 0.08  # inches at the page's left and right
TALL, TALL_U, SHORT = 1.5, 1.05, 0.05  # height of the largest map, the same in a U, and of the smallest
DEPTH = 0.13  # inches that a slab goes back per inch of width that its map has
CHANNELS = 0.026  # inches of width per doubling of the channels
GAP, BUS_GAP = 0.06, 0.17  # between neighbours; the same where the arrows of several branches run between them
STEP = 0.3  # least distance of two columns' slabs
BELOW, CLEAR, BETWEEN = 0.1, 0.11, 0.17  # from branch to branch, from a slab up to an arc over it, from arc to arc
LONG_NAME = 9  # letters from which on a name is broken before its number
GREY, SKIP = "#b3b3b3", "#8c4a00"  # of blocks without a stage; of skips
DASHED = (0, (3, 1.5))
NOTE = "height, depth: √ of the map's rows and columns; width: log of its channels"

Point = tuple[float, float]


@styled
def architecture_figure(model: nn.Module, title: str, size: tuple[int, int] = (512, 512)) -> Figure:
    """Draw a model's blocks, from image to output, with the size of what each gives for an image of `size` (H, W).

    Everything shown comes from the model: sizes are traced, arrows are those that `model.blocks()` declares. Equal
    blocks in a row share a slab; below the drawing stands what each block is. The model stays as it was, and nothing is
    computed.
    """
    nodes = model_graph(model, size)
    layout = arrange(nodes, WIDTH - 2 * SIDE)
    stages = dict.fromkeys(node.stage for node in nodes if node.stage)
    colors = {stage: RUN_COLORS[number % len(RUN_COLORS)] for number, stage in enumerate(stages)}
    names = {stage: f"stage {stage}" if stage.isdigit() else stage for stage in stages}
    handles = [Patch(facecolor=tint(color, 0.55), label=names[stage]) for stage, color in colors.items()]
    key = _key(nodes, layout.width)
    height = layout.height + LINE * len(key) + 0.12
    figure, axes = canvas(layout.width, height, layout.height, title, legend_height(handles) + 0.05)
    for arrow in layout.arrows:
        _draw_arrow(axes, arrow, nodes[arrow.reader].leads)
    for slab in layout.slabs:
        _draw_slab(axes, slab, colors.get(slab.node.stage, GREY))
    for row, line in enumerate(key, start=1):
        write(axes, 0, -0.06 - LINE * row, line, ha="left", va="baseline", color=DARK)
    if handles:
        draw_legend(figure, handles)
    return figure


def _key(nodes: Sequence[Node], width: float) -> list[str]:
    """Return lines that describe the blocks, nodes of the same kind together."""
    titles: dict[str, list[str]] = {}
    for node in nodes:
        if node.kinds:
            titles.setdefault(summarize_kinds(node.kinds), []).append(node.title)
    lines: list[str] = []
    for entry in (f"{', '.join(names)}: {kind}" for kind, names in titles.items()):
        longer = f"{lines[-1]}   ·   {entry}" if lines else entry
        if lines and text_width(longer, LABEL_FONT) < width - 0.1:
            lines[-1] = longer
        else:
            lines.append(entry)
    return [*lines, NOTE if all(node.leads for node in nodes) else f"{NOTE}; dashed: in training only"]


# placing


@dataclass
class Slab:
    """A node's place: (x, y) is the middle of its front, which is `width` by `height`; `back` to the right and up."""

    node: Node
    label: str
    width: float
    height: float
    back: float
    x: float = 0.0
    y: float = 0.0

    @property
    def boxes(self) -> list[tuple[float, float, float, float]]:
        """Return the rectangles of the slab and of its label: left, right, bottom, top."""
        low, half = self.y - self.height / 2, text_width(self.label, LABEL_FONT) / 2
        label = (self.x - half, self.x + half, low - self.under, low)
        return [(self.x - self.width / 2, self.face, low, self.y + self.over), label]

    @property
    def over(self) -> float:
        """Return the inches from the middle up to the upper edge."""
        return self.height / 2 + self.back

    @property
    def under(self) -> float:
        """Return the inches that the label takes below the front."""
        return LINE * len(self.label.splitlines()) + 0.04

    @property
    def face(self) -> float:
        """Return the x at which arrows leave: the far edge of the side."""
        return self.x + self.width / 2 + self.back

    @property
    def ports(self) -> tuple[Point, Point]:
        """Return the two points of the upper face where arrows come in and go out."""
        middle, y = self.x + self.back / 2, self.y + self.over - self.back / 2
        return (middle - self.width / 4, y), (middle + self.width / 4, y)


@dataclass
class Arrow:
    """A line from node `source` to node `reader` through `points`; a skip has the text of what it carries."""

    source: int
    reader: int
    points: list[Point]
    text: str = ""


class Layout(NamedTuple):
    """Everything that an architecture figure shows; labels end at y = 0 or above."""

    slabs: list[Slab]
    arrows: list[Arrow]
    width: float
    height: float


def arrange(nodes: Sequence[Node], width: float) -> Layout:
    """Place nodes and arrows on a page `width` inches wide; the layout is wider only where labels need it."""
    is_u = _is_u(nodes)
    slabs = [_slab(node, nodes, TALL_U if is_u else TALL) for node in nodes]
    (_lanes if is_u else _stacks)(slabs)
    low = min(box[2] for slab in slabs for box in slab.boxes)
    for slab in slabs:
        slab.y -= low
    width = max(width, _columns(slabs, width))
    arrows = [*_flow(slabs, is_u), *_arcs(slabs)]
    tops = [slab.y + slab.over for slab in slabs] + [y for arrow in arrows for _, y in arrow.points]
    return Layout(slabs, arrows, width, max(tops) + BETWEEN / 2)


def _slab(node: Node, nodes: Sequence[Node], tall: float) -> Slab:
    unit = tall / max(max(other.shape[1:]) for other in nodes) ** 0.5
    channels, rows, columns = node.shape
    height, across = max(SHORT, unit * rows**0.5), max(SHORT, unit * columns**0.5)
    return Slab(node, _label(node), CHANNELS * (1 + np.log2(channels)), height, DEPTH * across)


def _label(node: Node) -> str:
    beginning, number = split_name(node.title)
    lines = [beginning, number] if number and len(node.title) > LONG_NAME else [node.title]
    if len(node.names) > 1:
        lines.append(f"{len(node.names)} blocks")
    return "\n".join([*lines, f"{node.shape[0]}×", shape_text(node.shape[1:])])


def _is_u(nodes: Sequence[Node]) -> bool:
    """Tell whether all skips join maps of one size in a model without branches: then the drawing is a U.

    Each size gets a line of its own, on which a skip runs level. Otherwise all nodes stand on one line.
    """
    skips = _skips(nodes)
    same_size = all(nodes[source].shape[1:] == nodes[reader].shape[1:] for source, reader in skips)
    return bool(skips) and same_size and len({node.column for node in nodes}) == len(nodes)


def _skips(nodes: Sequence[Node]) -> list[tuple[int, int]]:
    """Return (source, reader) of all arrows that pass a column, short ones first."""
    pairs = [(source, at) for at, node in enumerate(nodes) for source in node.reads]
    spans = {(source, at): nodes[at].column - nodes[source].column for source, at in pairs}
    return sorted((pair for pair in pairs if spans[pair] > 1), key=spans.get)


def _lanes(slabs: Sequence[Slab]) -> None:
    """Set y: a line per map size, the largest on top; labels reach down beside the next line's slabs."""
    y, before = 0.0, None
    for size in sorted({slab.node.shape[1] for slab in slabs}, reverse=True):
        here = [slab for slab in slabs if slab.node.shape[1] == size]
        if before:
            y -= before.height / 2 + CLEAR + BETWEEN + here[0].over
        for slab in here:
            slab.y = y
        before = here[0]


def _stacks(slabs: Sequence[Slab]) -> None:
    """Set y: branches that the output depends on around the axis, others, such as auxiliary heads, below them."""
    for column in {slab.node.column for slab in slabs}:
        here = sorted((slab for slab in slabs if slab.node.column == column), key=lambda slab: not slab.node.leads)
        heights = [slab.over + slab.height / 2 + slab.under + BELOW for slab in here if slab.node.leads]
        top = sum(heights) / 2 if len(heights) > 1 else here[0].over
        for slab in here:
            slab.y = top - slab.over
            top -= slab.over + slab.height / 2 + slab.under + BELOW


def _columns(slabs: Sequence[Slab], width: float) -> float:
    """Set x, as close as labels and slabs allow, then share out what is left of `width`; return the width needed."""
    last = max(slab.node.column for slab in slabs)
    columns = [[slab for slab in slabs if slab.node.column == at] for at in range(last + 1)]
    for at, here in enumerate(columns):
        gap = BUS_GAP if max(len(here), len(columns[at - 1])) > 1 else GAP
        placed = [other for column in columns[:at] for other in column]
        x = max((_least(slab, other, gap) for other in placed for slab in here), default=0.0)
        for slab in here:
            slab.x = x
    edges = [edge for slab in slabs for box in slab.boxes for edge in box[:2]]
    need = max(edges) - min(edges)
    more = max(0.0, width - need) / last
    for slab in slabs:
        slab.x += more * slab.node.column - min(edges)
    return need


def _least(slab: Slab, other: Slab, gap: float) -> float:
    """Return the least x of a slab, now at 0, right of another: `gap` or more between what stands side by side."""
    pairs = [(left, right) for left in other.boxes for right in slab.boxes if left[2] < right[3] and right[2] < left[3]]
    return max([other.x + STEP, *(left[1] + gap - right[0] for left, right in pairs)])


def _flow(slabs: Sequence[Slab], is_u: bool) -> Iterable[Arrow]:
    """Yield the arrows from column to column: level, along the U, or by a bus between the columns."""
    for at, reader in enumerate(slabs):
        for source in (source for source in reader.node.reads if reader.node.column - slabs[source].node.column == 1):
            start, end = (slabs[source].face, slabs[source].y), (reader.x - reader.width / 2, reader.y)
            if abs(start[1] - end[1]) < 1e-6:
                points = [start, end]
            elif is_u and end[1] < start[1]:
                into = reader.ports[0]
                points = [start, (into[0], start[1]), into]
            elif is_u:
                out = slabs[source].ports[1]
                points = [out, (out[0], end[1]), end]
            else:
                bus = (max(box[1] for box in slabs[source].boxes) + min(box[0] for box in reader.boxes)) / 2
                points = [start, (bus, start[1]), (bus, end[1]), end]
            yield Arrow(source, at, points)


def _arcs(slabs: Sequence[Slab]) -> list[Arrow]:
    """Return the skips: up from the source, over all that stands between, shorter skips too, and down to the reader."""
    arcs: list[Arrow] = []
    for source, reader in _skips([slab.node for slab in slabs]):
        (left, low), (right, end) = slabs[source].ports[1], slabs[reader].ports[0]
        y = CLEAR + max(slab.y + slab.over for slab in slabs if slabs[source].x <= slab.x <= slabs[reader].x)
        crossed = [arc.points[1:3] for arc in arcs]
        for height in sorted(start[1] for start, stop in crossed if start[0] < right and left < stop[0]):
            if abs(height - y) < BETWEEN - 1e-6:
                y = height + BETWEEN
        points = [(left, low), (left, y), (right, y), (right, end)]
        arcs.append(Arrow(source, reader, points, slabs[reader].node.reads[source]))
    return arcs


# drawing


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
    """Draw a line through points, with an arrow's head at the end."""
    style = {"arrowstyle": "-|>" if head else "-", "mutation_scale": 6, "linewidth": 0.9, "zorder": 3}
    axes.add_patch(FancyArrowPatch(path=Path(points), color=color, **style, **options))


def write(axes: Axes, x: float, y: float, text: str, **options) -> Text:
    """Write in the small font of labels."""
    return axes.text(x, y, text, **{"fontsize": LABEL_FONT, "linespacing": 1.02, **options})


def tint(color: str, white: float) -> tuple[float, ...]:
    """Mix a colour with white; `white` is its share, 0 … 1."""
    return tuple((1 - white) * part + white for part in to_rgb(color))


def _draw_slab(axes: Axes, slab: Slab, color: str) -> None:
    left, right = slab.x - slab.width / 2, slab.x + slab.width / 2
    low, high, back = slab.y - slab.height / 2, slab.y + slab.height / 2, slab.back
    top = [(left, high), (right, high), (right + back, high + back), (left + back, high + back)]
    side = [(right, low), (right + back, low + back), (right + back, high + back), (right, high)]
    front = [(left, low), (right, low), (right, high), (left, high)]
    style = {"edgecolor": DARK, "linewidth": 0.5, "linestyle": "-" if slab.node.leads else DASHED, "zorder": 2}
    for corners, white in ((top, 0.75), (side, 0.3), (front, 0.55)):
        axes.add_patch(Polygon(corners, facecolor=tint(color, white), joinstyle="round", **style))
    write(axes, slab.x, low - 0.05, slab.label, ha="center", va="top")


def _draw_arrow(axes: Axes, arrow: Arrow, leads: bool) -> None:
    color = SKIP if arrow.text else DARK
    draw_arrow(axes, arrow.points, color=color, linestyle="-" if leads else DASHED)
    if arrow.text:
        (left, y), (right, _) = arrow.points[1:3]
        text = write(axes, (left + right) / 2, y, arrow.text, ha="center", va="center", color=color, zorder=4)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
