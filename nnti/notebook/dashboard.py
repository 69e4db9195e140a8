"""Watch a training in its notebook cell: progress, curves, predictions, and a Stop button.

Drawing may take only a small share of the time: the `Budget` says when to draw again.
"""

import html
import io
import math
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import timedelta

import ipywidgets as widgets
import matplotlib
import numpy as np
import pandas as pd
import torch
from IPython.display import display
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nnti.device import device_name
from nnti.experiment import Experiment
from nnti.figures.style import PALE, STYLE, run_style
from nnti.loss import LossSum
from nnti.notebook.canvas import encoded
from nnti.progress import answering, has_widgets, interface_events
from nnti.training.loop import Fit
from nnti.training.monitors import Monitor, Snapshots

SHARE = 0.015  # of the training's time that the dashboard may take
TEXT_EVERY = 0.5  # seconds
EVENTS = 5  # clicks answered at a time
ROWS = 5  # of the table: the last validations
SCORE = "val mean IoU"
COLUMNS = {
    "epoch": "epoch", "train_loss": "train loss", "val_loss": "val loss", "val_mean_iou": SCORE,
    "val_dice": "val Dice (= F1)", "val_pixel_accuracy": "val pixel accuracy", "train_seconds": "s",
}  # fmt: skip
SIZE, DPI = (7.6, 2.3), 100  # of the curves; inches
POINTS = 400  # of the line of single steps; more would not be seen


