"""Two small panels that are drawn again and again: loss and mean IoU so far."""

import io
import math

import matplotlib.pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nnti.config import Experiment
from nnti.figures.style import PALE, STYLE, run_style

__all__ = ["LiveCurves"]

SIZE, DPI = (7.6, 2.3), 100  # inches
POINTS = 400  # of the line of single steps; more would not be seen
SMOOTHING = 0.9


class LiveCurves:
    """Loss (of single steps, of training and validation) and mean IoU over epochs.

    The figure is made once and only its lines are changed, which makes a drawing several times cheaper.
    """

    def __init__(self, experiment: Experiment):
        self._steps: list[tuple[float, float]] = []
        with plt.rc_context(STYLE):
            self._figure = Figure(figsize=SIZE, dpi=DPI)
            self._loss, self._score = self._figure.subplots(1, 2)
            self._figure.subplots_adjust(left=0.06, right=0.99, bottom=0.19, top=0.87, wspace=0.16)
            (self._raw,) = self._loss.plot([], [], color=PALE, linewidth=0.8, label="steps")
            self._lines = {
                f"{split}_{name}": axes.plot(
                    [], [], label={"train": "training", "val": "validation"}[split], **run_style(at)
                )[0]
                for name, axes in (("loss", self._loss), ("mean_iou", self._score))
                for at, split in enumerate(("train", "val"))
            }
            self._loss.set_title("loss", loc="left")
            self._score.set_title(f"mean IoU (validation: {experiment.protocol} protocol)", loc="left")
            for axes in (self._loss, self._score):
                axes.set_xlabel("epoch")
                axes.set_xlim(0, max(1, experiment.epochs))
                axes.xaxis.set_major_locator(MaxNLocator(integer=True))
                axes.legend(loc="best")

    def add(self, epoch: float, loss: float) -> None:
        """Take the loss of a step; `epoch` counts fractions."""
        self._steps.append((epoch, loss))
        if len(self._steps) > 2 * POINTS:
            del self._steps[::2]

    def draw(self, rows: list[dict[str, float]]) -> bytes:
        """Return the panels as PNG; `rows` are those of the history."""
        with plt.rc_context(STYLE):
            self._raw.set_data(list(zip(*self._steps, strict=True)) or ([], []))
            for name, line in self._lines.items():
                points = [(row["epoch"], row[name]) for row in rows if not math.isnan(row[name])]
                line.set_data(list(zip(*points, strict=True)) or ([], []))
            for axes in (self._loss, self._score):
                axes.set_ylim(0, _top(axes))
            buffer = io.BytesIO()
            self._figure.savefig(buffer, format="png")
        return buffer.getvalue()


def _top(axes: Axes) -> float:
    """Return the upper end of an axis that shows all of its lines."""
    highest = max((max(line.get_ydata()) for line in axes.lines if len(line.get_ydata())), default=0.0)
    return 1.08 * highest or 1.0
