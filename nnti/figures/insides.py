"""What networks see on the way: the maps inside a recurrent convolution step by step, and inside a pyramid pooling.

The maps are caught by hooks while the model segments a real image; the model stays as it was.

How R2U-Net's recurrent convolution works: a drawing of its steps, and of the residual unit around two of them.
"""

from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle
from torch import Tensor, nn

from nnti.figures.networks import SIDE, canvas, draw_arrow, tint, write
from nnti.figures.pictures import CAPTION, GAP, MARGIN, Box, draw_picture, to_picture, write_at
from nnti.figures.style import DARK, FONT, RUN_COLORS, WIDTH, bare_page, styled
from nnti.inference.image import predict

__all__ = ["feature_steps", "pooled_maps", "recurrence_figure"]


SAMPLED = 500  # places of a map from which its principal components are taken: many more cost time, not colour


@styled
def feature_steps(model: nn.Module, image: Tensor, title: str, unit: int = 0, channels: int = 3) -> Figure:
    """Show what each step of a recurrent convolution makes of an image, and what changes from step to step.

    A row per channel, those of the most contrast; x_k beside x_k − x_(k−1). A row's maps share one scale, dark to
    bright, and its changes another, blue for less and red for more.

    Args:
        model: a network with modules that have `states`, as `nnti.models.r2unet.RecurrentConv`.
        image: uint8 (3, H, W).
        title: which model, trained how long.
        unit: which of the recurrent convolutions, in the order of the model's modules.
        channels: how many rows.

    Raises ValueError for a model without recurrent convolutions, or without so many.
    """
    name, module = _find(model, unit, "recurrent convolutions, with `states`", lambda m: hasattr(m, "states"))
    with torch.inference_mode():
        states = torch.stack([state[0].float().cpu() for state in _states(model, module, image)]).numpy()
    contrast = states[0].std(axis=(1, 2))  # (steps + 1, C, h, w) → (C,)
    rows = np.argsort(-contrast, kind="stable")[:channels]
    headings = [f"$x_{{{step}}}$" for step in range(len(states))]
    headings += [f"$x_{{{step}}} - x_{{{step - 1}}}$" for step in range(1, len(states))]
    pictures = [[_stretched(map_, image) for map_ in _row_pictures(states[:, channel])] for channel in rows]
    captions = [_row_caption(states[:, channel], int(channel)) for channel in rows]
    text = f"{title}\n{name}, {states.shape[1]} channels of {states.shape[2]} × {states.shape[3]}"
    return _table(headings, pictures, captions, image.shape[1] / image.shape[2], text)


@styled
def pooled_maps(model: nn.Module, image: Tensor, title: str) -> Figure:
    """Show an image, the map that a pyramid pooling reads, and the means over cells that its levels begin with.

    Colours are the map's first three principal components (red, green, blue), the same for all pictures: places of like
    features have like colours. The cells are drawn as large as they are.

    Args:
        model: a network with a module that has `bins` and `levels`, as `nnti.models.pspnet.PyramidPooling`, each level
            beginning with its pooling.
        image: uint8 (3, H, W).
        title: which model, trained how long.

    Raises ValueError for a model without a pyramid.
    """
    wanted = "pyramids, with `bins` and `levels`"
    _, pyramid = _find(model, 0, wanted, lambda m: hasattr(m, "bins") and hasattr(m, "levels"))
    first = [level[0] for level in pyramid.levels]
    caught = _caught(model, image, [pyramid, *first])
    source = caught[pyramid][0][0][0]  # the first input's first image: (C, h, w)
    maps = [source, *(caught[pool][1][0] for pool in first)]
    basis = _components(source)
    low, high = np.percentile(_project(source, basis).reshape(-1, 3), (1, 99), axis=0)
    colors = [np.clip((_project(map_, basis) - low) / np.maximum(high - low, 1e-12), 0, 1) for map_ in maps]
    names = [f"its map, {' × '.join(map(str, source.shape))}", *(f"{bin} × {bin} means" for bin in pyramid.bins)]
    shown = [_stretched(map_, image) for map_ in colors]
    pictures = [("image", to_picture(image)), *zip(names, shown, strict=True)]
    return _grid(pictures, image.shape[1] / image.shape[2], title)