class Budget:
    """Limits optional work to a `share` of the seconds since this was made; `clock` gives them.

    Attributes: `spent`, seconds; `costs`, those of each work's last time.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.perf_counter):
        self._most, self._clock, self._began = share, clock, clock()
        self.spent, self.costs = 0.0, {}

    @property
    def share(self) -> float:
        """What was spent, of the seconds since this was made."""
        return self.spent / (self._clock() - self._began)

    def allows(self, work: str) -> bool:
        """Whether `work` would stay within the share, if it costs what it did last time."""
        return self.spent + self.costs.get(work, 0.0) <= self._most * (self._clock() - self._began)

    @contextmanager
    def spending(self, work: str) -> Iterator[None]:
        """Count what `work` takes."""
        began = self._clock()
        try:
            yield
        finally:
            self.costs[work] = self._clock() - began
            self.spent += self.costs[work]


class LiveCurves:
    """Loss (of single steps, of training and validation) and mean IoU over epochs.

    The figure is made once and only its lines change, which makes drawing cheaper.
    """

    @matplotlib.rc_context(STYLE)
    def __init__(self, experiment: Experiment):
        self._steps: list[tuple[float, float]] = []
        self._figure = Figure(figsize=SIZE, dpi=DPI)
        self._panels = self._figure.subplots(1, 2)
        self._figure.subplots_adjust(left=0.06, right=0.98, bottom=0.19, top=0.87, wspace=0.16)
        titles = {"loss": "loss", "mean_iou": f"mean IoU (validation: {experiment.protocol} protocol)"}
        (self._raw,) = self._panels[0].plot([], [], color=PALE, linewidth=0.8, label="steps")
        self._lines = {}
        for axes, (metric, title) in zip(self._panels, titles.items(), strict=True):
            for number, (split, label) in enumerate({"train": "training", "val": "validation"}.items()):
                (self._lines[f"{split}_{metric}"],) = axes.plot([], [], label=label, **run_style(number))
            axes.set_title(title, loc="left")
            axes.set(xlabel="epoch", xlim=(0, experiment.epochs))
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
            axes.legend(loc="best")

    def add(self, epoch: float, loss: float) -> None:
        """Take the loss of a step; `epoch` counts fractions."""
        self._steps.append((epoch, loss))
        if len(self._steps) > 2 * POINTS:
            del self._steps[::2]

    @matplotlib.rc_context(STYLE)
    def draw(self, rows: list[dict[str, float]]) -> bytes:
        """Return the panels as PNG; `rows` are those of the history."""
        points = {line: [(row["epoch"], row[name]) for row in rows] for name, line in self._lines.items()}
        for line, pairs in {self._raw: self._steps, **points}.items():
            line.set_data(*np.reshape([pair for pair in pairs if not math.isnan(pair[1])], (-1, 2)).T)
        for axes in self._panels:
            axes.relim()
            axes.autoscale(axis="y")
            axes.set_ylim(bottom=0)
        buffer = io.BytesIO()
        self._figure.savefig(buffer, format="png")
        return buffer.getvalue()


class Dashboard(Monitor):
    """Shows a training in the cell that runs it.

    Numbers follow twice a second; curves and predictions as often as SHARE of the training's time allows, and at the
    end. Everything runs in the kernel, also when the browser is closed.

    Attributes: `box`, the widget; `budget`, what showing has cost.
    """

    def __init__(self):
        self.budget, self._written, self._phase, self._stack = Budget(SHARE), 0.0, "", ExitStack()
        wide = widgets.Layout(width="100%", max_width="760px")
        self._epochs, self._steps = (
            widgets.IntProgress(layout=wide, style={"description_width": "110px"}) for _ in range(2)
        )
        self._title, self._numbers, self._table = (widgets.HTML() for _ in range(3))
        self._stop = widgets.Button(description="Stop", icon="stop", button_style="warning")
        self._stop.tooltip = "End after the current step, with everything saved; run the cell again to resume"
        self._curves = widgets.Image(format="png", layout=wide)
        head = widgets.HBox([self._title, self._stop], layout={"justify_content": "space-between"})
        self._pictures = widgets.HBox(layout={"align_items": "flex-start"})
        self.box = widgets.VBox(
            [head, self._epochs, self._steps, self._numbers, self._curves, self._table, self._pictures],
            layout={"max_width": "780px", "overflow": "hidden"},  # a few pixels too wide would bring a scroll bar
        )
        self.box.add_class("nnti-dashboard")

    def begin(self, run) -> None:
        """Show what is known before the first step."""
        experiment, self._began, self._images = run.experiment, time.perf_counter(), 0
        if run.device.type == "cuda":  # else the peak would be that of an earlier run in the same kernel
            torch.cuda.reset_peak_memory_stats(run.device)
        self._live, self._snapshots = LiveCurves(experiment), Snapshots(run.val_data, experiment)
        self._stop.on_click(lambda _: self._ask_to_stop(run))
        self._epochs.max, self._steps.max = experiment.epochs, len(run.loader)
        images = f"{len(run.train_data)} train / {len(run.val_data)} val images"
        about = f"{run.train_data.title}, {images}, {device_name(run.device)}"
        self._title.value = f"<b>{html.escape(experiment.name)}</b><br><small>{html.escape(about)}</small>"
        self._poll = self._stack.enter_context(interface_events())
        display(self.box)
        answering(self._stop)
        self._write(run)
        self._show_epoch(run, always=True)

    def step(self, run, loss: LossSum) -> None:
        """Count a step; now and then look at the loss and show numbers and curves."""
        self._images += run.experiment.batch_size
        if time.perf_counter() - self._written < TEXT_EVERY:
            return
        with self.budget.spending("numbers"):
            self._poll(EVENTS)
            self._live.add(run.state.done + run.state.step / len(run.loader), float(loss.mean))
            self._write(run)
        if self.budget.allows("curves"):
            self._draw_curves(run)

    def phase(self, run, text: str) -> None:
        """Show the current phase."""
        self._phase = text
        self._write(run)

    def epoch(self, run) -> None:
        """Show the epoch's row."""
        self._poll(EVENTS)
        self._show_epoch(run, always=run.state.done == 0)

    def end(self, run) -> None:
        """Show everything as it is now, without the Stop button."""
        ended = f"stopped in epoch {run.state.done + 1} after step {run.state.step}; run the cell again to resume"
        self._phase = ended if len(run) else "finished"
        self._write(run)
        self._show_epoch(run, always=True)
        self._stop.layout.visibility = "hidden"
        self._stack.close()

    def _ask_to_stop(self, run) -> None:
        run.stop()
        self._stop.disabled, self._stop.description = True, "Stopping …"

    def _show_epoch(self, run, always: bool) -> None:
        """Show table, curves and predictions; the expensive ones only where the budget allows it, or `always`."""
        if not run.rows:
            return
        with self.budget.spending("table"):
            self._table.value = _table(run.rows)
        if always or self.budget.allows("curves"):
            self._draw_curves(run)
        if always or self.budget.allows("pictures"):
            with self.budget.spending("pictures"):
                self._show_pictures(self._snapshots.take(run.model))

    def _show_pictures(self, snapshots) -> None:
        if not self._pictures.children:
            width = {"width": f"{98 / len(snapshots)}%", "max_width": "250px"}
            self._pictures.children = [widgets.Image(format="png", layout=width) for _ in snapshots]
        for widget, parts in zip(self._pictures.children, snapshots, strict=True):
            widget.value = encoded(np.concatenate(parts), "png", compress_level=1)

    def _draw_curves(self, run) -> None:
        with self.budget.spending("curves"):
            self._curves.value = self._live.draw(run.rows)

    def _write(self, run) -> None:
        """Write what costs nothing: bars and numbers."""
        self._written = time.perf_counter()
        self._epochs.value, self._steps.value = run.state.done, run.state.step
        self._epochs.description = f"epoch {min(run.state.done + 1, run.experiment.epochs)}/{run.experiment.epochs}"
        self._steps.description = f"step {run.state.step}/{len(run.loader)}"
        self._numbers.value = " · ".join(html.escape(text) for text in self._facts(run))

    def _facts(self, run) -> Iterator[str]:
        seconds = self._written - self._began
        if self._phase:
            yield self._phase
        if self._images and len(run):
            left = (len(run) * len(run.loader) - run.state.step) * run.experiment.batch_size
            yield f"{self._images / seconds:.1f} img/s"
            yield f"{_duration(left * seconds / self._images)} left"
        yield f"{_duration(seconds)} so far"
        if run.device.type == "cuda":
            yield f"{torch.cuda.max_memory_allocated(run.device) / 1e9:.1f} GB of GPU memory at most"
        if len(run):
            yield f"learning rate {run.optimizer.param_groups[-1]['lr']:.2g}"
            if run.state.partial:
                yield f"largest gradient {float(run.state.partial.gradient):.2g}"
        else:
            yield f"showing this took {self.budget.share:.1%} of the time"


