"""The inside of a network while it segments a real image; the model is not changed."""

from collections.abc import Callable, Sequence

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from nnti.figures.pictures import CAPTION, GAP, MARGIN, draw_picture, to_picture, write_at
from nnti.figures.style import WIDTH, bare_page, styled
from nnti.inference.image import evaluating, predict
from nnti.models.attention import PyramidAttention
from nnti.models.blocks import watched

CHANNELS = 3  # shown of a recurrent convolution
SAMPLED = 500  # places of a map from which its principal components are taken: many more cost time, not colour
TINY = 1e-12  # replaces the range of a constant map


@styled
def feature_steps(model: nn.Module, image: Tensor, title: str) -> Figure:
    """Show each step of the first recurrent convolution for an image, and what changes from step to step.

    A row for each of the three channels with most contrast: the states x_k, then the changes x_k − x_(k−1). Within a
    row, the states share one scale, dark to bright, and the changes another, blue for less and red for more. The image
    is uint8 (3, H, W).

    Raises ValueError for a model without a module that has `states`, as `nnti.models.r2unet.RecurrentConv` has.
    """
    name, module = _first(model, "recurrent convolution, with `states`", lambda m: hasattr(m, "states"))
    states = _states(model, module, image)  # (steps + 1, C, h, w)
    names = [f"$x_{{{step}}}$" for step in range(len(states))]
    names += [f"$x_{{{step}}} - x_{{{step - 1}}}$" for step in range(1, len(states))]
    rows, captions = [], []
    for channel in np.argsort(-states[0].std(axis=(1, 2)), kind="stable")[:CHANNELS]:
        colors, scales = _colored(states[:, channel])
        rows.append([(name, _stretched(color, image)) for name, color in zip(names, colors, strict=True)])
        captions.append(f"channel {channel}: {scales}")
    text = f"{title}\n{name}, {states.shape[1]} channels of {states.shape[2]} × {states.shape[3]}"
    return _table(rows, captions, image, text)


