"""What happened during training: scores, loss and learning rate over epochs.

Questions answered by pairs of runs: a dot per seed, a line at their mean.
"""

import string
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nnti.experiment import Experiment
from nnti.figures.style import DARK, draw_legend, legend_shape, page, run_style, styled
from nnti.metrics import METRICS
from nnti.training.optimizer import poly

__all__ = ["PANELS", "ablation_dots", "curves", "learning_rate", "poly_schedule"]


# the panels of the 2021 report's figures 4 and 5, in its order: once for training (a-f), once for validation (g-l)
PANELS = ("dice", "f1", "mean_iou", "pixel_accuracy", "sensitivity", "loss")
SPLITS = {"train": "training", "val": "validation"}

FOOTNOTE = (
    "Dice and F1 are the same number for hard labels: (a) = (b), (g) = (h). Sensitivity is mean pixel accuracy.\n"
    "A quantity has the same scale in training and validation. Validation at epoch 0: the untrained network."
)


@styled
def curves(histories: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Show Dice, F1, mean IoU, pixel accuracy, sensitivity and loss over epochs: (a-f) training, (g-l) validation.

    Args:
        histories: label of a run → its history, as `RunFolder.history` returns it.
        title: what was trained and measured: model, data, images, protocol.
    """
    _, legend = legend_shape(list(histories))
    footnote = 0.36
    figure, panels = page(7.6, title, 4, 3, below=legend + footnote)
    names = [(split, metric) for split in SPLITS for metric in PANELS]
    for letter, axes, (split, metric) in zip(string.ascii_lowercase, panels, names, strict=False):
        axes.set_title(f"({letter}) {SPLITS[split]} {METRICS.get(metric, metric)}", loc="left")
        _draw_runs(axes, histories, f"{split}_{metric}")
        axes.set_ylim(0, _top(histories, metric))
    for axes in (*panels[3:6], *panels[9:12]):
        axes.set_xlabel("epoch")
    draw_legend(figure, _run_handles(histories), bottom=footnote)
    figure.text(0.5, 0.05 / figure.get_figheight(), FOOTNOTE, ha="center", va="bottom", color=DARK)
    return figure


@styled
def learning_rate(histories: Mapping[str, pd.DataFrame], title: str) -> Figure:
    """Show the learning rate of the decoder or head, as it was at the end of each epoch.

    Args:
        histories: label of a run → its history, as `RunFolder.history` returns it.
        title: what was trained.
    """
    _, legend = legend_shape(list(histories))
    figure, (axes,) = page(2.5, title, below=legend)
    trained = {label: history[history["epoch"] > 0] for label, history in histories.items()}
    _draw_runs(axes, trained, "learning_rate")
    _rate_axis(axes)
    axes.set_xlabel("epoch")
    draw_legend(figure, _run_handles(histories))
    return figure


@styled
def poly_schedule(experiment: Experiment, steps_per_epoch: int) -> Figure:
    """Show the learning rate that an experiment's "poly" schedule gives at every iteration, epochs on the upper axis.

    Args:
        experiment: its `learning_rate`, `power` and `epochs` are used.
        steps_per_epoch: iterations per epoch: training images // batch size.
    """
    total = experiment.epochs * steps_per_epoch
    iterations = np.arange(total)
    rates = [experiment.learning_rate * poly(iteration, total, experiment.power) for iteration in iterations]
    spread = f"{total} iterations in {experiment.epochs} epochs"
    text = f"{experiment.name}: poly schedule of power {experiment.power:g}, {spread}"
    figure, (axes,) = page(2.5, text)
    axes.plot(iterations, rates, color=run_style(0)["color"], linewidth=1.5)
    _rate_axis(axes)
    axes.set_xlim(0, total)
    axes.set_xlabel("iteration")
    epochs = axes.secondary_xaxis("top", (lambda x: x / steps_per_epoch, lambda x: x * steps_per_epoch))
    epochs.set_xlabel("epoch")
    return figure


def _draw_runs(axes: Axes, histories: Mapping[str, pd.DataFrame], column: str) -> None:
    """Draw one line per run where the column is known; without any value, say so."""
    for number, (label, history) in enumerate(histories.items()):
        known = history[["epoch", column]].dropna()
        every = max(1, len(known) // 8)
        marks = (number * every // len(histories), every)  # not all runs' markers at the same epochs
        axes.plot(known["epoch"], known[column], label=label, markevery=marks, **run_style(number))
    if all(history[column].isna().all() for history in histories.values()):
        axes.text(0.5, 0.5, "not measured yet", transform=axes.transAxes, ha="center", va="center", color=DARK)
    last = max((history["epoch"].max() for history in histories.values() if len(history)), default=1)
    axes.set_xlim(-0.02 * max(last, 1), 1.02 * max(last, 1))
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, steps=(1, 2, 5, 10)))
    axes.yaxis.set_major_locator(MaxNLocator(5, steps=(1, 2, 2.5, 5, 10)))


def _top(histories: Mapping[str, pd.DataFrame], metric: str) -> float:
    """Return the upper end of a quantity's scale, the same for training and validation."""
    columns = [f"{split}_{metric}" for split in SPLITS]
    values = np.concatenate([history[columns].to_numpy(float).ravel() for history in histories.values()])
    values = values[np.isfinite(values)]
    top = 1.06 * values.max() if len(values) else 1.0
    return top if metric == "loss" else float(np.clip(top, 0.05, 1.02))


def _rate_axis(axes: Axes) -> None:
    axes.set_ylabel("learning rate")
    axes.set_ylim(0, 1.06 * max((max(line.get_ydata(), default=0) for line in axes.lines), default=0) or 1)
    axes.yaxis.set_major_formatter(lambda rate, _: f"{rate:g}")


def _run_handles(labels: Sequence[str]) -> list[Line2D]:
    return [Line2D([], [], label=label, **run_style(number)) for number, label in enumerate(labels)]


ROW = 0.24  # inches


@styled
def ablation_dots(scores: Mapping[str, Mapping[str, Sequence[float]]], title: str) -> Figure:
    """Show the scores of each question's variants, all questions on one scale.

    Args:
        scores: question → variant → mean IoU of each seed, 0 … 1; a variant without any is marked "not run".
        title: metric, protocol, data.
    """
    rows = sum(len(variants) + 1 for variants in scores.values())
    figure, (axes,) = page(0.45 + ROW * rows, title)
    names, heights, at = [], [], 0
    for question, variants in scores.items():
        axes.annotate(question, (0, at), (4, 0), textcoords="offset points", va="center", color=DARK, weight="bold")
        at += 1
        for number, (variant, values) in enumerate(variants.items()):
            style = run_style(number)
            names.append(variant)
            heights.append(at)
            if len(values):
                axes.plot(values, [at] * len(values), style["marker"], color=style["color"], markersize=4.5, alpha=0.8)
                axes.vlines(np.mean(values), at - 0.36, at + 0.36, color=style["color"], linewidth=1.4)
            _note(axes, at, values)
            at += 1
    axes.set_yticks(heights, names)
    axes.set_ylim(at - 0.4, -0.7)
    known = [value for variants in scores.values() for values in variants.values() for value in values]
    axes.set_xlim(0, 1.3 * max(known, default=1))
    axes.set_xlabel("mean IoU")
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    return figure


def _note(axes, at: float, values: Sequence[float]) -> None:
    text = "not run"
    if len(values):
        text = f"{np.mean(values):.3f}" + (f" ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else ", one seed")
    axes.annotate(text, (max(values, default=0), at), (8, 0), textcoords="offset points", va="center")
