"""Label maps as colour pictures: uint8 arrays (H, W, 3) that any viewer shows.

Pictures beside each other: image / ground truth / prediction, and what augmentation makes of one image.

Pictures are placed by hand, in inches from the upper left corner, so that rows of different shapes leave no gaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from nnti.data import SegmentationDataset
from nnti.data.base import IGNORE_INDEX
from nnti.figures.style import DARK, WIDTH, bare_page, draw_legend, legend_shape, styled
from nnti.metrics import ConfusionMatrix

__all__ = [
    "Box",
    "CAPTION",
    "Classes",
    "GAP",
    "MARGIN",
    "augmentation_gallery",
    "class_handles",
    "colorize",
    "draw_picture",
    "overlay",
    "segmented_photo",
    "to_array",
    "to_picture",
    "triptychs",
    "void_color",
    "write_at",
]


NEUTRAL = ((255, 255, 255), (0, 0, 0), (210, 210, 210))  # for void, where a data set's own colour will not do
DISTINCT = 100  # distance in RGB at which two colours differ at a glance in a small picture


@dataclass(frozen=True)
class Classes:
    """What a picture has to know of a data set, for a network that is used where its data set is not."""

    title: str
    class_names: Sequence[str]
    palette: Sequence[Sequence[int]]
    ignore_index: int = IGNORE_INDEX
    void_color: tuple[int, int, int] = SegmentationDataset.void_color

    @classmethod
    def of(cls, checkpoint: dict) -> "Classes":
        """Return the classes that a checkpoint's network knows."""
        return cls(checkpoint["experiment"]["dataset"], checkpoint["class_names"], checkpoint["palette"])

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


def colorize(mask: Tensor | np.ndarray, dataset: SegmentationDataset | Classes) -> np.ndarray:
    """Paint class numbers (H, W) in the data set's colours: uint8 (H, W, 3), void in `void_color(dataset)`.

    Raises ValueError for a value that is neither a class nor void.
    """
    mask = to_array(mask)
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
        raise ValueError(f"mask {mask.shape} {mask.dtype} must be class numbers (H, W); of logits take argmax(0)")
    values = np.unique(mask)
    wrong = values[(values != dataset.ignore_index) & ((values < 0) | (values >= dataset.num_classes))]
    if len(wrong):
        raise ValueError(
            f"the mask holds {wrong.tolist()}; {dataset.title} has classes 0 to {dataset.num_classes - 1} "
            f"and {dataset.ignore_index} for void"
        )
    colors = np.empty((max(dataset.ignore_index, dataset.num_classes - 1) + 1, 3), dtype=np.uint8)
    colors[: dataset.num_classes] = dataset.palette
    colors[dataset.ignore_index] = void_color(dataset)
    return colors[mask]


def overlay(
    image: Tensor | np.ndarray, mask: Tensor | np.ndarray, dataset: SegmentationDataset | Classes, alpha: float = 0.55
) -> np.ndarray:
    """Lay the colours of a mask (H, W) over an image (3, H, W) with values 0 … 255: uint8 (H, W, 3).

    `alpha` is the share of the mask's colour, 0 … 1.
    """
    picture, colors = to_picture(image), colorize(mask, dataset)
    if picture.shape != colors.shape:
        raise ValueError(f"image {picture.shape[:2]} and mask {colors.shape[:2]} must have the same (height, width)")
    return ((1 - alpha) * picture + alpha * colors).round().astype(np.uint8)


def void_color(dataset: SegmentationDataset | Classes) -> tuple[int, int, int]:
    """Return the colour of unlabelled pixels: the data set's own where no class's is close to it, else a neutral one.

    CamVid's own, black, is next to its pedestrians' dark olive; white takes its place.
    """
    palette = np.asarray(dataset.palette, dtype=float)
    choices = (tuple(dataset.void_color), *NEUTRAL)
    distances = [np.linalg.norm(palette - color, axis=1).min() for color in choices]
    clear = [color for color, distance in zip(choices, distances, strict=True) if distance >= DISTINCT]
    return clear[0] if clear else choices[np.argmax(distances)]


