"""Errors of a network, from the counts of `nnti.inference.errors`: confused classes, boundaries, void."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from nnti.figures.style import DARK, draw_legend, legend_height, page, run_style, styled, text_width

CELL = 0.3  # inches
KINDS = {"boundary": "from the boundary between two classes", "void": "from void"}


@styled
def confusion_heatmap(matrix: Sequence[Sequence[int]], class_names: Sequence[str], title: str) -> Figure:
    """Show which classes are confused: each row's share of the true class's pixels, in %.

    `matrix`: (num_classes, num_classes) pixels, row = truth, column = prediction.
    """
    counts = np.asarray(matrix, dtype=np.float64)
    pixels = counts.sum(1, keepdims=True)
    shares = np.divide(100 * counts, pixels, where=pixels > 0, out=np.full_like(counts, np.nan))
    names = [name if pixels[row] else f"{name} (absent)" for row, name in enumerate(class_names)]
    slanted = 0.34 + 0.7 * text_width("\n".join(class_names))  # inches below the panel
    left = 0.35 + text_width("\n".join(names))
    figure, (axes,) = page(CELL * len(counts) + slanted, title, left=left, low=slanted, high=0.0)
    # dark where many pixels go; the root lets confusions of a few % be seen beside a diagonal of 90 %
    axes.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=10, aspect="auto")
    for (row, column), share in np.ndenumerate(shares):
        if share >= 0.5:
            color = "white" if share > 45 else DARK
            axes.text(column, row, f"{share:.0f}", ha="center", va="center", color=color)
    axes.set_yticks(range(len(names)), names)
    axes.set_xticks(range(len(names)), class_names, rotation=40, ha="right", rotation_mode="anchor")
    axes.tick_params(length=0)
    axes.set_ylabel("truth")
    axes.set_xlabel("prediction, % of the true class's pixels (below 0.5 % left blank)")
    axes.grid(False)
    return figure


@styled
def error_distances(analysis: dict[str, Any], title: str) -> Figure:
    """Show the error rate by distance from class boundaries and void, and the mean IoU without a band around them.

    `analysis`: as `nnti.inference.errors.analyze` returns it.
    """
    overall = 100 * sum(analysis["boundary"]["errors"]) / sum(analysis["boundary"]["pixels"])
    handles = [Line2D([], [], label=name, **run_style(number)) for number, name in enumerate(KINDS.values())]
    handles.append(Line2D([], [], color=DARK, linestyle=":", linewidth=0.9, label=f"all pixels: {overall:.1f} % wrong"))
    figure, (rate, score) = page(2.3, title, columns=2, below=legend_height(handles), left=0.58, high=0.02)
    for number, kind in enumerate(KINDS):
        style = run_style(number)
        pixels, errors = (np.asarray(analysis[kind][key], dtype=np.float64) for key in ("pixels", "errors"))
        known = np.flatnonzero(pixels[:-1])  # the last counts everything farther away
        rate.plot(known, 100 * errors[known] / pixels[known], **style)
        score.plot(analysis["left_out"], analysis[kind]["mean_iou_beyond"], **style)
    rate.axhline(overall, color=DARK, linestyle=":", linewidth=0.9)
    rate.set_ylim(bottom=0)
    rate.set(xlabel="distance in pixels", ylabel="wrong pixels, %")
    score.set(xlabel="width of the band left out, in pixels", ylabel="mean IoU of the rest")
    for axes in (rate, score):
        axes.xaxis.set_major_locator(MaxNLocator(8, integer=True, steps=(1, 2, 5, 10)))  # whole pixels
    draw_legend(figure, handles)
    return figure
