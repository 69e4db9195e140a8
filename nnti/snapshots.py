"""What a network makes of a few fixed validation images while it trains: small, cheap, always the same ones."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnti.config import Experiment
from nnti.data import SegmentationDataset, evenly_spread
from nnti.data.images import reduced
from nnti.inference import predict

__all__ = ["Snapshot", "Snapshots"]

IMAGES = 3
LONGEST = 480  # pixels: what a screen shows; larger images would cost a training more than a look is worth


class Snapshot(NamedTuple):
    """An image and two label maps as pictures: uint8 (H, W, 3)."""

    image: np.ndarray
    truth: np.ndarray
    prediction: np.ndarray


class Snapshots:
    """A few images of a split, spread evenly and scaled so that their longer side is LONGEST pixels at most.

    Args:
        dataset: the split. experiment: its `precision` is used.
    """

    def __init__(self, dataset: SegmentationDataset, experiment: Experiment):
        self._precision = experiment.precision
        self._colors = np.full((256, 3), dataset.void_color, dtype=np.uint8)
        self._colors[: dataset.num_classes] = dataset.palette
        self._samples = [_reduced(*dataset[index]) for index in evenly_spread(len(dataset), IMAGES)]

    def take(self, model: nn.Module) -> list[Snapshot]:
        """Segment the images with the model as it is now; it is left in the mode that it came in."""
        found = []
        for image, label in self._samples:
            prediction = predict(model, image, precision=self._precision)
            found.append(Snapshot(image.permute(1, 2, 0).numpy(), self._colors[label], self._colors[prediction]))
        return found


def _reduced(image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Scale a sample down, uint8 (3, H, W) and (H, W), to LONGEST pixels at most."""
    image = reduced(image, LONGEST)
    label = F.interpolate(label[None, None].float(), image.shape[1:], mode="nearest-exact")[0, 0]
    return image, label.to(torch.uint8)
