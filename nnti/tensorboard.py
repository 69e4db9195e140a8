"""TensorBoard, where it is installed: `experiment.tensorboard=True` writes scalars and pictures into the run folder.

pip install tensorboard
tensorboard --logdir runs
"""

import math
import time
import warnings

import numpy as np

from nnti.losses import LossSum
from nnti.monitors import LOOK_EVERY, Monitor
from nnti.records import RunFolder
from nnti.snapshots import Snapshots

__all__ = ["TensorBoard"]


class TensorBoard(Monitor):
    """Writes every column of the history per epoch, the loss about once a second, pictures after each validation.

    Without the package `tensorboard` it warns, and nothing is written. All goes to the folder tensorboard/ of the run.
    """

    def __init__(self, run: RunFolder):
        self._folder, self._writer, self._snapshots, self._looked = run.path / "tensorboard", None, None, 0.0

    def begin(self, run) -> None:
        """Open the files; what an interrupted run wrote about steps that it now repeats is taken back."""
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            warnings.warn(
                "tensorboard=True writes nothing: the package is missing (pip install tensorboard)", stacklevel=2
            )
            return
        self._writer = SummaryWriter(self._folder, purge_step=self._position(run) + bool(run.rows))
        self._snapshots = Snapshots(run.val_data, run.experiment)

    def step(self, run, loss: LossSum) -> None:
        """Write the loss of this step, at most about once a second."""
        if self._writer is not None and time.perf_counter() - self._looked > LOOK_EVERY:
            self._writer.add_scalar("step/loss", float(loss.mean), self._position(run))
            self._looked = time.perf_counter()

    def epoch(self, run) -> None:
        """Write the last row of the history; after a validation also what the network makes of fixed images."""
        if self._writer is None:
            return
        at, row = self._position(run), run.rows[-1]
        for name, value in row.items():
            split, _, metric = name.partition("_")
            if name != "epoch" and not math.isnan(value):
                self._writer.add_scalar(f"{split}/{metric}" if split in ("train", "val") else f"run/{name}", value, at)
        if not math.isnan(row["val_mean_iou"]):
            for number, snapshot in enumerate(self._snapshots.take(run.model)):
                picture = np.concatenate(snapshot, axis=1)
                self._writer.add_image(f"image, truth, prediction/{number}", picture, at, dataformats="HWC")
        self._writer.flush()

    def end(self, run) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()

    @staticmethod
    def _position(run) -> int:
        """Return the number of steps done in all epochs."""
        return run.state.done * len(run.loader) + run.state.step