@styled
def pooled_maps(model: nn.Module, image: Tensor, title: str) -> Figure:
    """Show an image, the map that a pyramid pooling reads, and the means over cells that its levels begin with.

    Colours are the map's first three principal components (red, green, blue), the same for all pictures: similar
    features have similar colours. The cells are drawn at their own size. The image is uint8 (3, H, W).

    Raises ValueError for a model without a module that has `bins` and `levels`, each beginning with its pooling, as
    `nnti.models.pspnet.PyramidPooling` has.
    """
    wanted = "pyramid, with `bins` and `levels`"
    _, pyramid = _first(model, wanted, lambda m: hasattr(m, "bins") and hasattr(m, "levels"))
    pools = [level[0] for level in pyramid.levels]
    with watched(dict(enumerate([pyramid, *pools]))) as calls:
        predict(model, image, precision="float32")
    source = calls[0][0][0][0]  # the pyramid's first input's first image: (C, h, w)
    maps = [source, *(calls[number][1][0] for number in range(1, len(calls)))]
    basis = _components(source)
    low, high = np.percentile(_project(source, basis).reshape(-1, 3), (1, 99), axis=0)
    colors = [np.clip((_project(map_, basis) - low) / np.maximum(high - low, TINY), 0, 1) for map_ in maps]
    names = [f"its map, {' × '.join(map(str, source.shape))}", *(f"{bin} × {bin} means" for bin in pyramid.bins)]
    pictures = [("image", to_picture(image))]
    pictures += [(name, _stretched(color, image)) for name, color in zip(names, colors, strict=True)]
    across = -(-len(pictures) // 2)
    return _table([pictures[:across], pictures[across:]], [], image, title)


@styled
def attended_cells(model: nn.Module, image: Tensor, pixels: Sequence[tuple[int, int]], title: str) -> Figure:
    """Show what chosen pixels attend to: a row for each, with the pixel marked, then each level's cells by weight.

    All levels of a row share one scale, from black (nothing) to the largest weight of a cell. A pixel's weights add up
    to 1 over all cells of all levels.

    Args:
        model: a network with a `nnti.models.attention.PyramidAttention`.
        image: uint8 (3, H, W).
        pixels: (row, column) in the image.

    Raises ValueError for a model without such a part.
    """
    _, module = _first(model, "attention over a pyramid's cells", lambda m: isinstance(m, PyramidAttention))
    with watched({"module": module}) as calls:
        predict(model, image, precision="float32")
    with torch.inference_mode(), evaluating(module):
        weights = module.weights(*calls["module"][0])[0].float().cpu()  # (h, w, cells)
    rows, captions = [], []
    for row, column in pixels:
        at = [
            place * size // whole
            for place, size, whole in zip((row, column), weights.shape[:2], image.shape[1:], strict=True)
        ]
        own = weights[*at].numpy()
        levels = np.split(own, np.cumsum([bin * bin for bin in module.bins])[:-1])
        maps = [
            matplotlib.colormaps["magma"](level.reshape(bin, bin) / own.max())[..., :3]
            for bin, level in zip(module.bins, levels, strict=True)
        ]
        names = [f"{bin} × {bin}: {level.sum():.0%}" for bin, level in zip(module.bins, levels, strict=True)]
        shown = [(name, _stretched(map_, image)) for name, map_ in zip(names, maps, strict=True)]
        rows.append([("pixel", _marked(to_picture(image), row, column)), *shown])
        captions.append(f"row {row}, column {column}: at most {own.max():.2g} from one cell")
    return _table(rows, captions, image, title)


def _marked(picture: np.ndarray, row: int, column: int) -> np.ndarray:
    """Draw a white square with a black border around a pixel, 1/24 of the picture's height to each side."""
    marked, reach = picture.copy(), max(2, len(picture) // 24)
    for width, value in ((reach, 0), (reach - 1, 255)):
        box = marked[max(0, row - width) : row + width + 1, max(0, column - width) : column + width + 1]
        box[:] = value
    inner = slice(max(0, row - reach + 2), row + reach - 1), slice(max(0, column - reach + 2), column + reach - 1)
    marked[inner] = picture[inner]
    return marked


def _table(
    rows: Sequence[Sequence[tuple[str, np.ndarray]]], captions: Sequence[str], image: Tensor, title: str
) -> Figure:
    """Place rows of pictures of the image's proportions, each under its name; a caption below each row, if any."""
    width = (WIDTH - 2 * MARGIN + GAP) / len(rows[0]) - GAP
    height = width * image.shape[1] / image.shape[2]
    step = CAPTION + height + (CAPTION if captions else GAP)
    figure, top = bare_page(len(rows) * step, title)
    for row in rows:
        for column, (name, pixels) in enumerate(row):
            left = MARGIN + column * (width + GAP)
            write_at(figure, name, left + width / 2, top + CAPTION - 0.04, "bottom", parse_math=True)
            draw_picture(figure, pixels, left, top + CAPTION, width, height)
        top += step
    for number, caption in enumerate(captions):
        write_at(figure, caption, WIDTH / 2, top - (len(rows) - number - 1) * step - CAPTION + 0.02, "top")
    return figure


def _first(model: nn.Module, what: str, fits: Callable[[nn.Module], bool]) -> tuple[str, nn.Module]:
    """Return name and module of the model's first part that fits."""
    for name, module in model.named_modules():
        if fits(module):
            return name, module
    raise ValueError(f"{type(model).__name__} has no {what}")


def _states(model: nn.Module, module: nn.Module, image: Tensor) -> np.ndarray:
    """Return a recurrent convolution's states (steps + 1, C, h, w), in eval mode, as it segments the image."""
    with watched({"module": module}) as calls:
        predict(model, image, precision="float32")
    with torch.inference_mode(), evaluating(module):
        return torch.stack([state[0].float().cpu() for state in module.states(*calls["module"][0])]).numpy()


def _colored(states: np.ndarray) -> tuple[list[np.ndarray], str]:
    """Colour one channel's states (steps + 1, h, w) and their changes; return the pictures and what the scales are."""
    changes = np.diff(states, axis=0)
    low, high = states.min(), states.max()
    most = float(np.percentile(np.abs(changes), 99))  # gets the full colour: few places, at edges, change by more
    maps = matplotlib.colormaps["magma"]((states - low) / max(high - low, TINY))
    more = matplotlib.colormaps["RdBu_r"](np.clip(0.5 + changes / max(2 * most, TINY), 0, 1))
    means = ", ".join(f"{value:.2g}" for value in np.abs(changes).mean(axis=(1, 2)))
    return [*maps[..., :3], *more[..., :3]], f"{low:.2g} to {high:.2g}, changes ± {most:.2g}; mean |change| {means}"


def _components(source: Tensor) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean (C,) and first three principal axes (C, 3) of a map (C, h, w), signs chosen by a fixed rule."""
    values = source.flatten(1).T.cpu().double().numpy()  # (h · w, C)
    values = values[:: max(1, len(values) // SAMPLED)]
    mean = values.mean(axis=0)
    _, _, axes = np.linalg.svd(values - mean, full_matrices=False)
    axes = np.pad(axes[:3], ((0, max(0, 3 - len(axes))), (0, 0)))
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    return mean, (axes * np.where(largest < 0, -1, 1)).T


def _project(map_: Tensor, basis: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """Return the components (h, w, 3) of a map (C, h, w)."""
    mean, axes = basis
    return (map_.permute(1, 2, 0).cpu().double().numpy() - mean) @ axes


def _stretched(pixels: np.ndarray, image: Tensor) -> np.ndarray:
    """Repeat the pixels (h, w, 3) of a map until it is as large as the image."""
    rows, columns = (
        np.arange(size) * known // size for size, known in zip(image.shape[1:], pixels.shape, strict=False)
    )
    return pixels[rows][:, columns]
