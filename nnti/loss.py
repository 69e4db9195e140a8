"""The training loss: pixel-wise cross entropy, void left out."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnti.data import SegmentationDataset, class_frequencies
from nnti.data.base import IGNORE_INDEX
from nnti.experiment import Experiment
from nnti.models.blocks import Outputs, final_logits, full_size_parts, most_likely


class LossSum(NamedTuple):
    """Sums of a loss before the division, to be accumulated over a whole split.

    Attributes:
        total: weighted sum over pixels, scalar. weight: sum of the pixels' weights, scalar.
        auxiliary: what an auxiliary head adds to `total` in training, scalar.
        prediction: most likely class of each pixel, integers (B, H, W), from the same full-size logits.
    """

    total: Tensor
    weight: Tensor
    auxiliary: Tensor | float = 0.0
    prediction: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """The loss of the network's final output; 0 (not NaN) where every pixel is void."""
        return self.total / self.weight.clamp_min(1e-12)

    @property
    def objective(self) -> Tensor:
        """The loss to minimise: `mean` plus the share of an auxiliary head."""
        return (self.total + self.auxiliary) / self.weight.clamp_min(1e-12)

    def plus(self, other: "LossSum") -> "LossSum":
        """Return the sum over both, without a graph."""
        return LossSum(self.total + other.total.detach(), self.weight + other.weight)


class CrossEntropy(nn.Module):
    """Cross entropy of a network's outputs against labels (B, H, W).

    Args:
        class_weights: one weight per class; None: all 1.
        auxiliary_weight: share of an auxiliary head's cross entropy (PSPNet paper, section 4: 0.4).
    """

    def __init__(self, class_weights: np.ndarray | None = None, auxiliary_weight: float = 0.4):
        super().__init__()
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights)
        self.auxiliary_weight = auxiliary_weight

    def forward(self, outputs: Tensor | Outputs, label: Tensor) -> LossSum:
        """Return the sums over pixels and the sum of weights to divide them by.

        `outputs` are logits (B, C, H, W), or `Outputs` of a network with an auxiliary head, of any size.
        """
        totals, predictions = [], []
        for logits, truth in full_size_parts(final_logits(outputs), label):
            totals.append(self._total(logits, truth))
            predictions.append(most_likely(logits.detach()))
        auxiliary = 0.0
        if isinstance(outputs, Outputs):
            parts = full_size_parts(outputs.auxiliary, label)
            auxiliary = self.auxiliary_weight * sum(self._total(*part) for part in parts)
        return LossSum(sum(totals), self._weight(label), auxiliary, torch.cat(predictions))

    def _total(self, logits: Tensor, label: Tensor) -> Tensor:
        return F.cross_entropy(logits, label, self.class_weights, ignore_index=IGNORE_INDEX, reduction="sum")

    def _weight(self, label: Tensor) -> Tensor:
        valid = label != IGNORE_INDEX
        if self.class_weights is None:
            return valid.sum().float()
        return (self.class_weights[label.where(valid, 0)] * valid).sum()


def build_loss(
    experiment: Experiment, train_data: SegmentationDataset, progress: bool = True, class_weights=None
) -> CrossEntropy:
    """Return the loss of an experiment; class weights, if not given, come from the training split's pixel counts."""
    if class_weights is None and experiment.class_weighting == "enet":
        class_weights = enet_class_weights(class_frequencies(train_data, progress=progress))
    return CrossEntropy(class_weights, experiment.auxiliary_weight)


def enet_class_weights(pixels_per_class: np.ndarray) -> np.ndarray:
    """Return the ENet paper's class weights 1/ln(1.02 + p), p = a class's share of all pixels; in 1.42 … 50.5."""
    share = pixels_per_class / max(1, pixels_per_class.sum())
    return 1 / np.log(1.02 + share)
