"""The training loss: pixel-wise cross entropy, void left out."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["CrossEntropy", "LossSum", "enet_class_weights"]


class LossSum(NamedTuple):
    """A loss before its division, so that sums over a whole split can be accumulated first.

    Attributes:
        total: weighted sum over pixels, scalar. weight: sum of the pixels' weights, scalar.
    """

    total: Tensor
    weight: Tensor

    @property
    def mean(self) -> Tensor:
        """The loss to minimise; 0 (not NaN) where every pixel is void."""
        return self.total / self.weight.clamp_min(1e-12)


class CrossEntropy(nn.Module):
    """Cross entropy of logits (B, C, H, W) against labels (B, H, W), optionally with one weight per class."""

    def __init__(self, class_weights: np.ndarray | None = None, ignore_index: int = 255):
        super().__init__()
        weights = None if class_weights is None else torch.as_tensor(class_weights, dtype=torch.float32)
        self.register_buffer("class_weights", weights)
        self.ignore_index = ignore_index

    def forward(self, logits: Tensor, label: Tensor) -> LossSum:
        """Return the sum over pixels and the sum of weights that it is to be divided by."""
        total = F.cross_entropy(
            logits.float(), label, self.class_weights, ignore_index=self.ignore_index, reduction="sum"
        )
        valid = label != self.ignore_index
        if self.class_weights is None:
            return LossSum(total, valid.sum().float())
        return LossSum(total, (self.class_weights[label.where(valid, 0)] * valid).sum())


def enet_class_weights(pixels_per_class: np.ndarray) -> np.ndarray:
    """Return the ENet paper's class weights 1/ln(1.02 + p), p = a class's share of all pixels; in 1.42 … 50.5."""
    share = pixels_per_class / max(1, pixels_per_class.sum())
    return 1 / np.log(1.02 + share)