def _table(
    headings: list[str], pictures: list[list[np.ndarray]], captions: list[str], ratio: float, title: str
) -> Figure:
    """Place rows of pictures under headings, a caption below each row; `ratio` is their height to width."""
    width = (WIDTH - 2 * MARGIN + GAP) / len(headings) - GAP
    step = ratio * width + CAPTION
    figure, above = bare_page(CAPTION + len(pictures) * step, title)
    for column, heading in enumerate(headings):
        left = MARGIN + column * (width + GAP)
        write_at(figure, heading, left + width / 2, above + CAPTION - 0.04, "bottom")
        for row, pixels in enumerate(pictures):
            draw_picture(figure, Box(left, above + CAPTION + row * step, width, ratio * width), pixels[column])
    for row, caption in enumerate(captions, start=1):
        write_at(figure, caption, WIDTH / 2, above + row * step + 0.02, "top")
    return figure


def _grid(pictures: list[tuple[str, np.ndarray]], ratio: float, title: str) -> Figure:
    """Place pictures of one ratio of height to width in two rows, each under its name."""
    across = -(-len(pictures) // 2)
    width = (WIDTH - 2 * MARGIN + GAP) / across - GAP
    figure, above = bare_page(2 * (CAPTION + GAP + ratio * width), title)
    for number, (name, pixels) in enumerate(pictures):
        row, column = divmod(number, across)
        left, top = MARGIN + column * (width + GAP), above + CAPTION + row * (CAPTION + GAP + ratio * width)
        write_at(figure, name, left + width / 2, top - 0.04, "bottom")
        draw_picture(figure, Box(left, top, width, ratio * width), pixels)
    return figure


def _find(model: nn.Module, number: int, what: str, fits: Callable[[nn.Module], bool]) -> tuple[str, nn.Module]:
    """Return name and module of the model's part at position `number` among those that fit."""
    found = [(name, module) for name, module in model.named_modules() if fits(module)]
    if not 0 <= number < len(found):
        raise ValueError(f"{type(model).__name__} has {len(found)} {what}; there is no number {number}")
    return found[number]


def _caught(model: nn.Module, image: Tensor, modules: list[nn.Module]) -> dict[nn.Module, tuple]:
    """Segment an image and return each module's inputs and output."""
    caught = {}
    hooks = [
        module.register_forward_hook(lambda module, inputs, output: caught.update({module: (inputs, output)}))
        for module in modules
    ]
    try:
        predict(model, image, precision="float32")
    finally:
        for hook in hooks:
            hook.remove()
    return caught


def _states(model: nn.Module, module: nn.Module, image: Tensor) -> list[Tensor]:
    """Return a recurrent convolution's states, each (1, C, h, w), in eval mode, as it segments the image."""
    (inputs, _) = _caught(model, image, [module])[module]
    mode = module.training
    try:
        return module.eval().states(*inputs)
    finally:
        module.train(mode)


def _row_pictures(states: np.ndarray) -> list[np.ndarray]:
    """Colour one channel's states (steps + 1, h, w) and their changes."""
    changes = np.diff(states, axis=0)
    low, high, most = states.min(), states.max(), _full_color(changes)
    maps = matplotlib.colormaps["magma"]((states - low) / max(high - low, 1e-12))
    more = matplotlib.colormaps["RdBu_r"](np.clip(0.5 + changes / max(2 * most, 1e-12), 0, 1))
    return [*maps[..., :3], *more[..., :3]]


def _row_caption(states: np.ndarray, channel: int) -> str:
    changes = np.diff(states, axis=0)
    means = ", ".join(f"{value:.2g}" for value in np.abs(changes).mean(axis=(1, 2)))
    scales = f"{states.min():.2g} to {states.max():.2g}, changes ± {_full_color(changes):.2g}"
    return f"channel {channel}: {scales}; mean |change| {means}"


def _full_color(changes: np.ndarray) -> float:
    """Return the change that gets the full colour: few places, at edges, change by more."""
    return float(np.percentile(np.abs(changes), 99))


def _components(source: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (C,) and first three principal axes (C, 3) of a map (C, h, w), signs chosen by a fixed rule."""
    values = source.flatten(1).T.double().cpu().numpy()  # (h · w, C)
    values = values[:: max(1, len(values) // SAMPLED)]
    mean = values.mean(axis=0)
    _, _, axes = np.linalg.svd(values - mean, full_matrices=False)
    axes = np.pad(axes[:3], ((0, max(0, 3 - len(axes))), (0, 0)))
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return mean, (axes * np.where(largest < 0, -1, 1)).T


def _project(map_: Tensor, basis: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the components (h, w, 3) of a map (C, h, w)."""
    mean, axes = basis
    return (map_.permute(1, 2, 0).double().cpu().numpy() - mean) @ axes


def _stretched(pixels: np.ndarray, image: Tensor) -> np.ndarray:
    """Repeat the pixels (h, w, 3) of a map until it is as large as the image."""
    rows, columns = (
        np.arange(size) * known // size for size, known in zip(image.shape[1:], pixels.shape, strict=False)
    )
    return pixels[rows][:, columns]


MOST_STEPS = 4  # more do not fit beside each other
CELL = 0.22  # inches, the height of an operation
PLUS = 0.09  # inches, the radius of a sum's circle
AXIS, INPUT = 2.65, 2.0  # y in inches of the chain of steps, and of the line that carries u
UNIT = 0.75  # y in inches of the residual unit
WEIGHTS, PLAIN = RUN_COLORS[0], "#999999"
NORMS = (RUN_COLORS[4], RUN_COLORS[3], RUN_COLORS[2], RUN_COLORS[1], RUN_COLORS[5])  # one per step


@styled
def recurrence_figure(steps: int = 2, step_norm: str = "shared", title: str = "Recurrent residual unit") -> Figure:
    """Draw a recurrent convolution unrolled over its steps, as `nnti.models.r2unet.RecurrentConv` computes them.

    Below it stands the residual unit that holds two of them, `RecurrentResidualUnit`.

    Args:
        steps: t, 1 to 4: how often the convolution is applied again.
        step_norm: "shared", one batch normalisation for all steps, or "per_step", one for each.
        title: of the figure.
    """
    if not 1 <= steps <= MOST_STEPS:
        raise ValueError(f"steps={steps}: the drawing has room for 1 to {MOST_STEPS}")
    if step_norm not in ("shared", "per_step"):
        raise ValueError(f"step_norm={step_norm!r}: it must be 'shared' or 'per_step'")
    width, top = WIDTH - 2 * SIDE, 3.3
    figure, axes = canvas(width, top, top, title)
    _heading(axes, top - 0.1, f"(a) recurrent convolution, unrolled over t = {steps} steps")
    _draw_steps(axes, steps, step_norm == "per_step", width)
    norm = "have a normalisation each" if step_norm == "per_step" else "one normalisation"
    formula = "$x_0 = f(w * u)$,   $x_k = f(w * (u + x_{k-1}))$,   where f is batch norm and ReLU"
    _note(axes, INPUT - 0.22, formula)
    _note(
        axes, INPUT - 0.4, f"all {steps + 1} applications share the weights w and {norm}; read a box from top to bottom"
    )
    _heading(axes, UNIT + 0.55, "(b) recurrent residual unit")
    _draw_unit(axes, steps)
    return figure


def _draw_steps(axes: Axes, steps: int, per_step: bool, width: float) -> None:
    """Draw the chain: x_0, and after it sums of u and the last state that go through the same operations."""
    pitch = (width - 0.5) / (steps + 1)
    box = min(1.0, 0.56 * pitch)
    start = 0.25
    write(axes, 0.05, INPUT, "$u$", ha="left", va="center", fontsize=FONT + 2)
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
        write(axes, (left + box + end) / 2, AXIS + 0.06, f"$x_{{{step}}}$", ha="center", va="bottom", fontsize=FONT + 1)
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
        axes.add_patch(
            Rectangle((left, low), width, CELL, facecolor=tint(color, 0.6), edgecolor=DARK, lw=0.6, zorder=4)
        )
        write(axes, left + width / 2, low + CELL / 2, name, ha="center", va="center_baseline", zorder=5)


def _draw_plus(axes: Axes, x: float, y: float) -> None:
    axes.add_patch(Circle((x, y), PLUS, facecolor="white", edgecolor=DARK, lw=0.8, zorder=4))
    for points in ([(x - 0.05, x + 0.05), (y, y)], [(x, x), (y - 0.05, y + 0.05)]):
        axes.plot(*points, color=DARK, linewidth=0.9, zorder=5)


def _note(axes: Axes, y: float, text: str) -> None:
    write(axes, WIDTH / 2 - SIDE, y, text, ha="center", va="center", fontsize=FONT)


def _heading(axes: Axes, y: float, text: str) -> None:
    write(axes, 0, y, text, ha="left", va="center", fontsize=FONT, color=DARK)
