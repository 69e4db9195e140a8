"""Schematic drawings: a page measured in inches, rounded arrows, small text, and how wide a text is.

A model as a graph of its blocks, measured on the model itself: what is drawn in an architecture figure.

Nodes stand in topological order; equal blocks that follow each other are one node.

Where the nodes and arrows of an architecture figure go, in inches; x grows to the right, y upwards.

A slab's height and depth follow the map's rows and columns, its width the channels. Each node has a column of its own,
parallel branches share one. Every name and size is written below its slab, which the layout leaves room for.

Architecture figures, drawn from the models themselves: what each block gives, and from where it reads.
"""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch, Polygon
from matplotlib.path import Path
from matplotlib.text import Text
from matplotlib.textpath import TextPath
from torch import Tensor, nn

from nnti.figures.style import DARK, RUN_COLORS, WIDTH, bare_page, draw_legend, legend_shape, styled
from nnti.models import Block, architecture_table, trace

__all__ = [
    "Arrow",
    "LINE",
    "Layout",
    "Node",
    "SIDE",
    "Slab",
    "architecture_figure",
    "arrange",
    "canvas",
    "draw_arrow",
    "join_names",
    "model_graph",
    "shape_text",
    "summarize_kinds",
    "text_width",
    "tint",
    "write",
]


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


IMAGE, OUTPUT = "image", "output"


@dataclass(frozen=True)
class Node:
    """One or several equal blocks in a row.

    Attributes:
        names, kinds: of each block; image and output have no kind. stage: theirs.
        column: length of the longest way from the image.
        shape: channels, height and width of the result. stride: input height over result height, rounded.
        reads: positions of the nodes that it reads from, in the order that the model declares.
        carries: for each of them what comes from there, as text, for example "64×128×128".
        leads: whether the model's output in eval mode depends on it; not so an auxiliary head's.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    stage: str
    shape: tuple[int, int, int]
    stride: int
    reads: tuple[int, ...] = ()
    carries: tuple[str, ...] = ()
    column: int = 0
    leads: bool = True

    @property
    def title(self) -> str:
        """Return the name, of several blocks the first and the last: "bottleneck2.1 – 2.8"."""
        first, last = self.names[0], self.names[-1]
        if first == last:
            return first
        return f"{first} – {split_name(last)[1] or last}"


def model_graph(model: nn.Module, size: tuple[int, int]) -> list[Node]:
    """Return the nodes of a model for an image of `size` (H, W): the image, the blocks, and the output if it differs.

    Nothing is computed, see `nnti.models.trace`. Raises ValueError for an input that is no block.
    """
    table, blocks = architecture_table(model, size), list(model.blocks())
    results, output = _run(model, blocks, size)
    reads = _reads(blocks)
    nodes = [Node((IMAGE,), (), "", (3, *size), 1)]
    for at, (block, row) in enumerate(zip(blocks, table.itertuples(), strict=True)):
        shape = (int(row.channels), int(row.height), int(row.width))
        carried = tuple(_carried(results, nodes, source, at + 1) for source in reads[at])
        nodes.append(Node((block.name,), (block.kind,), block.stage, shape, int(row.stride), reads[at], carried))
    last = max(results)  # an auxiliary head, which may come after it, does not run in eval mode
    if nodes[last].shape != tuple(output.shape[1:]):
        carried = (shape_text(nodes[last].shape),)
        nodes.append(Node((OUTPUT,), (), "", tuple(output.shape[1:]), 1, (last,), carried))
        last = len(nodes) - 1
    return _columns(_group(_mark_leading(nodes, last)))


def shape_text(shape: Sequence[int]) -> str:
    """Return for example "64×128×128"."""
    return "×".join(map(str, shape))


def join_names(names: Sequence[str]) -> str:
    """Return names as a list that says a repeated beginning once: "up4, 3, 2, encoder1"."""
    parts, before = [], None
    for name in names:
        beginning, end = split_name(name)
        parts.append(end if end and beginning == before else name)
        before = beginning
    return ", ".join(parts)


def split_name(name: str) -> tuple[str, str]:
    """Split a name before its first digit: ("bottleneck", "1.0"); the end is empty if there is none or a space."""
    match = re.fullmatch(r"([^\d\s]+)(\d.*)", name)
    return match.groups() if match else (name, "")


def summarize_kinds(kinds: Sequence[str]) -> str:
    """Return what is special about several blocks in one line: "2 × regular, dilated 2, 4, 2 × asymmetric 5"."""
    counts, numbers = Counter(), {}
    for kind in kinds:
        match = re.fullmatch(r"(\D+) (\d+)", kind)
        if match and sum(other.startswith(match[1]) for other in set(kinds)) > 1:
            numbers.setdefault(match[1], []).append(match[2])
            counts[match[1]] = 1
        else:
            counts[kind or "regular"] += 1
    several = len(counts) > 1  # "regular", not "4 × regular", where there is nothing else
    texts = (f"{count} × {kind}" if count > 1 and several else kind for kind, count in counts.items())
    return ", ".join(" ".join([text, ", ".join(numbers.get(text, ()))]).strip() for text in texts)


def _run(model: nn.Module, blocks: Sequence[Block], size: tuple[int, int]) -> tuple[dict[int, tuple], Tensor]:
    """Trace one image in eval mode; return what each block that ran gave, by its node's position, and the output."""
    results = {}
    hooks = [
        block.module.register_forward_hook(
            lambda _, __, output, at=at: results.update({at: output if isinstance(output, tuple) else (output,)})
        )
        for at, block in enumerate(blocks, start=1)
    ]
    try:
        return results, trace(model, size, training=False, images=1)
    finally:
        for hook in hooks:
            hook.remove()


