"""What can be laid over an image: classes, errors, how sure the network is. Arrays in, arrays out."""

from collections.abc import Collection
from dataclasses import dataclass

import matplotlib
import numpy as np
import torch
from torch import Tensor

from nnti.data import SegmentationDataset
from nnti.figures.masks import Classes, void_color

__all__ = ["LAYERS", "Layer", "Segmented", "class_layer", "error_layer", "share_layer"]

LAYERS = ("truth", "prediction", "errors", "confidence", "entropy")
WRONG = (255, 40, 40)
COLORMAP = "viridis"


@dataclass(frozen=True)
class Layer:
    """A map of values and what they look like.

    Attributes:
        values: uint8 (H, W). colors: uint8 (256, 3). alphas: uint8 (256,), 255 is opaque.
    """

    values: np.ndarray
    colors: np.ndarray
    alphas: np.ndarray


class Segmented:
    """Class probabilities of an image, float32 (C, H, W) on any device, and what follows from them.

    Attributes: `prediction`, uint8 (H, W); `confidence`, the probability of the predicted class, float32 (H, W);
    `entropy`, −Σ p ln p / ln C, float32 (H, W): 0 is sure, 1 knows nothing.
    """

    def __init__(self, probabilities: Tensor):
        confidence, prediction = probabilities.max(0)
        entropy = -torch.special.xlogy(probabilities, probabilities).sum(0) / np.log(len(probabilities))
        self._probabilities = probabilities.cpu().numpy()
        self.prediction = prediction.to("cpu", torch.uint8).numpy()
        self.confidence, self.entropy = confidence.cpu().numpy(), entropy.clamp(0, 1).cpu().numpy()

    def at(self, x: int, y: int) -> np.ndarray:
        """Return the class probabilities of a pixel, float32 (C,)."""
        return self._probabilities[:, y, x]


def class_layer(mask: np.ndarray, classes: SegmentationDataset | Classes, shown: Collection[int]) -> Layer:
    """Colour the classes in `shown`, and void always, of a mask of class numbers, uint8 (H, W)."""
    colors, alphas = np.zeros((256, 3), np.uint8), np.zeros(256, np.uint8)
    colors[: classes.num_classes], colors[classes.ignore_index] = classes.palette, void_color(classes)
    alphas[[*shown, classes.ignore_index]] = 255
    return Layer(mask, colors, alphas)


def error_layer(
    prediction: np.ndarray, truth: np.ndarray, classes: SegmentationDataset | Classes, shown: Collection[int]
) -> Layer:
    """Colour the pixels that are wrong and whose true class is in `shown`; void cannot be wrong."""
    counted = np.isin(truth, np.array([*shown], dtype=np.uint8))
    colors, alphas = np.zeros((256, 3), np.uint8), np.zeros(256, np.uint8)
    colors[1], alphas[1] = WRONG, 255
    return Layer(((prediction != truth) & counted & (truth != classes.ignore_index)).astype(np.uint8), colors, alphas)


def share_layer(values: np.ndarray) -> Layer:
    """Colour a map of values between 0 and 1, from dark violet to yellow."""
    colors = (matplotlib.colormaps[COLORMAP](np.arange(256))[:, :3] * 255).round().astype(np.uint8)
    return Layer((values * 255).round().astype(np.uint8), colors, np.full(256, 255, np.uint8))
