"""Errors of a trained network: confused classes, per image, and by distance to boundaries and void."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.ndimage import distance_transform_edt
from torch import nn

from nnti.data import SegmentationDataset
from nnti.data.base import IGNORE_INDEX
from nnti.data.check import check_measurable, warn_of_unmeasured
from nnti.device import commit, versions
from nnti.inference.image import predict
from nnti.metrics import confusion, scores
from nnti.progress import progress_bar

FARTHEST = 40  # pixels: distances from here on are counted together
LEFT_OUT = (0, 1, 2, 3, 4, 6, 8, 12, 16)  # pixels: widths of the band that is left out of the mean IoU
NEAR = 3  # pixels: distance that counts as near a boundary or void
NEAREST = {"boundary": 0, "void": 1}  # distance of the nearest labelled pixel: on the boundary itself, next to void


def analyze(
    model: nn.Module, checkpoint: dict[str, Any], dataset: SegmentationDataset, progress: bool = True
) -> dict[str, Any]:
    """Segment the images of a data set, each at its own size, and count the errors.

    `checkpoint`: as `nnti.models.saved.load_model` returns it beside the model.

    Returns `ErrorCounts.summary` with `epoch`, `commit` and `versions`.
    """
    check_measurable(dataset)
    errors, precision = ErrorCounts(dataset), checkpoint["experiment"]["precision"]
    for index in progress_bar(range(len(dataset)), desc="errors", unit="img", leave=False, disable=not progress):
        image, label = dataset[index]
        prediction = predict(model, image, precision=precision)
        errors.add(dataset.image_name(dataset.files[index][0]), prediction.numpy(), label.numpy())
    warn_of_unmeasured(errors.matrix.sum(1), dataset, "full")
    return {"epoch": checkpoint["epoch"], "commit": commit(), "versions": versions(), **errors.summary()}


@dataclass
class ErrorCounts:
    """Sums over images; distances are between the centres of pixels, in pixels, of the label at its own size."""

    dataset: SegmentationDataset
    images: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self):
        classes = self.dataset.num_classes
        self.matrix = np.zeros((classes, classes), np.int64)
        self.beyond = {kind: np.zeros((len(LEFT_OUT), classes, classes), np.int64) for kind in NEAREST}
        self.by_distance = {kind: np.zeros((2, FARTHEST + 1), np.int64) for kind in NEAREST}  # pixels, errors
        self.beside = np.zeros((2, 2, 2), np.int64)  # near a boundary, near void → pixels, errors
        self.in_void = np.zeros(classes, np.int64)
        self.void_continued = 0

    def add(self, name: str, prediction: np.ndarray, label: np.ndarray) -> None:
        """Count an image: class numbers (H, W) each."""
        void = label == IGNORE_INDEX
        if void.all():
            return
        matrix = confusion(prediction, label, self.dataset.num_classes)
        self.matrix += matrix
        measured = {metric: scores(matrix)[metric] for metric in ("mean_iou", "pixel_accuracy")}
        self.images.append({"image": name, **measured, "void": float(void.mean())})
        distances = {"boundary": _distance(boundary_mask(label, void)), "void": _distance(void)}
        beside = 2 * (distances["boundary"] < NEAR) + (distances["void"] <= NEAR)
        for number, chosen in enumerate((~void, ~void & (prediction != label))):  # pixels, errors
            self.beside[..., number] += np.bincount(beside[chosen], minlength=4).reshape(2, 2)
            for kind, distance in distances.items():
                bins = np.minimum(distance[chosen], FARTHEST).astype(np.int64)
                self.by_distance[kind][number] += np.bincount(bins, minlength=FARTHEST + 1)
        for kind, first in NEAREST.items():
            for row, width in enumerate(LEFT_OUT):
                kept = np.where(distances[kind] < first + width, IGNORE_INDEX, label)
                self.beyond[kind][row] += confusion(prediction, kept, self.dataset.num_classes)
        if void.any():
            self.in_void += np.bincount(prediction[void], minlength=self.dataset.num_classes)
            nearest = distance_transform_edt(void, return_distances=False, return_indices=True)
            self.void_continued += int((prediction == label[tuple(nearest)])[void].sum())

    def summary(self) -> dict[str, Any]:
        """Return all counts and the scores from them, ready for JSON.

        `matrix`: row = truth, column = prediction. `images`: by name. For `boundary` and `void`: `pixels` and `errors`
        by distance 0, 1, … `FARTHEST` and more, and `mean_iou_beyond`, the mean IoU where a band of each width in
        `LEFT_OUT` is left out. `beside`: pixels and errors, by whether the pixel lies within `NEAR` pixels of a
        boundary and of void. `in_void`: the classes predicted where the label is void, and in how many of these
        pixels the prediction is the class of the nearest labelled pixel.
        """
        near = {
            kind: {
                "pixels": pixels.tolist(),
                "errors": errors.tolist(),
                "mean_iou_beyond": [scores(matrix)["mean_iou"] for matrix in self.beyond[kind]],
            }
            for kind, (pixels, errors) in self.by_distance.items()
        }
        beside = [
            {"near_boundary": bool(boundary), "near_void": bool(void), "pixels": int(pixels), "errors": int(errors)}
            for boundary, row in enumerate(self.beside)
            for void, (pixels, errors) in enumerate(row)
        ]
        return {
            "data": self.dataset.title,
            "split": self.dataset.split,
            "protocol": "full",
            "class_names": list(self.dataset.class_names),
            "mean_iou": scores(self.matrix)["mean_iou"],
            "matrix": self.matrix.tolist(),
            "images": self.images,
            "left_out": list(LEFT_OUT),
            "near": NEAR,
            **near,
            "beside": beside,
            "in_void": {
                "pixels": int(self.in_void.sum()),
                "predicted": self.in_void.tolist(),
                "as_nearest_class": self.void_continued,
            },
        }


def boundary_mask(label: np.ndarray, void: np.ndarray) -> np.ndarray:
    """Return the pixels of a label (H, W) with one of their four neighbours in another class; void is not a class."""
    mask = np.zeros(label.shape, dtype=bool)
    for classes, unknown, found in ((label, void, mask), (label.T, void.T, mask.T)):
        differs = (classes[1:] != classes[:-1]) & ~unknown[1:] & ~unknown[:-1]
        found[1:] |= differs
        found[:-1] |= differs
    return mask


def _distance(mask: np.ndarray) -> np.ndarray:
    """Return each pixel's distance to the nearest of `mask`, 0 on it; infinite where the mask is empty."""
    return distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, np.inf)
