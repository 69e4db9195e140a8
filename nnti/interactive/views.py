"""What an explorer shows: one split of a data set, and what a network makes of its images."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from torch import nn

from nnti.checkpoints import check_classes
from nnti.config import Experiment
from nnti.data import DataError, SegmentationDataset
from nnti.device import resolve_device
from nnti.figures import run_title, triptychs
from nnti.figures.masks import to_picture
from nnti.inference import predict, probabilities
from nnti.interactive.layers import Segmented
from nnti.loaders import load_split
from nnti.metrics import ConfusionMatrix
from nnti.records import RunFolder, find_run, load_model

__all__ = ["View", "Views", "load_views"]


@dataclass(frozen=True)
class View:
    """An image: uint8 (H, W, 3), its label: uint8 (H, W), and what a network made of it, or None."""

    name: str
    image: np.ndarray
    truth: np.ndarray
    segmented: Segmented | None


def load_views(source: str | Path | RunFolder | SegmentationDataset, split: str | None, device: str) -> "Views":
    """Open a run (by name, folder or object) or a data set; see `nnti.interactive.explore`."""
    if isinstance(source, SegmentationDataset):
        if split not in (None, source.split):
            raise DataError(f"split={split!r}: pass the data set of that split, not of '{source.split}'")
        return Views(source)
    run = source if isinstance(source, RunFolder) else find_run(source)
    model, checkpoint = load_model(run.best, resolve_device(device))
    experiment = Experiment.from_dict(checkpoint["experiment"])
    dataset = load_split(experiment, split or experiment.val_split)
    check_classes(checkpoint, dataset, run.best)
    return Views(dataset, run, model, experiment)


class Views:
    """A split that can be changed, seen with the eyes of a network if there is one.

    Attributes: `dataset`, the split that is open; `splits`, the names of those that are there; `model`.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        run: RunFolder | None = None,
        model: nn.Module | None = None,
        experiment: Experiment | None = None,
    ):
        self.dataset, self.model = dataset, model
        self._run, self._experiment, self._scores = run, experiment, {}
        self.splits = _there(experiment, dataset) if run else [dataset.split]

    def open(self, split: str) -> None:
        """Change to another split."""
        self.dataset = load_split(self._experiment, split)

    def view(self, index: int) -> View:
        """Read an image and segment it, whole, at its own size."""
        image, truth = self.dataset[index]
        segmented = None
        if self.model is not None:
            segmented = Segmented(probabilities(self.model, image, precision=self._experiment.precision))
        return View(self.dataset.image_name(self.dataset.files[index][0]), to_picture(image), truth.numpy(), segmented)

    def scores(self, say: Callable[[str], None]) -> list[float]:
        """Return the mean IoU of every image; found once, from the run's analysis.json or by segmenting all.

        `say` is told how far that is.
        """
        if self.dataset.split not in self._scores:
            self._scores[self.dataset.split] = self._analysed() or [
                self._score(index, say) for index in range(len(self.dataset))
            ]
        return self._scores[self.dataset.split]

    def figure(self, index: int) -> Figure:
        """Draw an image, its truth and, if there is a network, its prediction."""
        view = self.view(index)
        sample, columns = (view.image.transpose(2, 0, 1), view.truth), ("image", "ground truth")
        if view.segmented is not None:
            sample, columns = (*sample, view.segmented.prediction), (*columns, "prediction")
        title = run_title(self._run.record()) if self._run else f"{self.dataset.title}, {self.dataset.split}"
        return triptychs([sample], self.dataset, f"{title}: {view.name}", columns=columns)

    def _analysed(self) -> list[float] | None:
        """Return what `python -m nnti analyze` has found, if it was about this split."""
        analysis = self._run.analysis()
        if analysis is None or analysis["split"] != self.dataset.split:
            return None
        known = {image["image"]: image["mean_iou"] for image in analysis["images"]}
        names = [self.dataset.image_name(image) for image, _ in self.dataset.files]
        return [known[name] for name in names] if known.keys() >= set(names) else None

    def _score(self, index: int, say: Callable[[str], None]) -> float:
        say(f"segmenting image {index + 1} of {len(self.dataset)} …")
        image, truth = self.dataset[index]
        matrix = ConfusionMatrix(self.dataset.num_classes, self.dataset.ignore_index)
        matrix.update(predict(self.model, image, precision=self._experiment.precision), truth)
        return matrix.compute()["mean_iou"]


def _there(experiment: Experiment, dataset: SegmentationDataset) -> list[str]:
    """Return the names of the splits that can be opened, that of `dataset` first."""
    found = [dataset.split]
    for split in getattr(dataset, "splits", (experiment.train_split, experiment.val_split)):
        try:
            if split not in found:
                load_split(experiment, split)
                found.append(split)
        except DataError:
            continue  # not unpacked, or not part of a miniature
    return found
