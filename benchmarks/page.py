"""From the results of one machine to its page in Markdown, and a figure of all curves."""

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.figure import Figure

from benchmarks.quality import quality
from benchmarks.results import Curve, Goal, Result, Table, load
from nnti.figures.style import page, run_style, save, styled
from nnti.figures.tables import as_markdown

__all__ = ["goals", "read", "write"]

ORDER = ("pipeline", "step", "metrics", "memory", "inference", "growth", "dashboard")
PANEL = 2.0  # inches
COLUMNS = 3


def write(folder: Path) -> Path:
    """Write <folder>.md and <folder>.png from the results in a folder; return the page's path."""
    results = read(folder)
    curves = [curve for result in results for curve in result.curves]
    if curves:
        save(_figure(curves, folder.name), folder.name, folder.parent)
        (folder.parent / f"{folder.name}.pdf").unlink()
    text = "\n\n".join(_sections(results, folder.name, bool(curves))) + "\n"
    path = folder.parent / f"{folder.name}.md"
    path.write_text(text, encoding="utf-8")
    return path


def read(folder: Path) -> list[Result]:
    """Read the results in a machine's folder, in the order of the page."""
    return [load(folder / f"{name}.json") for name in ORDER if (folder / f"{name}.json").is_file()]


def goals(results: list[Result]) -> str:
    """Return a table of all goals in Markdown."""
    rows = [_goal(result.benchmark, goal) for result in results for goal in result.goals]
    return _markdown([*rows, _goal("quality", quality()[1])])


def _sections(results: list[Result], name: str, figure: bool):
    yield f"# Benchmarks: {name}"
    yield (
        "Made by `make bench`. Each section is one run, at the commit in the table below; names of functions are of "
        "that commit. Variants that are compared took turns; a ratio above 1 means faster. Quality is read from the "
        "records in benchmarks/runs/."
    )
    yield _markdown(_machine_rows(results))
    yield "## Goals"
    yield goals(results)
    if figure:
        yield f"![All curves of this page]({name}.png)"
    for result in results:
        yield f"## {result.title}"
        yield from (part for table in result.tables for part in _table(table))
    yield "## Quality"
    yield from _table(quality()[0])


def _machine_rows(results: list[Result]) -> list[dict[str, Any]]:
    rows = []
    for result in results:
        versions = ", ".join(f"{name} {version}" for name, version in result.machine["versions"].items())
        row = {"benchmark": result.benchmark, "device": result.machine["device"], "cores": result.machine["cores"]}
        rows.append({**row, "versions": versions, "commit": (result.machine["commit"] or "")[:9], "s": result.seconds})
    return rows


def _goal(benchmark: str, goal: Goal) -> dict[str, Any]:
    sign = "≤" if goal.at_most else "≥"
    reached = "not measured" if goal.reached is None else f"{goal.reached:g} {goal.unit}"
    met = {None: "not measured", True: "yes", False: "no"}[goal.met]
    row = {"benchmark": benchmark, "goal": goal.name, "aim": f"{sign} {goal.target:g} {goal.unit}", "reached": reached}
    return {**row, "met": met, "what limits it": goal.limit if goal.met is False else ""}


def _table(table: Table):
    yield f"### {table.title}"
    yield _markdown(table.rows)
    if table.note:
        yield table.note


def _markdown(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return "Nothing was measured."
    return as_markdown(pd.DataFrame(rows, dtype=object)).rstrip()


@styled
def _figure(curves: list[Curve], title: str) -> Figure:
    rows = -(-len(curves) // COLUMNS)
    figure, panels = page(PANEL * rows, f"Benchmarks: {title}", rows, COLUMNS, left=0.6)
    for axes, curve in zip(panels, curves, strict=False):
        for number, (label, (x, y)) in enumerate(curve.lines.items()):
            axes.plot(x, y, label=label, **run_style(number))
        axes.set(title=curve.title, xlabel=curve.x_label, ylabel=curve.y_label, ylim=(0, None))
        if curve.log_x:
            axes.set_xscale("log", base=2)
            ticks = sorted({value for x, _ in curve.lines.values() for value in x})
            axes.set_xticks(ticks, [f"{value:g}" for value in ticks])
        axes.legend(fontsize=6)
    for axes in panels[len(curves) :]:
        axes.set_axis_off()
    return figure
