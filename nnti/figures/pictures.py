"""Label maps in colour, and pictures side by side: image / ground truth / prediction, augmented crops, a photo.

Pictures are placed by hand, in inches from the upper left corner, so that rows of different shapes leave no gaps.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from torch import Tensor

from nnti.data import SegmentationDataset
from nnti.data.base import IGNORE_INDEX
from nnti.figures.style import DARK, WIDTH, bare_page, draw_legend, legend_height, styled
from nnti.metrics import confusion, scores

# for void, if the data set's own colour is too close to a class's
NEUTRAL = ((255, 255, 255), (0, 0, 0), (210, 210, 210))
ALPHA = 0.55  # share of the mask's colour in an overlay
DISTINCT = 100  # distance in RGB at which two colours differ at a glance in a small picture


@dataclass(frozen=True)
class Classes:
    """The classes of a network, for pictures where its data set is not available."""

    title: str
    class_names: Sequence[str]
    palette: Sequence[Sequence[int]]
    void_color: tuple[int, int, int] = SegmentationDataset.void_color

    @classmethod
    def of(cls, checkpoint: dict) -> "Classes":
        """Return the classes of a checkpoint's network."""
        return cls(checkpoint["experiment"]["dataset"], checkpoint["class_names"], checkpoint["palette"])

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)


Known = SegmentationDataset | Classes  # gives names and colours of classes
Picture = Tensor | np.ndarray


def colorize(mask: Picture, dataset: Known) -> np.ndarray:
    """Paint class numbers (H, W) in the data set's colours: uint8 (H, W, 3), void in `void_color(dataset)`.

    Raises ValueError for a value that is neither a class nor void.
    """
    mask = to_array(mask)
    if mask.ndim != 2 or not np.issubdtype(mask.dtype, np.integer):
        raise ValueError(f"mask {mask.shape} {mask.dtype} must be class numbers (H, W); of logits take argmax(0)")
    values = np.unique(mask)
    wrong = values[(values != IGNORE_INDEX) & ((values < 0) | (values >= dataset.num_classes))]
    if len(wrong):
        raise ValueError(
            f"the mask holds {wrong.tolist()}; {dataset.title} has classes 0 to {dataset.num_classes - 1} "
            f"and {IGNORE_INDEX} for void"
        )
    colors = np.empty((256, 3), dtype=np.uint8)
    colors[: dataset.num_classes] = dataset.palette
    colors[IGNORE_INDEX] = void_color(dataset)
    return colors[mask]


def overlay(image: Picture, mask: Picture, dataset: Known) -> np.ndarray:
    """Lay the colours of a mask (H, W) over an image (3, H, W) with values 0 … 255: uint8 (H, W, 3)."""
    return ((1 - ALPHA) * to_picture(image) + ALPHA * colorize(mask, dataset)).round().astype(np.uint8)


def void_color(dataset: Known) -> tuple[int, int, int]:
    """Return the colour of unlabelled pixels: the data set's own, or a neutral one if a class's is close to it.

    CamVid's own, black, is close to the dark olive of its pedestrians and is replaced by white.
    """
    palette = np.asarray(dataset.palette, dtype=float)

    def distance(color: tuple[int, int, int]) -> float:
        return np.linalg.norm(palette - color, axis=1).min()

    own = tuple(dataset.void_color)
    return own if distance(own) >= DISTINCT else max(NEUTRAL, key=distance)


def to_array(values: Picture) -> np.ndarray:
    """Return a tensor, on whatever device, or an array as an array."""
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def to_picture(image: Picture) -> np.ndarray:
    """Return an image (3, H, W) with values 0 … 255, integer or not, as uint8 (H, W, 3)."""
    return np.clip(np.round(to_array(image)), 0, 255).astype(np.uint8).transpose(1, 2, 0)


MARGIN, GAP, BLOCK_GAP = 0.06, 0.06, 0.2  # inches: page border, between pictures, between two blocks of rows
HEADING, CAPTION = 0.19, 0.18  # inches: the line above a column, the line below a picture
ROOM = 8.6  # inches that the rows of pictures may take together: with title and legend they still fit a page
TALLEST = 1.5  # height / width beyond which a picture is drawn narrower than its column


@styled
def triptychs(
    samples: Sequence[tuple[Picture, ...]],
    dataset: SegmentationDataset,
    title: str,
    columns: Sequence[str] = ("image", "ground truth", "prediction"),
) -> Figure:
    """Show a row per sample: its image, its labels and one or more predictions, in the data set's colours.

    Below each prediction stands its mean IoU over the classes that occur in that image or its prediction. The legend
    lists the classes that occur in the labels and predictions shown. Rows go into one block, or into two
    side by side where the pictures are larger then.

    Args:
        samples: (image uint8 (3, H, W), label (H, W), prediction (H, W), …) each; sizes may differ between samples.
        columns: a heading for each picture of a row.
    """
    handles = _class_handles([mask for sample in samples for mask in sample[1:]], dataset)
    ratios = [min(TALLEST, sample[1].shape[0] / sample[1].shape[1]) for sample in samples]
    layouts = [_blocks(ratios, len(columns), number) for number in (1, 2)[: len(samples)]]
    width, blocks = max(layouts, key=lambda layout: layout[0])
    height = HEADING + max(sum(ratios[row] * width + CAPTION for row in block) for block in blocks)
    figure, above = bare_page(height, title, below=legend_height(handles))
    across = len(columns) * (width + GAP) - GAP
    left = (WIDTH - len(blocks) * (across + BLOCK_GAP) + BLOCK_GAP) / 2
    for block in blocks:
        for number, text in enumerate(columns):
            write_at(figure, text, left + number * (width + GAP) + width / 2, above + HEADING - 0.04, "bottom")
        top = above + HEADING
        for row in block:
            _draw_row(figure, samples[row], dataset, (left, top, width, ratios[row] * width))
            top += ratios[row] * width + CAPTION
        left += across + BLOCK_GAP
    draw_legend(figure, handles)
    return figure


