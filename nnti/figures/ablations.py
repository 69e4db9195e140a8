"""Questions answered by pairs of runs: a dot per seed, a line at their mean."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from nnti.figures.style import DARK, page, run_style, styled

__all__ = ["ablation_dots"]

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
