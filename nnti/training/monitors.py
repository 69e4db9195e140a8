"""Observers of a run: a progress bar and TensorBoard here, the dashboard in `nnti.notebook`.

A monitor is called at the main events of a run (`nnti.training.loop.Fit`). It may read everything and must change
nothing: a run gives the same numbers whoever is watching.
"""

import math
import time
import warnings
from collections.abc import Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnti.data import SegmentationDataset, evenly_spread
from nnti.data.files import reduced
from nnti.experiment import Experiment
from nnti.inference.image import predict
from nnti.loss import LossSum
from nnti.progress import progress_bar
from nnti.training.run_folder import RunFolder

LOOK_EVERY = 1.0  # seconds between two reads of the loss, each of which makes the host wait for the device
IMAGES = 3
LONGEST = 480  # pixels: enough for a screen; larger images would slow training for no benefit


class Monitor:
    """Does nothing; subclasses override the events they need. `run` is the `nnti.training.loop.Fit`."""

    def begin(self, run) -> None:
        """The run folder exists; the untrained network is about to be measured, or training to resume."""

    def step(self, run, loss: LossSum) -> None:
        """A step is done; `run.state` counts it. Reading `loss` makes the host wait for the device."""

    def phase(self, run, text: str) -> None:
        """Something slow begins, such as a validation; "" when training continues."""

    def epoch(self, run) -> None:
        """An epoch is finished and saved; `run.rows[-1]` is its row."""

    def end(self, run) -> None:
        """The run has finished, was stopped or has failed. Called once after `begin`, whatever happened."""


class Monitors:
    """Passes events to several monitors; one that fails is removed with a warning, and training continues."""

    def __init__(self, monitors: Sequence[Monitor] = ()):
        self.members = list(monitors)

    def tell(self, event: str, run, *details) -> None:
        """Call the method `event` of every monitor."""
        for monitor in tuple(self.members):
            try:
                getattr(monitor, event)(run, *details)
            except Exception as error:
                self.members.remove(monitor)
                name = type(monitor).__name__
                warnings.warn(f"{name} failed and was removed; training continues: {error!r}", stacklevel=2)

    @contextmanager
    def watching(self, run):
        """Send `begin`, and finally `end`, whatever happens in between."""
        self.tell("begin", run)
        try:
            yield
        finally:
            self.tell("end", run)


class ProgressBar(Monitor):
    """One tqdm bar over all remaining images."""

    def __init__(self):
        self._looked = 0.0

    def begin(self, run) -> None:
        """Show the bar, unless there is nothing to do."""
        images = (len(run) * len(run.loader) - run.state.step) * run.experiment.batch_size
        self._bar = progress_bar(total=images, unit="img", desc=run.experiment.name, disable=not images)

    def step(self, run, loss: LossSum) -> None:
        """Move the bar on by a batch; about once a second show epoch and loss."""
        self._bar.update(run.experiment.batch_size)
        if time.perf_counter() - self._looked > LOOK_EVERY:
            epoch = f"{run.state.done + 1}/{run.experiment.epochs}"
            self._bar.set_postfix(epoch=epoch, loss=f"{float(loss.mean):.3f}")
            self._looked = time.perf_counter()

    def end(self, run) -> None:
        """Leave the bar as it is."""
        self._bar.close()


class Snapshots:
    """A few images of a split, spread evenly and at most LONGEST pixels long, with a network's predictions."""

    def __init__(self, dataset: SegmentationDataset, experiment: Experiment):
        self._precision = experiment.precision
        self._colors = np.full((256, 3), dataset.void_color, dtype=np.uint8)
        self._colors[: dataset.num_classes] = dataset.palette
        self._samples = [_reduced(*dataset[index]) for index in evenly_spread(len(dataset), IMAGES)]

    def take(self, model: nn.Module) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Return image, truth and prediction of each, as pictures uint8 (H, W, 3); the model keeps its mode."""
        taken = []
        for image, label in self._samples:
            prediction = predict(model, image, precision=self._precision)
            taken.append((image.permute(1, 2, 0).numpy(), self._colors[label], self._colors[prediction]))
        return taken


def _reduced(image: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
    """Scale a sample down, uint8 (3, H, W) and (H, W), to LONGEST pixels at most."""
    image = reduced(image, LONGEST)
    label = F.interpolate(label[None, None].float(), image.shape[1:], mode="nearest-exact")[0, 0]
    return image, label.to(torch.uint8)


class TensorBoard(Monitor):
    """Writes every column of the history per epoch, the loss about once a second, pictures after each validation.

    Everything goes to the folder tensorboard/ of the run: `tensorboard --logdir runs`.
    """

    def __init__(self, run: RunFolder):
        self._folder, self._looked = run.path / "tensorboard", 0.0

    def begin(self, run) -> None:
        """Open the files; entries of steps that are now repeated after an interruption are purged."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise ImportError("tensorboard=True needs the package: pip install tensorboard") from None
        self._writer = SummaryWriter(self._folder, purge_step=self._position(run) + bool(run.rows))
        self._snapshots = Snapshots(run.val_data, run.experiment)

    def step(self, run, loss: LossSum) -> None:
        """Write the loss of this step, at most about once a second."""
        if time.perf_counter() - self._looked > LOOK_EVERY:
            self._writer.add_scalar("step/loss", float(loss.mean), self._position(run))
            self._looked = time.perf_counter()

    def epoch(self, run) -> None:
        """Write the last row of the history; after a validation also the predictions for fixed images."""
        at, row = self._position(run), run.rows[-1]
        for name, value in row.items():
            split, _, metric = name.partition("_")
            if name != "epoch" and not math.isnan(value):
                self._writer.add_scalar(f"{split}/{metric}" if split in ("train", "val") else f"run/{name}", value, at)
        if not math.isnan(row["val_mean_iou"]):
            for number, snapshot in enumerate(self._snapshots.take(run.model)):
                beside = np.concatenate(snapshot, axis=1)
                self._writer.add_image(f"image, truth, prediction/{number}", beside, at, dataformats="HWC")
        self._writer.flush()

    def end(self, run) -> None:
        """Close the files."""
        self._writer.close()

    @staticmethod
    def _position(run) -> int:
        """Return the number of steps done in all epochs."""
        return run.state.done * len(run.loader) + run.state.step
