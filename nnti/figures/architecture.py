"""Architecture figures, drawn from the models themselves: what each block gives, and from where it reads."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Polygon
from torch import nn

from nnti.figures.drawing import LINE, SIDE, canvas, draw_arrow, text_width, tint, write
from nnti.figures.graph import Node, join_names, model_graph, summarize_kinds
from nnti.figures.layout import Arrow, Slab, arrange
from nnti.figures.style import DARK, RUN_COLORS, WIDTH, draw_legend, legend_shape, styled

__all__ = ["architecture_figure"]

GREY = "#b3b3b3"  # of what belongs to no stage
SKIP = "#8c4a00"
DASHED = (0, (3, 1.5))
BETWEEN = "   ·   "  # two entries of the key
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
        longer = f"{lines[-1]}{BETWEEN}{entry}"
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
