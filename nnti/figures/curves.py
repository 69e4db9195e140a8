"""Training curves: scores, loss and learning rate over epochs; and runs that differ in one setting."""

import string
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nnti.experiment import Experiment
from nnti.figures.style import DARK, draw_legend, legend_height, page, run_style, styled
from nnti.metrics import METRICS
from nnti.training.optimizer import poly

# the panels of the 2021 report's figures 4 and 5, in its order: once for training (a-f), once for validation (g-l)
PANELS = ("dice", "f1", "mean_iou", "pixel_accuracy", "sensitivity", "loss")
SPLITS = {"train": "training", "val": "validation"}
FOOTNOTE = (
    "Dice and F1 are the same number for hard labels: (a) = (b), (g) = (h). Sensitivity is mean pixel accuracy.\n"
    "A quantity has the same scale in training and validation. Validation at epoch 0: before the training."
)
FOOT = 0.36  # inches that the footnote takes
RATE = 0.75  # inches beside an axis of learning rates


@styled
def curves(histories: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Show Dice, F1, mean IoU, pixel accuracy, sensitivity and loss over epochs: (a-f) training, (g-l) validation.

    `histories`: label of a run → its history, as `RunFolder.history` returns it.
    """
    handles = _run_handles(histories)
    figure, panels = page(7.6, title, 4, 3, below=legend_height(handles) + FOOT)
    names = [(split, metric) for split in SPLITS for metric in PANELS]
    for letter, axes, (split, metric) in zip(string.ascii_lowercase, panels, names, strict=False):
        axes.set_title(f"({letter}) {SPLITS[split]} {METRICS.get(metric, metric)}", loc="left")
        _draw_runs(axes, histories, f"{split}_{metric}")
        axes.set_ylim(0, _top(histories, metric))
    for axes in (*panels[3:6], *panels[9:12]):
        axes.set_xlabel("epoch")
    draw_legend(figure, handles, bottom=FOOT)
    figure.text(0.5, 0.05 / figure.get_figheight(), FOOTNOTE, ha="center", va="bottom", color=DARK)
    return figure


@styled
def learning_rate(histories: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Show the learning rate of the decoder or head, as it was at the end of each epoch; arguments as for `curves`."""
    handles = _run_handles(histories)
    figure, (axes,) = page(2.5, title, below=legend_height(handles), left=RATE)
    trained = {label: history[history["epoch"] > 0] for label, history in histories.items()}
    _draw_runs(axes, trained, "learning_rate")
    _rate_axis(axes)
    axes.set_xlabel("epoch")
    draw_legend(figure, handles)
    return figure


@styled
def poly_schedule(experiment: Experiment, steps_per_epoch: int) -> Figure:
    """Show the learning rate that an experiment's "poly" schedule gives at every iteration, epochs on the upper axis.

    `steps_per_epoch`: iterations per epoch: training images // batch size.
    """
    total = experiment.epochs * steps_per_epoch
    iterations = np.arange(total)
    rates = [experiment.learning_rate * poly(iteration, total, experiment.power) for iteration in iterations]
    spread = f"{total} iterations in {experiment.epochs} epochs"
    title = f"{experiment.name}: poly schedule of power {experiment.power:g}, {spread}"
    figure, (axes,) = page(2.6, title, left=RATE, high=0.42)
    axes.plot(iterations, rates, color=run_style(0)["color"], linewidth=1.5)
    _rate_axis(axes)
    axes.set(xlim=(0, total), xlabel="iteration")
    epochs = axes.secondary_xaxis("top", (lambda x: x / steps_per_epoch, lambda x: x * steps_per_epoch))
    epochs.set_xlabel("epoch")
    return figure


def _draw_runs(axes: Axes, histories: Mapping[str, pd.DataFrame], column: str) -> None:
    """Draw one line per run where the column is known; without any value, say so."""
    last = 1
    for number, (label, history) in enumerate(histories.items()):
        known = history[["epoch", column]].dropna()
        every = max(1, len(known) // 8)
        marks = (number * every // len(histories), every)  # not all runs' markers at the same epochs
        axes.plot(known["epoch"], known[column], label=label, markevery=marks, **run_style(number))
        last = max(last, history["epoch"].max()) if len(history) else last
    if not any(len(line.get_xdata()) for line in axes.lines):
        axes.text(0.5, 0.5, "not measured yet", transform=axes.transAxes, ha="center", va="center", color=DARK)
    axes.set_xlim(-0.02 * last, 1.02 * last)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=(1, 2, 5, 10)))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10)))


def _top(histories: Mapping[str, pd.DataFrame], metric: str) -> float:
    """Return the upper end of a quantity's scale, the same for training and validation."""
    columns = [f"{split}_{metric}" for split in SPLITS]
    values = np.concatenate([history[columns].to_numpy(float).ravel() for history in histories.values()])
    return 1.06 * values[np.isfinite(values)].max(initial=0) or 1.0


def _rate_axis(axes: Axes) -> None:
    axes.set_ylabel("learning rate")
    axes.set_ylim(0, 1.06 * max((max(line.get_ydata(), default=0) for line in axes.lines), default=0) or 1)
    axes.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")


def _run_handles(labels: Sequence[str]) -> list[Line2D]:
    return [Line2D([], [], label=label, **run_style(number)) for number, label in enumerate(labels)]