def _reads(blocks: Sequence[Block]) -> list[tuple[int, ...]]:
    """Return for each block the positions of the nodes that it reads from; the image is node 0."""
    positions = {block.name: at for at, block in enumerate(blocks, start=1)}
    for block in blocks:
        unknown = [name for name in block.inputs if name not in positions]
        if unknown:
            raise ValueError(f"block '{block.name}' reads {unknown}; the model's blocks are {list(positions)}")
    return [tuple(positions[name] for name in block.inputs) or (at,) for at, block in enumerate(blocks)]


def _carried(results: dict[int, tuple], nodes: Sequence[Node], source: int, reader: int) -> str:
    """Say what a node hands to a reader: its first result to the next node, a second one only to those further on."""
    second = results[source][1:2] if source in results and source != reader - 1 else ()
    for tensor in second:
        name = "features" if tensor.is_floating_point() else "indices"
        return f"{name} {shape_text(tensor.shape[1:])}"
    return shape_text(nodes[source].shape)


def _mark_leading(nodes: list[Node], last: int) -> list[Node]:
    """Mark the nodes without a way to node `last`."""
    leading, open_ = set(), [last]
    while open_:
        at = open_.pop()
        leading.add(at)
        open_ += [source for source in nodes[at].reads if source not in leading]
    return [replace(node, leads=at in leading) for at, node in enumerate(nodes)]


def _group(nodes: list[Node]) -> list[Node]:
    """Make one node of blocks in a row that differ in nothing but what is special about them."""
    readers = Counter(source for node in nodes for source in node.reads)
    groups, place = [nodes[0]], [0]
    for at, node in enumerate(nodes[1:], start=1):
        head, before = groups[-1], nodes[at - 1]
        keeps_size = len(groups) > 1 and len(head.reads) == 1 and groups[head.reads[0]].shape == head.shape
        same = (node.stage, node.shape, node.reads) == (before.stage, before.shape, (at - 1,)) and node.leads
        if same and keeps_size and readers[at - 1] == 1:
            groups[-1] = replace(head, names=head.names + node.names, kinds=head.kinds + node.kinds)
        else:
            groups.append(replace(node, reads=tuple(place[source] for source in node.reads)))
        place.append(len(groups) - 1)
    return groups


