"""The report's five metrics, all from one confusion matrix over the whole split: accumulate, then divide."""

from typing import Any

import numpy as np
import torch
from torch import Tensor

from nnti.data.base import IGNORE_INDEX

# the metrics of the 2021 report, and their names in figures
METRICS = {
    "mean_iou": "mean IoU",
    "dice": "Dice",
    "f1": "F1",
    "pixel_accuracy": "pixel accuracy",
    "mean_pixel_accuracy": "mean pixel accuracy",
    "sensitivity": "sensitivity",
}


class ConfusionMatrix:
    """Count (truth, prediction) pairs of pixels; void pixels are left out.

    Counts stay on the device of the first update, and no update waits for that device.
    """

    def __init__(self, num_classes: int):
        self.num_classes = num_classes
        self._counts = torch.zeros(num_classes**2 + 2, dtype=torch.int64)  # the matrix, then void, then invalid

    def update(self, prediction: Tensor, label: Tensor) -> None:
        """Add the pixels of `prediction` and `label`: class numbers, integer tensors or arrays of one shape, any shape.

        Raises ValueError for tensors of different shapes and for class numbers out of range: at once on the CPU, in
        `compute` on other devices, where reading a value would make the host wait.
        """
        prediction, label = torch.as_tensor(prediction), torch.as_tensor(label)
        if prediction.shape != label.shape or prediction.is_floating_point():
            raise ValueError(
                f"prediction {tuple(prediction.shape)} {prediction.dtype} and label {tuple(label.shape)} must be class "
                "numbers of one shape; for logits (B, C, H, W) pass logits.argmax(1)"
            )
        n = self.num_classes
        prediction, label = prediction.long().flatten(), label.to(prediction.device).long().flatten()
        valid = (label >= 0) & (label < n) & (prediction >= 0) & (prediction < n)
        cell = torch.where(valid, label * n + prediction, n * n + 1)
        cell = torch.where(label == IGNORE_INDEX, n * n, cell)
        self._counts = self._counts.to(cell.device)
        if cell.device.type == "cpu":
            self._counts += torch.bincount(cell, minlength=len(self._counts))
            self._check()
        else:
            add_without_waiting(self._counts, cell)

    def _check(self) -> None:
        invalid = int(self._counts[-1])
        if invalid:
            self._counts[-1] = 0
            raise ValueError(
                f"{invalid} pixels have a label or prediction that is neither in 0 … {self.num_classes - 1} nor "
                f"ignore_index {IGNORE_INDEX}; reading them through a data set names the file"
            )

    def counts(self) -> Tensor:
        """Return everything counted so far, int64 (num_classes² + 2,), for `restore`."""
        return self._counts.clone()

    def restore(self, counts: Tensor) -> None:
        """Continue from what `counts` returned elsewhere; it moves to the device of the next update."""
        self._counts = counts.clone()

    def matrix(self) -> np.ndarray:
        """Return the counts, int64 (num_classes, num_classes): row = truth, column = prediction."""
        self._check()
        return self._counts[:-2].view(self.num_classes, self.num_classes).cpu().numpy()

    def compute(self) -> dict[str, Any]:
        """Return all metrics so far; see `scores`."""
        return scores(self.matrix())


def confusion(prediction: Tensor, label: Tensor, num_classes: int) -> np.ndarray:
    """Return the confusion matrix of one image; arguments as for `ConfusionMatrix.update`."""
    matrix = ConfusionMatrix(num_classes)
    matrix.update(prediction, label)
    return matrix.matrix()


def scores(matrix: np.ndarray) -> dict[str, Any]:
    """Compute the metrics of a confusion matrix (row = truth, column = prediction).

    With TP, FP and FN per class: IoU = TP/(TP+FP+FN), Dice = F1 = 2TP/(2TP+FP+FN) (for hard labels they are one
    number), sensitivity = per-class accuracy = TP/(TP+FN); pixel accuracy = ΣTP/Σpixels. A quantity that is 0/0 for a
    class is NaN and stays out of the mean.

    Returns a mapping with the means `mean_iou, dice, f1, pixel_accuracy, mean_pixel_accuracy, sensitivity` (floats) and
    the arrays `iou_per_class, dice_per_class, sensitivity_per_class` (float64) and `pixels_per_class` (int64, truth).
    """
    hit = np.diag(matrix).astype(np.float64)
    truth, predicted = matrix.sum(1), matrix.sum(0)
    iou = _divide(hit, truth + predicted - hit)
    dice = _divide(2 * hit, truth + predicted)
    sensitivity = _divide(hit, truth)
    return {
        "mean_iou": _mean(iou),
        "dice": _mean(dice),
        "f1": _mean(dice),
        "pixel_accuracy": float(_divide(hit.sum(), matrix.sum())),
        "mean_pixel_accuracy": _mean(sensitivity),
        "sensitivity": _mean(sensitivity),
        "iou_per_class": iou,
        "dice_per_class": dice,
        "sensitivity_per_class": sensitivity,
        "pixels_per_class": truth,
    }


def add_without_waiting(counts: Tensor, cell: Tensor) -> None:
    """Count cells on a GPU without bincount, which waits for the largest value.

    Additions to the same address are serialised, and most pixels fall into a few cells, so neighbouring pixels use
    different copies of the table.
    """
    copies = 64
    table = counts.new_zeros(copies, len(counts))
    copy = torch.arange(len(cell), device=cell.device) % copies
    table.view(-1).scatter_add_(0, copy * len(counts) + cell, torch.ones_like(cell))
    counts += table.sum(0)


def _divide(numerator, denominator) -> np.ndarray:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.true_divide(numerator, denominator)


def _mean(values: np.ndarray) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else float("nan")