@styled
def segmented_photo(image: Picture, prediction: Picture, dataset: Known, title: str) -> Figure:
    """Show a picture without labels beside the same picture with the predicted classes laid over it.

    `image`: uint8 (3, H, W); `prediction`: class numbers (H, W); `dataset`: of a checkpoint `Classes.of(checkpoint)`.
    """
    handles = _class_handles([prediction], dataset)
    ratio = prediction.shape[0] / prediction.shape[1]
    width = min((WIDTH - 2 * MARGIN - GAP) / 2, ROOM / ratio)
    figure, above = bare_page(ratio * width + GAP, title, below=legend_height(handles))
    left = (WIDTH - 2 * width - GAP) / 2
    for pixels in (to_picture(image), overlay(image, prediction, dataset)):
        draw_picture(figure, pixels, left, above, width, ratio * width)
        left += width + GAP
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
    """
    handles = _class_handles([label, *(mask for _, mask in crops)], dataset)
    rows = 1 if len(crops) < 3 else 2 if len(crops) <= 8 else 3
    across = -(-len(crops) // rows)
    whole, part = (mask.shape[0] / mask.shape[1] for mask in (label, crops[0][1]))  # height / width
    # widths with which both sides fill the page and end at the same height:
    # 2 · whole · first + GAP = rows · (part · width + GAP) − GAP, and first + across · width = free
    free = WIDTH - 2 * MARGIN - BLOCK_GAP - (across - 1) * GAP
    width = (2 * whole * free - (rows - 2) * GAP) / (rows * part + 2 * whole * across)
    first = free - across * width
    figure, above = bare_page(HEADING + 2 * (whole * first + GAP), title, below=legend_height(handles))
    top, left = above + HEADING, MARGIN + first + BLOCK_GAP
    write_at(figure, "image, labels", MARGIN + first / 2, top - 0.04, "bottom")
    write_at(figure, "augmented crops with labels", (left + WIDTH - MARGIN) / 2, top - 0.04, "bottom")
    draw_picture(figure, to_picture(image), MARGIN, top, first, whole * first)
    draw_picture(figure, colorize(label, dataset), MARGIN, top + whole * first + GAP, first, whole * first)
    for number, (crop, mask) in enumerate(crops):
        row, column = divmod(number, across)
        place = (left + column * (width + GAP), top + row * (part * width + GAP), width, part * width)
        draw_picture(figure, overlay(crop, mask, dataset), *place)
    draw_legend(figure, handles)
    return figure


def draw_picture(figure: Figure, pixels: np.ndarray, left: float, top: float, width: float, height: float) -> None:
    """Draw a picture, at its own proportions, into a rectangle given in inches from the upper left corner."""
    page_height = figure.get_figheight()
    axes = figure.add_axes((left / WIDTH, 1 - (top + height) / page_height, width / WIDTH, height / page_height))
    axes.imshow(pixels, interpolation="none")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    axes.spines[:].set(visible=True, linewidth=0.4, color=DARK)


def write_at(figure: Figure, text: str, x: float, y: float, vertical: str, **options: bool) -> None:
    """Write at a point given in inches from the upper left corner."""
    figure.text(x / WIDTH, 1 - y / figure.get_figheight(), text, ha="center", va=vertical, **options)


def _class_handles(masks: Sequence[Picture], dataset: Known) -> list[Patch]:
    """Return legend entries of the classes that occur in `masks`, in class order, then of void if it occurs."""
    present = {int(value) for mask in masks for value in np.unique(to_array(mask))}
    entries = [(dataset.palette[n], dataset.class_names[n]) for n in sorted(present - {IGNORE_INDEX})]
    if IGNORE_INDEX in present:
        entries.append((void_color(dataset), "void"))
    style = {"edgecolor": DARK, "linewidth": 0.6}
    return [Patch(facecolor=np.asarray(color) / 255, label=name, **style) for color, name in entries]


def _blocks(ratios: Sequence[float], columns: int, number: int) -> tuple[float, list[range]]:
    """Return the pictures' width in inches if the rows stand in `number` blocks, and the rows of each block."""
    half = -(-len(ratios) // number)
    blocks = [range(len(ratios))[start : start + half] for start in range(0, len(ratios), half)]
    free = WIDTH - 2 * MARGIN - number * (columns - 1) * GAP - (number - 1) * BLOCK_GAP
    tallest = max(sum(ratios[row] for row in block) for block in blocks)
    return min(free / (number * columns), (ROOM - half * CAPTION) / tallest), blocks


def _draw_row(figure: Figure, sample: Sequence[Picture], dataset: SegmentationDataset, box: tuple) -> None:
    left, top, width, height = box
    image, label, *predictions = sample
    for number, pixels in enumerate([to_picture(image), *(colorize(mask, dataset) for mask in (label, *predictions))]):
        draw_picture(figure, pixels, left, top, width, height)
        if number > 1:
            text = _score(sample[number], label, dataset)
            write_at(figure, text, left + width / 2, top + height + 0.02, "top")
        left += width + GAP


def _score(prediction: Picture, label: Picture, dataset: SegmentationDataset) -> str:
    mean_iou = scores(confusion(prediction, label, dataset.num_classes))["mean_iou"]
    return "all void" if np.isnan(mean_iou) else f"mean IoU {mean_iou:.2f}"