def to_array(values: Tensor | np.ndarray) -> np.ndarray:
    """Return a tensor, on whatever device, or an array as an array."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def to_picture(image: Tensor | np.ndarray) -> np.ndarray:
    """Return an image (3, H, W) with values 0 … 255, integer or not, as uint8 (H, W, 3)."""
    image = to_array(image)
    if image.ndim != 3 or image.shape[0] != 3:
        raise ValueError(f"an image must be (3, H, W), not {image.shape}")
    return np.clip(np.round(image), 0, 255).astype(np.uint8).transpose(1, 2, 0)


def class_handles(masks: Sequence[Tensor | np.ndarray], dataset: SegmentationDataset | Classes) -> list[Patch]:
    """Return legend entries of the classes that occur in `masks`, in class order, then of void if it occurs."""
    present = sorted({int(value) for mask in masks for value in np.unique(to_array(mask))} - {dataset.ignore_index})
    entries = [(dataset.palette[number], dataset.class_names[number]) for number in present]
    if any((to_array(mask) == dataset.ignore_index).any() for mask in masks):
        entries.append((void_color(dataset), "void"))
    return [
        Patch(facecolor=np.asarray(color) / 255, edgecolor=DARK, linewidth=0.6, label=name) for color, name in entries
    ]


MARGIN, GAP, BLOCK_GAP = 0.06, 0.06, 0.2  # inches: page border, between pictures, between two blocks of rows
HEADING, CAPTION = 0.19, 0.18  # inches: the line above a column, the line below a picture
ROOM = 8.6  # inches that the rows of pictures may take together: with title and legend they still fit a page
TWO_BLOCKS = 0.75  # two blocks of rows, which fill the page, unless their pictures are narrower than this share
TALLEST = 1.5  # height / width beyond which a picture is drawn narrower than its column

Picture = torch.Tensor | np.ndarray


class Box(NamedTuple):
    """A rectangle of the page in inches from its upper left corner."""

    left: float
    top: float
    width: float
    height: float


@styled
def triptychs(
    samples: Sequence[tuple[Picture, ...]],
    dataset: SegmentationDataset,
    title: str,
    columns: Sequence[str] = ("image", "ground truth", "prediction"),
    scores: bool = True,
) -> Figure:
    """Show a row per sample: its image, its labels and one or more predictions, in the data set's colours.

    The legend lists the classes that occur in the labels and predictions shown. Rows go into one block, or into two
    side by side where one would be long and thin.

    Args:
        samples: (image uint8 (3, H, W), label (H, W), prediction (H, W), …) each; sizes may differ between samples.
        dataset: gives colours, class names and `ignore_index`.
        title: which model, which data, how many images.
        columns: a heading for each picture of a row.
        scores: write below each prediction its mean IoU over the classes that occur in that image or its prediction.
    """
    _check(samples, columns)
    masks = [to_array(mask) for sample in samples for mask in sample[1:]]
    handles = class_handles(masks, dataset)
    _, legend = legend_shape([handle.get_label() for handle in handles])
    ratios = [min(TALLEST, sample[1].shape[0] / sample[1].shape[1]) for sample in samples]
    gap = CAPTION if scores else GAP
    width, blocks = _arrange(ratios, len(columns), gap)
    height = HEADING + max(sum(ratios[row] * width + gap for row in block) for block in blocks)
    figure, above = bare_page(height, title, below=legend)
    across = len(columns) * (width + GAP) - GAP
    left = (WIDTH - len(blocks) * (across + BLOCK_GAP) + BLOCK_GAP) / 2
    for block in blocks:
        _draw_headings(figure, columns, left, above, width)
        top = above + HEADING
        for row in block:
            _draw_row(figure, samples[row], dataset, Box(left, top, width, ratios[row] * width), scores)
            top += ratios[row] * width + gap
        left += across + BLOCK_GAP
    draw_legend(figure, handles)
    return figure


@styled
def segmented_photo(image: Picture, prediction: Picture, dataset: SegmentationDataset | Classes, title: str) -> Figure:
    """Show a picture without labels beside the classes that were found in it, laid over it.

    Args:
        image, prediction: uint8 (3, H, W) and class numbers (H, W).
        dataset: gives colours and class names; of a checkpoint, `Classes.of(checkpoint)`.
        title: which network, which picture.
    """
    handles = class_handles([prediction], dataset)
    _, legend = legend_shape([handle.get_label() for handle in handles])
    ratio = prediction.shape[0] / prediction.shape[1]
    width = min((WIDTH - 2 * MARGIN - GAP) / 2, ROOM / ratio)
    figure, above = bare_page(ratio * width + GAP, title, below=legend)
    left = (WIDTH - 2 * width - GAP) / 2
    for number, pixels in enumerate((to_picture(image), overlay(image, prediction, dataset))):
        draw_picture(figure, Box(left + number * (width + GAP), above, width, ratio * width), pixels)
    draw_legend(figure, handles)
    return figure


@styled
def augmentation_gallery(
    image: Picture, label: Picture, crops: Sequence[tuple[Picture, Picture]], dataset: SegmentationDataset, title: str
) -> Figure:
    """Show an image and, below it, its labels, beside augmented crops with their labels laid over them.

    Args:
        image, label: uint8 (3, H, W) and (H, W).
        crops: (image with values 0 … 255 (3, h, w), label (h, w)) each, all of one size; void is what lies outside.
        dataset: gives colours, class names and `ignore_index`.
        title: what was done to the image.
    """
    if not crops:
        raise ValueError("crops is empty; pass at least one (image, label)")
    handles = class_handles([label, *(mask for _, mask in crops)], dataset)
    _, legend = legend_shape([handle.get_label() for handle in handles])
    rows = 1 if len(crops) < 3 else 2 if len(crops) <= 8 else 3
    across = -(-len(crops) // rows)
    whole, part = (mask.shape[0] / mask.shape[1] for mask in (label, crops[0][1]))  # height / width
    first, width = _gallery_widths(whole, part, rows, across)
    height = max(2 * whole * first + GAP, rows * (part * width + GAP) - GAP)
    figure, above = bare_page(HEADING + height + GAP, title, below=legend)
    _draw_headings(figure, ["image, labels"], MARGIN, above, first)
    top, left = above + HEADING, MARGIN + first + BLOCK_GAP
    _draw_headings(figure, ["augmented crops with labels"], left, above, WIDTH - MARGIN - left)
    draw_picture(figure, Box(MARGIN, top, first, whole * first), to_picture(image))
    draw_picture(figure, Box(MARGIN, top + whole * first + GAP, first, whole * first), colorize(label, dataset))
    for number, (crop, mask) in enumerate(crops):
        row, column = divmod(number, across)
        place = Box(left + column * (width + GAP), top + row * (part * width + GAP), width, part * width)
        draw_picture(figure, place, overlay(crop, mask, dataset))
    draw_legend(figure, handles)
    return figure


def _check(samples: Sequence[tuple[Picture, ...]], columns: Sequence[str]) -> None:
    if not samples:
        raise ValueError("samples is empty; pass at least one (image, label, prediction)")
    for number, sample in enumerate(samples):
        if len(sample) != len(columns):
            raise ValueError(f"sample {number} has {len(sample)} pictures for {len(columns)} columns {tuple(columns)}")
        shapes = {tuple(picture.shape[-2:]) for picture in sample}
        if len(shapes) > 1:
            raise ValueError(f"sample {number} mixes the sizes {sorted(shapes)}; all must be of one size")


def _arrange(ratios: Sequence[float], columns: int, gap: float) -> tuple[float, list[list[int]]]:
    """Return the pictures' width in inches and the rows of each block; see `TWO_BLOCKS`."""
    options = []
    for blocks in (1, 2) if len(ratios) > 1 else (1,):
        parts = _split(ratios, blocks)
        free = WIDTH - 2 * MARGIN - blocks * (columns - 1) * GAP - (blocks - 1) * BLOCK_GAP
        widths = [(ROOM - len(part) * gap) / sum(ratios[row] for row in part) for part in parts]
        options.append((min(free / (blocks * columns), *widths), parts))
    return options[-1] if options[-1][0] > TWO_BLOCKS * options[0][0] else options[0]


