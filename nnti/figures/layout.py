"""Where the nodes and arrows of an architecture figure go, in inches; x grows to the right, y upwards.

A slab's height and depth follow the map's rows and columns, its width the channels. Each node has a column of its own,
parallel branches share one. Every name and size is written below its slab, which the layout leaves room for.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from nnti.figures.drawing import LINE, text_width
from nnti.figures.graph import Node, shape_text, split_name

__all__ = ["Arrow", "Layout", "Slab", "arrange"]

TALL, TALL_U, SHORT = 1.5, 1.05, 0.05  # height of the largest map, the same in a U, and of the smallest
DEPTH = 0.13  # inches that a slab goes back per inch of width that its map has
CHANNELS = 0.026  # inches of width per doubling of the channels
GAP, BUS_GAP = 0.06, 0.15  # between neighbours; the same where the arrows of several branches run between them
STEP = 0.3  # least distance of two columns' slabs
CLEAR, BETWEEN = 0.11, 0.17  # from a slab up to an arc over it, from arc to arc
LONG_NAME = 9  # letters from which on a name is broken before its number


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

    label_width: float = field(init=False)

    def __post_init__(self):
        self.label_width = text_width(self.label)

    @property
    def left(self) -> float:
        """Return the x of the leftmost edge, label included."""
        return self.x - max(self.label_width, self.width) / 2

    @property
    def right(self) -> float:
        """Return the x of the rightmost edge, label included."""
        return self.x + max(self.label_width / 2, self.width / 2 + self.back)

    @property
    def face(self) -> float:
        """Return the x at which arrows leave: the far edge of the side."""
        return self.x + self.width / 2 + self.back

    @property
    def top(self) -> float:
        """Return the y of the upper edge."""
        return self.y + self.height / 2 + self.back

    @property
    def bottom(self) -> float:
        """Return the y below the label."""
        return self.y - self.height / 2 - LINE * len(self.label.splitlines()) - 0.04

    @property
    def boxes(self) -> list[tuple[float, float, float, float]]:
        """Return the rectangles of slab and label: left and right as seen from x, bottom, top."""
        low = self.y - self.height / 2
        label = (-self.label_width / 2, self.label_width / 2, self.bottom, low)
        return [(-self.width / 2, self.width / 2 + self.back, low, self.top), label]

    @property
    def ports(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return the two points of the upper face where arrows come in and go out."""
        middle, y = self.x + self.back / 2, self.top - self.back / 2
        return (middle - self.width / 4, y), (middle + self.width / 4, y)


@dataclass
class Arrow:
    """A line from node `source` to node `reader` through `points`; a skip has the text of what it carries."""

    source: int
    reader: int
    points: list[tuple[float, float]]
    text: str = ""


@dataclass
class Layout:
    """Everything that an architecture figure shows, moved so that it begins at (0, 0)."""

    slabs: list[Slab]
    arrows: list[Arrow] = field(default_factory=list)
    width: float = 0.0
    height: float = 0.0


def arrange(nodes: Sequence[Node], width: float) -> Layout:
    """Place nodes and arrows on a page `width` inches wide; the layout is wider only where labels need it."""
    is_u = _is_u(nodes)
    for broken in (False, True):
        slabs = [_slab(node, nodes, TALL_U if is_u else TALL, broken) for node in nodes]
        (_lanes if is_u else _stacks)(slabs)
        need = _columns(slabs)
        if need <= width:
            break
    _spread(slabs, width - need)
    arrows = [*_flow(slabs, is_u), *_arcs(slabs)]
    return _framed(Layout(slabs, arrows), max(width, need))


def _slab(node: Node, nodes: Sequence[Node], tall: float, broken: bool) -> Slab:
    tallest, widest = (max(other.shape[axis] for other in nodes) for axis in (1, 2))
    channels, rows, columns = node.shape
    unit = tall / max(tallest, widest) ** 0.5
    height, across = max(SHORT, unit * rows**0.5), max(SHORT, unit * columns**0.5)
    return Slab(node, _label(node, broken), CHANNELS * (1 + np.log2(channels)), height, DEPTH * across)


def _label(node: Node, broken: bool) -> str:
    beginning, number = split_name(node.title)
    lines = [beginning, number] if number and len(node.title) > LONG_NAME else [node.title]
    if len(node.names) > 1:
        lines.append(f"{len(node.names)} blocks")
    lines += shape_text(node.shape).replace("×", "×\n", 1).split("\n") if broken else [shape_text(node.shape)]
    return "\n".join(lines + ([f"stride {node.stride}"] if _on_grid(node) else []))


def _on_grid(node: Node) -> bool:
    """Say whether a stride means something: not for the image, nor for the few cells of a pyramid's level."""
    return node.column > 0 and min(node.shape[1:]) > 6


def _is_u(nodes: Sequence[Node]) -> bool:
    """Say whether all skips join maps of one size in a model without branches: then the drawing is a U.

    Each size gets a line of its own, on which a skip runs level. Otherwise all nodes stand on one line, the axis.
    """
    if len({node.column for node in nodes}) < len(nodes):
        return False
    skips = [(nodes[source], node) for node in nodes for source in node.reads if node.column - nodes[source].column > 1]
    return bool(skips) and all(one.shape[1:] == other.shape[1:] for one, other in skips)


def _lanes(slabs: Sequence[Slab]) -> None:
    """Set y: a line per map size, the largest on top; labels reach down beside the next line's slabs."""
    levels: dict[int, list[Slab]] = {}
    for slab in sorted(slabs, key=lambda slab: -slab.node.shape[1]):
        levels.setdefault(slab.node.shape[1], []).append(slab)
    y = 0.0
    for before, level in pairwise([[], *levels.values()]):
        if before:
            y -= before[0].height / 2 + CLEAR + BETWEEN + level[0].back + level[0].height / 2
        for slab in level:
            slab.y = y


