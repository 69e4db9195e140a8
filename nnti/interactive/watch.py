"""Train in a notebook's cell and see how it goes."""

import math
from collections.abc import Iterator

from nnti.frontend import has_widgets
from nnti.train import Fit

__all__ = ["watch"]


def watch(run: Fit) -> Iterator[dict[str, float]]:
    """Train `run` as `for row in run` does, and show it: `for row in watch(fit(experiment)): ...`.

    Where a person watches a notebook, a dashboard with a Stop button; elsewhere a bar of text, and a line after each
    validation. `run.progress` False (`fit(..., progress=False)`): nothing but the rows.

    Yields each epoch's row of the history. Raises `nnti.stopping.TrainingStopped` after Stop or an interrupt, with
    everything saved; the same call goes on.
    """
    spoken = run.progress and not has_widgets()
    if run.progress and not spoken:
        from nnti.interactive.dashboard import Dashboard

        run.watched_by(Dashboard())
    for row in run:
        if spoken and not math.isnan(row["val_mean_iou"]):
            print(
                f"epoch {row['epoch']:3}  train loss {row['train_loss']:.3f}  val loss {row['val_loss']:.3f}"
                f"  val mean IoU {row['val_mean_iou']:.3f} ({run.experiment.protocol} protocol)"
            )
        yield row
