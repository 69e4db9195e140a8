"""Bars per class: how often each class occurs, and how well each is segmented."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter

from nnti.data import SegmentationDataset
from nnti.figures.style import DARK, RUN_COLORS, RUN_HATCHES, draw_legend, legend_height, page, styled, text_width

BAR = 0.145  # inches, the least height of a bar that a number fits beside


@styled
def class_frequencies(counts: Sequence[int] | np.ndarray, dataset: SegmentationDataset, title: str) -> Figure:
    """Show each class's share of the labelled pixels in %, on a logarithmic scale, the most frequent class on top.

    `counts`: pixels of each class, void excluded, as `nnti.data.class_frequencies` counts them.
    """
    counts = np.asarray(counts, dtype=np.float64)
    order = np.argsort(-counts, kind="stable")
    shares = 100 * counts[order] / max(counts.sum(), 1)
    figure, axes = _rows(0.19, [dataset.class_names[number] for number in order], title)
    low = 10 ** np.floor(np.log10(shares[shares > 0].min(initial=100) / 1.5))  # a whole decade below the rarest class
    colors = np.asarray(dataset.palette)[order] / 255
    axes.barh(range(len(order)), np.maximum(shares, low) - low, left=low, color=colors, edgecolor=DARK, linewidth=0.6)
    for row, share in enumerate(shares):
        text = f"{share:.3g} %" if share else "absent"
        axes.annotate(text, (max(share, low), row), (3, 0), textcoords="offset points", va="center_baseline")
    axes.set_xscale("log")
    axes.set_xlim(low, 2.5 * shares.max(initial=low))
    axes.xaxis.set_major_locator(LogLocator(subs=(1,)))
    axes.xaxis.set_major_formatter(lambda share, _: f"{share:g} %")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("share of the labelled pixels")
    return figure


@styled
def per_class_iou(results: Mapping[str, Sequence[float | None]], class_names: Sequence[str], title: str) -> Figure:
    """Show the IoU of every class, a bar per run, and each run's mean as a dashed line.

    A class that occurs neither in the labels nor in the predictions has no IoU: it is marked "absent" and stays out of
    the mean.

    `results`: label of a run → IoU of each class, 0 … 1, NaN or None where absent.
    """
    values = {label: np.array(iou, dtype=np.float64) for label, iou in results.items()}  # None becomes NaN
    handles = [_iou_handle(number, label, iou) for number, (label, iou) in enumerate(values.items())]
    figure, axes = _rows(BAR * len(values) + 0.07, class_names, title, legend_height(handles))
    thickness = 0.86 / max(1, len(values))
    for number, (iou, handle) in enumerate(zip(values.values(), handles, strict=True)):
        rows = np.arange(len(class_names)) + (number - (len(values) - 1) / 2) * thickness
        _draw_iou(axes, rows, iou, thickness, handle)
    axes.set(xlim=(0, 1.08), xticks=np.linspace(0, 1, 6), xlabel="IoU")
    draw_legend(figure, handles)
    return figure


def _rows(height: float, names: Sequence[str], title: str, below: float = 0.0) -> tuple[Figure, Axes]:
    """Return a figure with a row of `height` inches for each name."""
    figure, (axes,) = page(
        0.5 + height * len(names), title, below=below, left=0.15 + text_width("\n".join(names)), high=0.02
    )
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.grid(False, axis="y")
    return figure, axes


def _iou_handle(number: int, label: str, iou: np.ndarray) -> Patch:
    known = iou[~np.isnan(iou)]
    mean = f"mean, dashed: {known.mean():.3f}" if len(known) else "no class measured"
    color, hatch = RUN_COLORS[number % len(RUN_COLORS)], RUN_HATCHES[number % len(RUN_HATCHES)]
    return Patch(facecolor=color, edgecolor="white", hatch=hatch, linewidth=0, label=f"{label} ({mean})")


def _draw_iou(axes: Axes, rows: np.ndarray, iou: np.ndarray, thickness: float, handle: Patch) -> None:
    color, known = handle.get_facecolor(), ~np.isnan(iou)
    if known.any():
        axes.axvline(iou[known].mean(), color=color, linestyle="--", linewidth=1.1, zorder=0.9)
    axes.barh(rows[known], iou[known], thickness, color=color, edgecolor="white", hatch=handle.get_hatch(), linewidth=0)
    for row, value in zip(rows, iou, strict=True):
        text, at = ("absent", 0) if np.isnan(value) else (f"{value:.2f}", value)
        note = axes.annotate(text, (at, row), (3, 0), textcoords="offset points", va="center_baseline")
        note.set(zorder=0.95)  # over the means' lines, so that they do not cross numbers, and under the bars
        note.set_bbox({"facecolor": "white", "edgecolor": "none", "pad": 1})