def _duration(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))


def _table(rows: list[dict[str, float]]) -> str:
    """Return the last validations as HTML; the best score of all is bold."""
    table = pd.DataFrame(rows, columns=list(COLUMNS)).rename(columns=COLUMNS).dropna(subset=SCORE)
    best = table[SCORE].max()
    special = {SCORE: lambda score: f"<b>{score:.4f}</b>" if score == best else f"{score:.4f}", "s": "{:.0f}".format}
    options = {"index": False, "border": 0, "escape": False, "na_rep": "–", "float_format": "{:.4f}".format}
    style = "<table style='border-spacing:12px 0;text-align:right' "
    return table.tail(ROWS).to_html(formatters=special, **options).replace("<table ", style)


def watch(run: Fit) -> Iterator[dict[str, float]]:
    """Train `run` as `for row in run` does, and show it: `for row in watch(fit(experiment)): ...`.

    Where a person watches a notebook, a dashboard with a Stop button; elsewhere a bar of text, and a line after each
    validation. `run.progress` False (`fit(..., progress=False)`): nothing but the rows.

    Yields each epoch's row of the history. Raises TrainingStopped (a KeyboardInterrupt) after Stop or an interrupt,
    with everything saved; the same call resumes the run.
    """
    spoken = run.progress and not has_widgets()
    if run.progress and not spoken:
        run.watched_by(Dashboard())
    for row in run:
        if spoken and not math.isnan(row["val_mean_iou"]):
            print(
                f"epoch {row['epoch']:3}  train loss {row['train_loss']:.3f}  val loss {row['val_loss']:.3f}"
                f"  val mean IoU {row['val_mean_iou']:.3f} ({run.experiment.protocol} protocol)"
            )
        yield row