def _stacks(slabs: Sequence[Slab]) -> None:
    """Set y: branches that the output depends on around the axis, others, such as auxiliary heads, below them."""
    for column in {slab.node.column for slab in slabs}:
        here = [slab for slab in slabs if slab.node.column == column]
        main = [slab for slab in here if slab.node.leads]
        _stack(main)
        if len(main) > 1:
            shift = (main[0].top + main[-1].bottom) / 2
            for slab in main:
                slab.y -= shift
        _stack([*main[-1:], *(slab for slab in here if not slab.node.leads)])


def _stack(slabs: Sequence[Slab]) -> None:
    """Put each slab below the one before it."""
    for upper, lower in pairwise(slabs):
        lower.y = upper.bottom - 0.1 - lower.back - lower.height / 2


def _columns(slabs: Sequence[Slab]) -> float:
    """Set x, as close as labels and slabs allow; return the width in all."""
    for column in range(1 + max(slab.node.column for slab in slabs)):
        here, before = ([slab for slab in slabs if slab.node.column == at] for at in (column, column - 1))
        gap = BUS_GAP if max(len(here), len(before)) > 1 else GAP
        left = (slab for slab in slabs if slab.node.column < column)
        x = max((_least(slab, other, gap) for other in left for slab in here), default=0.0)
        for slab in here:
            slab.x = x
    left = min(slab.left for slab in slabs)
    for slab in slabs:
        slab.x -= left
    return max(slab.right for slab in slabs)


def _least(slab: Slab, other: Slab, gap: float) -> float:
    """Return the least x of a slab to the right of another, `gap` or more between what stands side by side."""
    pairs = [(left, right) for left in other.boxes for right in slab.boxes if left[2] < right[3] and right[2] < left[3]]
    return other.x + max([STEP, *(left[1] + gap - right[0] for left, right in pairs)])


def _spread(slabs: Sequence[Slab], free: float) -> None:
    """Share free width among the columns, up to a limit, and put what is left on both sides."""
    last = max(slab.node.column for slab in slabs)
    more = min(max(0.0, free) / max(1, last), 0.3)
    margin = (max(0.0, free) - more * last) / 2
    for slab in slabs:
        slab.x += margin + more * slab.node.column


def _flow(slabs: Sequence[Slab], is_u: bool) -> list[Arrow]:
    """Return the arrows from column to column."""
    arrows = []
    for at, slab in enumerate(slabs):
        for source in slab.node.reads:
            if slab.node.column - slabs[source].node.column == 1:
                points = _way(slabs[source], slab, is_u)
                arrows.append(Arrow(source, at, points))
    return arrows


def _way(source: Slab, reader: Slab, is_u: bool) -> list[tuple[float, float]]:
    """Return the corners of an arrow to the next column: level, along the U, or by a bus between the columns."""
    start, end = (source.face, source.y), (reader.x - reader.width / 2, reader.y)
    if abs(source.y - reader.y) < 1e-6:
        return [start, end]
    if is_u and reader.y < source.y:
        into = reader.ports[0]
        return [start, (into[0], source.y), into]
    if is_u:
        out = source.ports[1]
        return [out, (out[0], reader.y), end]
    bus = (source.right + reader.left) / 2
    return [start, (bus, source.y), (bus, reader.y), end]


def _arcs(slabs: Sequence[Slab]) -> list[Arrow]:
    """Return the skips: up from the source, over all that stands between, shorter skips too, and down to the reader."""
    skips = [(source, at) for at, slab in enumerate(slabs) for source in slab.node.reads]
    skips = [(a, b) for a, b in skips if slabs[b].node.column - slabs[a].node.column > 1]
    arcs: list[Arrow] = []
    for a, b in sorted(skips, key=lambda skip: slabs[skip[1]].node.column - slabs[skip[0]].node.column):
        source, reader = slabs[a], slabs[b]
        first, last = source.node.column, reader.node.column
        top = max(slab.top for slab in slabs if first <= slab.node.column <= last) + CLEAR
        (left, low), (right, end) = source.ports[1], reader.ports[0]
        y = _free_level(arcs, left, right, top)
        text = reader.node.carries[reader.node.reads.index(a)]
        arcs.append(Arrow(a, b, [(left, low), (left, y), (right, y), (right, end)], text))
    return arcs


def _free_level(arcs: Sequence[Arrow], left: float, right: float, top: float) -> float:
    """Return the least y for an arc: above those within its span, and apart from those that reach into it."""
    others = [arc.points[1:3] for arc in arcs if arc.points[1][0] < right and arc.points[2][0] > left]
    within = [y + BETWEEN for (start, y), (stop, _) in others if left <= start and stop <= right]
    y = max([top, *within])
    for height in sorted(start[1] for start, _ in others):
        if abs(height - y) < BETWEEN - 1e-6:
            y = height + BETWEEN
    return y


def _framed(layout: Layout, width: float) -> Layout:
    """Move everything so that the lowest label ends at 0, and note width and height."""
    low = min(slab.bottom for slab in layout.slabs)
    for slab in layout.slabs:
        slab.y -= low
    for arrow in layout.arrows:
        arrow.points = [(x, y - low) for x, y in arrow.points]
    highest = [slab.top for slab in layout.slabs] + [y for arrow in layout.arrows for _, y in arrow.points]
    layout.width, layout.height = width, max(highest) + BETWEEN / 2
    return layout