def _split(ratios: Sequence[float], blocks: int) -> list[list[int]]:
    """Split the rows, in order, into one block or two of about the same height."""
    rows = list(range(len(ratios)))
    if blocks == 1:
        return [rows]
    cut = min(rows[1:], key=lambda at: max(sum(ratios[:at]), sum(ratios[at:])))
    return [rows[:cut], rows[cut:]]


def _gallery_widths(whole: float, part: float, rows: int, across: int) -> tuple[float, float]:
    """Return the widths of image and crops for which both fill the page and end at the same height.

    2 · whole · first + GAP = rows · (part · width + GAP) − GAP, and first + across · width = what the gaps leave.
    """
    free = WIDTH - 2 * MARGIN - BLOCK_GAP - (across - 1) * GAP
    gaps = (rows - 2) * GAP
    width = (2 * whole * free - gaps) / (rows * part + 2 * whole * across)
    return free - across * width, width


def _draw_row(figure: Figure, sample: Sequence[Picture], dataset: SegmentationDataset, box: Box, scores: bool) -> None:
    image, label, *predictions = sample
    pictures = [to_picture(image), *(colorize(mask, dataset) for mask in (label, *predictions))]
    for number, pixels in enumerate(pictures):
        place = box._replace(left=box.left + number * (box.width + GAP))
        draw_picture(figure, place, pixels)
        if scores and number > 1:
            text = _score(sample[number], label, dataset)
            write_at(figure, text, place.left + place.width / 2, place.top + place.height + 0.02, "top")


def _score(prediction: Picture, label: Picture, dataset: SegmentationDataset) -> str:
    matrix = ConfusionMatrix(dataset.num_classes, dataset.ignore_index)
    matrix.update(*(torch.as_tensor(to_array(mask).astype(np.int64)) for mask in (prediction, label)))
    mean_iou = matrix.compute()["mean_iou"]
    return "all void" if np.isnan(mean_iou) else f"mean IoU {mean_iou:.2f}"


def _draw_headings(figure: Figure, texts: Sequence[str], left: float, top: float, width: float) -> None:
    for number, text in enumerate(texts):
        write_at(figure, text, left + number * (width + GAP) + width / 2, top + HEADING - 0.04, "bottom")


def draw_picture(figure: Figure, box: Box, pixels: np.ndarray) -> None:
    """Draw a picture, at its own proportions, into a box."""
    page_height = figure.get_figheight()
    corner = (box.left / WIDTH, 1 - (box.top + box.height) / page_height)
    axes = figure.add_axes((*corner, box.width / WIDTH, box.height / page_height))
    axes.imshow(pixels, interpolation="none")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set(visible=True, linewidth=0.4, color=DARK)


def write_at(figure: Figure, text: str, x: float, y: float, vertical: str) -> None:
    """Write at a point given in inches from the upper left corner."""
    figure.text(x / WIDTH, 1 - y / figure.get_figheight(), text, ha="center", va=vertical)