def _columns(nodes: list[Node]) -> list[Node]:
    columns = []
    for node in nodes:
        columns.append(max((columns[source] + 1 for source in node.reads), default=0))
    return [replace(node, column=column) for node, column in zip(nodes, columns, strict=True)]


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
        need = _columns_layout(slabs)
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


def _columns_layout(slabs: Sequence[Slab]) -> float:
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


GREY = "#b3b3b3"  # of what belongs to no stage
SKIP = "#8c4a00"
DASHED = (0, (3, 1.5))
BETWEEN_architecture = "   ·   "  # two entries of the key
NOTE = "height, depth: √ of the map's rows and columns; width: log of its channels"


@styled
def architecture_figure(model: nn.Module, title: str, size: tuple[int, int] = (512, 512)) -> Figure:
    """Draw a model's blocks, from image to output, with the size of what each gives for an image of `size` (H, W).

    Everything shown comes from the model: sizes are those of `nnti.models.architecture_table`, arrows those that
    `model.blocks()` declares. Equal blocks in a row share a slab; below the drawing stands what each block is.

    Args:
        model: any network with `blocks()`; it stays as it was, and nothing is computed.
        title: which model.
        size: height and width of the image.
    """
    nodes = model_graph(model, size)
    layout = arrange(nodes, WIDTH - 2 * SIDE)
    stages = {node.stage: None for node in nodes if node.stage}
    colors = {stage: RUN_COLORS[number % len(RUN_COLORS)] for number, stage in enumerate(stages)}
    handles = [Patch(facecolor=tint(color, 0.55), label=_stage(name)) for name, color in colors.items()]
    key = _key(nodes, layout.width)
    below = (legend_shape([handle.get_label() for handle in handles])[1] if handles else 0) + 0.05
    height = layout.height + LINE * len(key) + 0.12
    figure, axes = canvas(layout.width, height, layout.height, title, below)
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
    """Return lines that say what each block is, nodes with the same answer together."""
    titles: dict[str, list[str]] = {}
    for node in nodes:
        if node.kinds:
            titles.setdefault(summarize_kinds(node.kinds), []).append(node.title)
    entries = [f"{join_names(names)}: {kind}" for kind, names in titles.items()]
    lines = entries[:1]
    for entry in [*entries[1:], NOTE if all(node.leads for node in nodes) else f"{NOTE}; dashed: in training only"]:
        longer = f"{lines[-1]}{BETWEEN_architecture}{entry}"
        if text_width(longer) > width or entry.startswith(NOTE):
            lines.append(entry)
        else:
            lines[-1] = longer
    return lines


def _stage(name: str) -> str:
    return f"stage {name}" if name.isdigit() else name


def _draw_slab(axes: Axes, slab: Slab, color: str) -> None:
    """Draw front, top and side of a slab, and its label."""
    left, right = slab.x - slab.width / 2, slab.x + slab.width / 2
    low, high, back = slab.y - slab.height / 2, slab.y + slab.height / 2, slab.back
    top = [(left, high), (right, high), (right + back, high + back), (left + back, high + back)]
    side = [(right, low), (right + back, low + back), (right + back, high + back), (right, high)]
    front = [(left, low), (right, low), (right, high), (left, high)]
    line = "-" if slab.node.leads else DASHED
    for corners, white in ((top, 0.75), (side, 0.3), (front, 0.55)):
        axes.add_patch(
            Polygon(corners, facecolor=tint(color, white), edgecolor=DARK, lw=0.5, ls=line, joinstyle="round", zorder=2)
        )
    write(axes, slab.x, low - 0.05, slab.label, ha="center", va="top")


def _draw_arrow(axes: Axes, arrow: Arrow, leads: bool) -> None:
    color = SKIP if arrow.text else DARK
    draw_arrow(axes, arrow.points, color=color, linestyle="-" if leads else DASHED)
    if arrow.text:
        (left, y), (right, _) = arrow.points[1:3]
        text = write(axes, (left + right) / 2, y, arrow.text, ha="center", va="center", color=color, zorder=4)
        text.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
