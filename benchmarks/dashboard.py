"""What the notebooks' dashboard costs: epochs with and without it take turns, and it counts its own seconds.

ENet learns the miniature of VOC, the shortest training of the course, in which looking on weighs most. There is no
browser here: what is sent to one is part of what the dashboard counts in a notebook, where it tells its share at the
end.
"""

import contextlib
import io
import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks.results import Goal, Result, Table
from nnti.experiment import Experiment
from nnti.notebook.dashboard import Dashboard
from nnti.training.loop import fit

__all__ = ["measure"]

EPOCHS = 12
MOST = 2.0  # percent of an epoch


def measure() -> Result:
    """Train two networks in turn, epoch by epoch, one of them watched."""
    result = Result("dashboard", "Dashboard")
    board = Dashboard()
    experiment = Experiment.load("enet_voc_miniature").replace(epochs=EPOCHS, val_every=EPOCHS)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        runs = {
            "alone": iter(fit(experiment, Path(folder) / "alone", progress=False)),
            "watched": iter(fit(experiment, Path(folder) / "watched").watched_by(board)),
        }
        seconds = {name: [] for name in runs}
        first = 0.0
        for epoch in range(EPOCHS - 1):  # the last one holds the final measurement
            first = board.budget.spent if epoch == 1 else first  # the first one holds the beginning
            for name, run in runs.items():
                began = time.perf_counter()
                next(run)
                seconds[name].append(time.perf_counter() - began)
    medians = {name: float(np.median(values[1:])) for name, values in seconds.items()}
    share = 100 * (board.budget.spent - first) / sum(seconds["watched"][1:])
    rows = [{"epochs": name, "median, s": f"{median:.2f}"} for name, median in medians.items()]
    ratio = 100 * (medians["watched"] / medians["alone"] - 1)
    note = f"{EPOCHS - 2} epochs each, in turn. Watched ones took {ratio:+.1f} %, the machine's own noise included."
    result.tables.append(Table("Epochs of ENet on the miniature of VOC", rows, note))
    showing = [{"what": work, "last, ms": f"{1000 * cost:.1f}"} for work, cost in board.budget.costs.items()]
    result.tables.append(Table("What one showing takes", showing))
    name = "the dashboard's share of an epoch's time, by its own count"
    result.goals.append(Goal(name, MOST, round(share, 2), unit="%", at_most=True))
    return result
