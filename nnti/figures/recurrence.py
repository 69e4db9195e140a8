"""How R2U-Net's recurrent convolution works: a drawing of its steps, and of the residual unit around two of them."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle

from nnti.figures.networks import SIDE, canvas, draw_arrow, tint, write
from nnti.figures.style import DARK, FONT, RUN_COLORS, WIDTH, styled

MOST_STEPS = 4  # more do not fit beside each other
CELL = 0.22  # inches, the height of an operation
NORMALISATION = {"shared": "one normalisation", "per_step": "have a normalisation each"}
PLUS = 0.09  # inches, the radius of a sum's circle
AXIS, INPUT = 2.65, 2.0  # y in inches of the chain of steps, and of the line that carries u
UNIT = 0.75  # y in inches of the residual unit
WEIGHTS, PLAIN = RUN_COLORS[0], "#999999"
NORMS = (RUN_COLORS[4], RUN_COLORS[3], RUN_COLORS[2], RUN_COLORS[1], RUN_COLORS[5])  # one per step


@styled
def recurrence_figure(steps: int = 2, step_norm: str = "shared") -> Figure:
    """Draw a recurrent convolution unrolled over its steps, as `nnti.models.r2unet.RecurrentConv` computes them.

    Below it stands the residual unit that holds two of them, `RecurrentResidualUnit`.

    Args:
        steps: t, 1 to 4: how often the convolution is applied again.
        step_norm: "shared", one batch normalisation for all steps, or "per_step", one for each.
    """
    if steps > MOST_STEPS:
        raise ValueError(f"steps={steps}: the drawing has room for 1 to {MOST_STEPS} steps")
    top = 3.3
    figure, axes = canvas(WIDTH - 2 * SIDE, top, top, "Recurrent residual unit")
    _heading(axes, top - 0.1, f"(a) recurrent convolution, unrolled over t = {steps} steps")
    _draw_steps(axes, steps, step_norm == "per_step")
    _note(axes, INPUT - 0.22, "$x_0 = f(w * u)$,   $x_k = f(w * (u + x_{k-1}))$,   where f is batch norm and ReLU")
    shared = f"all {steps + 1} applications share the weights w and {NORMALISATION[step_norm]}"
    _note(axes, INPUT - 0.4, f"{shared}; read a box from top to bottom")
    _heading(axes, UNIT + 0.55, "(b) recurrent residual unit")
    _draw_unit(axes, steps)
    return figure


def _draw_steps(axes: Axes, steps: int, per_step: bool) -> None:
    """Draw the chain: x_0, and after it sums of u and the last state that go through the same operations."""
    pitch = (WIDTH - 2 * SIDE - 0.5) / (steps + 1)
    box = min(1.0, 0.56 * pitch)
    start = 0.25
    write(axes, 0.05, INPUT, "$u$", ha="left", va="center", fontsize=FONT + 2, parse_math=True)
    for step in range(steps + 1):
        into = start + step * pitch  # where u joins
        left = into + 0.19 * pitch
        names = ["3×3 conv, w", f"batch norm {step}" if per_step else "batch norm", "ReLU"]
        colors = [WEIGHTS, NORMS[step if per_step else 0], PLAIN]
        _draw_cells(axes, left, AXIS, box, names, colors)
        if step:
            _draw_plus(axes, into, AXIS)
            draw_arrow(axes, [(into, INPUT), (into, AXIS - PLUS)])
            draw_arrow(axes, [(into + PLUS, AXIS), (left, AXIS)])
        else:
            draw_arrow(axes, [(into, INPUT), (into, AXIS), (left, AXIS)])
        end = start + (step + 1) * pitch - PLUS
        draw_arrow(axes, [(left + box, AXIS), (end, AXIS)])
        place = {"ha": "center", "va": "bottom", "fontsize": FONT + 1}
        write(axes, (left + box + end) / 2, AXIS + 0.06, f"$x_{{{step}}}$", **place, parse_math=True)
    draw_arrow(axes, [(0.18, INPUT), (start + steps * pitch, INPUT)], head=False)


def _draw_unit(axes: Axes, steps: int) -> None:
    """Draw the 1×1 projection, two recurrent convolutions and the sum with what went into them."""
    box, y = 1.25, UNIT
    lefts = [0.7, 2.5, 4.2]
    names = ["1×1 conv", f"recurrent conv, t = {steps}", f"recurrent conv, t = {steps}"]
    for left, name, color in zip(lefts, names, (PLAIN, WEIGHTS, RUN_COLORS[2]), strict=True):
        _draw_cells(axes, left, y, box, [name], [color])
    fork, plus = 2.22, 5.85
    write(axes, 0.05, y, "input", ha="left", va="center", fontsize=FONT)
    for left, right in ((0.42, lefts[0]), (lefts[0] + box, lefts[1]), (lefts[1] + box, lefts[2])):
        draw_arrow(axes, [(left, y), (right, y)])
    draw_arrow(axes, [(lefts[2] + box, y), (plus - PLUS, y)])
    draw_arrow(axes, [(fork, y), (fork, y - 0.4), (plus, y - 0.4), (plus, y - PLUS)])
    axes.add_patch(Circle((fork, y), 0.025, color=DARK, zorder=4))
    _draw_plus(axes, plus, y)
    draw_arrow(axes, [(plus + PLUS, y), (6.4, y)])
    write(axes, 6.46, y, "output", ha="left", va="center", fontsize=FONT)
    _note(axes, y - 0.62, "each recurrent convolution has weights of its own; the sum makes the unit residual")


def _draw_cells(axes: Axes, left: float, y: float, width: float, names: Sequence[str], colors: Sequence[str]) -> None:
    """Draw operations as cells on top of each other, around y, the first one on top."""
    top = y + CELL * len(names) / 2
    for row, (name, color) in enumerate(zip(names, colors, strict=True)):
        low = top - CELL * (row + 1)
        style = {"facecolor": tint(color, 0.6), "edgecolor": DARK, "lw": 0.6, "zorder": 4}
        axes.add_patch(Rectangle((left, low), width, CELL, **style))
        write(axes, left + width / 2, low + CELL / 2, name, ha="center", va="center_baseline", zorder=5)


def _draw_plus(axes: Axes, x: float, y: float) -> None:
    axes.add_patch(Circle((x, y), PLUS, facecolor="white", edgecolor=DARK, lw=0.8, zorder=4))
    for points in ([(x - 0.05, x + 0.05), (y, y)], [(x, x), (y - 0.05, y + 0.05)]):
        axes.plot(*points, color=DARK, linewidth=0.9, zorder=5)


def _note(axes: Axes, y: float, text: str) -> None:
    write(axes, WIDTH / 2 - SIDE, y, text, ha="center", va="center", fontsize=FONT, parse_math=True)


def _heading(axes: Axes, y: float, text: str) -> None:
    write(axes, 0, y, text, ha="left", va="center", fontsize=FONT, color=DARK)
