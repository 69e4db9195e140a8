"""Label maps as colour pictures: uint8 arrays (H, W, 3) that any viewer shows."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.patches import Patch
from torch import Tensor

from nnti.data import SegmentationDataset
from nnti.data.base import IGNORE_INDEX
from nnti.figures.style import DARK

__all__ = ["Classes", "class_handles", "colorize", "overlay", "to_array", "to_picture", "void_color"]

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
