"""What looks on while a training runs: progress bars here, TensorBoard and the notebooks' dashboard elsewhere.

A monitor sees the training (`nnti.train.Fit`) at its turning points. It may read all of it and must change nothing: a
training gives the same numbers whoever looks on.
"""

import time
import warnings
from collections.abc import Sequence
from contextlib import contextmanager

from nnti.losses import LossSum
from nnti.progress import progress_bar

__all__ = ["Monitor", "Monitors", "ProgressBar"]

LOOK_EVERY = 1.0  # seconds between two looks at the loss: each makes the host wait for the device


class Monitor:
    """Looks on and does nothing; a subclass overrides what it wants to see. `run` is the `nnti.train.Fit`."""

    def begin(self, run) -> None:
        """The run's folder is there; the untrained network is about to be measured, or training to go on."""

    def step(self, run, loss: LossSum) -> None:
        """A step is done; `run.state` counts it. To read `loss` makes the host wait for the device."""

    def phase(self, run, text: str) -> None:
        """Something that takes a while begins, such as a validation; "" when training goes on."""

    def epoch(self, run) -> None:
        """An epoch is finished and saved; `run.rows[-1]` is its row."""

    def end(self, run) -> None:
        """The training is over, was stopped or has failed. Called once after `begin`, whatever happened."""


class Monitors:
    """Tells several monitors the same; one that fails is dropped with a warning, and the training goes on."""

    def __init__(self, monitors: Sequence[Monitor] = ()):
        self.members = list(monitors)

    def tell(self, event: str, run, *details) -> None:
        """Call the method `event` of every monitor."""
        for monitor in tuple(self.members):
            try:
                getattr(monitor, event)(run, *details)
            except Exception as error:
                self.members.remove(monitor)
                warnings.warn(
                    f"{type(monitor).__name__} failed and no longer looks on; the training goes on: {error!r}",
                    stacklevel=2,
                )

    @contextmanager
    def watching(self, run):
        """Tell `begin`, and `end` whatever happens in between."""
        self.tell("begin", run)
        try:
            yield
        finally:
            self.tell("end", run)


class ProgressBar(Monitor):
    """One tqdm bar over all images that are still to come."""

    def __init__(self):
        self._bar, self._looked = None, 0.0

    def begin(self, run) -> None:
        """Show the bar, unless nothing is to be done."""
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
