"""Where a trained network errs: classes taken for others, images, how near to a boundary or to void."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from nnti.data import SegmentationDataset
from nnti.device import commit, resolve_device, versions
from nnti.experiment import Experiment
from nnti.inference.image import predict
from nnti.loaders import load_split
from nnti.metrics import ConfusionMatrix, scores
from nnti.models.saved import check_classes, load_model
from nnti.progress import progress_bar
from nnti.training.run_folder import RunFolder

__all__ = ["ErrorCounts", "FARTHEST", "LEFT_OUT", "NEAR", "analyze", "boundary_mask"]


FARTHEST = 40  # pixels: distances from here on are counted together
LEFT_OUT = (0, 1, 2, 3, 4, 6, 8, 12, 16)  # pixels: widths of the band that is left out of the mean IoU
NEAR = 3  # pixels: what counts as beside a boundary or beside void


def analyze(run: RunFolder, split: str | None = None, progress: bool = True) -> dict[str, Any]:
    """Segment a split with a run's best checkpoint, every image whole at its own size, and count the errors.

    Returns what `ErrorCounts.summary` says, with `run`, `split`, `epoch`, `commit` and `versions`.
    """
    model, checkpoint = load_model(run.best, resolve_device())
    experiment = Experiment.from_dict(checkpoint["experiment"])
    dataset = load_split(experiment, split or experiment.val_split, None if split else experiment.val_limit)
    check_classes(checkpoint, dataset, run.best)
    errors = ErrorCounts(dataset)
    for index in progress_bar(range(len(dataset)), desc=f"{run.path.name}: errors", leave=False, disable=not progress):
        image, label = dataset[index]
        prediction = predict(model, image, precision=experiment.precision)
        errors.add(dataset.image_name(dataset.files[index][0]), prediction.cpu().numpy(), label.numpy())
    return {
        "run": run.path.resolve().name,
        "epoch": checkpoint["epoch"],
        "commit": commit(),
        "versions": versions(),
        **errors.summary(),
    }


@dataclass
class ErrorCounts:
    """Sums over images; a distance is that between centres of pixels, in pixels, of the label at its own size.

    Args:
        dataset: gives classes and `ignore_index`.
    """

    dataset: SegmentationDataset
    images: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self):
        classes = self.dataset.num_classes
        self.matrix = np.zeros((classes, classes), dtype=np.int64)
        self.beyond = {kind: np.zeros((len(LEFT_OUT), classes, classes), np.int64) for kind in ("boundary", "void")}
        self.by_distance = {kind: np.zeros((2, FARTHEST + 1), np.int64) for kind in ("boundary", "void")}
        self.beside = np.zeros((2, 2, 2), np.int64)  # near a boundary, near void → pixels, errors
        self.in_void = np.zeros(classes, np.int64)
        self.void_continued = 0

    def add(self, name: str, prediction: np.ndarray, label: np.ndarray) -> None:
        """Count an image: class numbers (H, W) each."""
        void = label == self.dataset.ignore_index
        if void.all():
            return
        valid, wrong = ~void, (prediction != label) & ~void
        matrix = self._count(prediction, label)
        self.matrix += matrix
        measured = scores(matrix)
        self.images.append(
            {"image": name, "mean_iou": measured["mean_iou"], "pixel_accuracy": measured["pixel_accuracy"],
             "void": float(void.mean())}
        )  # fmt: skip
        distances = {"boundary": _distance(boundary_mask(label, void)), "void": _distance(void)}
        for kind, distance in distances.items():
            # distance 0 is the boundary itself; the pixels next to void have distance 1
            first = 0 if kind == "boundary" else 1
            bins = np.minimum(distance, FARTHEST).astype(np.int64)
            for row, chosen in enumerate((valid, wrong)):
                self.by_distance[kind][row] += np.bincount(bins[chosen], minlength=FARTHEST + 1)
            for row, width in enumerate(LEFT_OUT):
                kept = np.where(distance < first + width, self.dataset.ignore_index, label)
                self.beyond[kind][row] += self._count(prediction, kept)
        self._count_beside(distances, valid, wrong)
        self._count_void(prediction, label, void)

    def _count(self, prediction: np.ndarray, label: np.ndarray) -> np.ndarray:
        matrix = ConfusionMatrix(self.dataset.num_classes, self.dataset.ignore_index)
        matrix.update(torch.from_numpy(prediction.astype(np.int64)), torch.from_numpy(label.astype(np.int64)))
        return matrix.matrix()

    def _count_beside(self, distances: dict[str, np.ndarray], valid: np.ndarray, wrong: np.ndarray) -> None:
        near_boundary, near_void = distances["boundary"] < NEAR, distances["void"] <= NEAR
        for first, boundary in enumerate((~near_boundary, near_boundary)):
            for second, beside in enumerate((~near_void, near_void)):
                self.beside[first, second] += [(boundary & beside & valid).sum(), (boundary & beside & wrong).sum()]

    def _count_void(self, prediction: np.ndarray, label: np.ndarray, void: np.ndarray) -> None:
        self.in_void += np.bincount(prediction[void].astype(np.int64), minlength=self.dataset.num_classes)
        if void.any():
            nearest = distance_transform_edt(void, return_distances=False, return_indices=True)
            self.void_continued += int((prediction == label[tuple(nearest)])[void].sum())

    def summary(self) -> dict[str, Any]:
        """Return all counts and what follows from them, ready for JSON.

        `matrix`: row = truth, column = prediction. `images`: by name. For `boundary` and `void`: `pixels` and `errors`
        by distance 0, 1, … `FARTHEST` and more, and `mean_iou_beyond`, the mean IoU where a band of each width in
        `LEFT_OUT` is left out. `beside`: pixels and errors, by whether the pixel lies within `NEAR` pixels of a
        boundary and of void. `in_void`: the classes predicted where the label is void, and in how many of these
        pixels the prediction is the class of the nearest labelled pixel.
        """
        near = {
            kind: {
                "pixels": self.by_distance[kind][0].tolist(),
                "errors": self.by_distance[kind][1].tolist(),
                "mean_iou_beyond": [scores(matrix)["mean_iou"] for matrix in self.beyond[kind]],
            }
            for kind in self.by_distance
        }
        beside = [
            {"near_boundary": bool(first), "near_void": bool(second)}
            | dict(zip(("pixels", "errors"), self.beside[first, second].tolist(), strict=True))
            for first, second in np.ndindex(2, 2)
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
    """Return which pixels of a label (H, W) have a neighbour, of the four, of another class; void is no class."""
    mask = np.zeros(label.shape, dtype=bool)
    for one, other in (
        ((slice(None, -1), slice(None)), (slice(1, None), slice(None))),
        ((slice(None), slice(None, -1)), (slice(None), slice(1, None))),
    ):
        differs = (label[one] != label[other]) & ~void[one] & ~void[other]
        mask[one] |= differs
        mask[other] |= differs
    return mask


def _distance(mask: np.ndarray) -> np.ndarray:
    """Return each pixel's distance to the nearest of `mask`, 0 on it; infinite where the mask is empty."""
    return distance_transform_edt(~mask) if mask.any() else np.full(mask.shape, np.inf)
