"""Work that may take a small share of the time only.

Two small panels that are drawn again and again: loss and mean IoU so far.

The dashboard of a training in a notebook: progress, curves, predictions that get better, and a Stop button.

Train in a notebook's cell and see how it goes.
"""

import html
import io
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import ipywidgets as widgets
import matplotlib.pyplot as plt
import numpy as np
import psutil
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image

from nnti.device import device_name
from nnti.experiment import Experiment
from nnti.figures.style import PALE, STYLE, run_style
from nnti.loss import LossSum
from nnti.progress import answering, has_widgets, interface_events
from nnti.training.loop import Fit
from nnti.training.monitors import Monitor, Snapshots

__all__ = ["Budget", "Dashboard", "LiveCurves", "watch"]


class Budget:
    """Says when work that is not needed may be done, so that all of it together takes at most `share` of the time.

    Args:
        share: of the seconds since this was made.
        clock: seconds, rising.

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


SHARE = 0.015  # of the training's time that the dashboard may take
TEXT_EVERY = 0.5  # seconds
EVENTS = 5  # clicks answered at a time
ROWS = 5  # of the table: the last validations
COLUMNS = {
    "epoch": "epoch",
    "train_loss": "train loss",
    "val_loss": "val loss",
    "val_mean_iou": "val mean IoU",
    "val_dice": "val Dice (= F1)",
    "val_pixel_accuracy": "val pixel accuracy",
    "train_seconds": "s",
}


class Dashboard(Monitor):
    """Shows a training in the cell that runs it.

    Numbers follow twice a second; curves and predictions as often as SHARE of the training's time allows, and at the
    end. Everything lives in the kernel: it goes on when the browser is closed.

    Attributes: `box`, the widget; `budget`, what showing has cost.
    """

    def __init__(self):
        self.budget, self._written, self._phase, self._events = Budget(SHARE), 0.0, "", None
        self._epochs, self._steps = _bar(), _bar()
        self._title, self._numbers, self._table = (widgets.HTML() for _ in range(3))
        self._stop = widgets.Button(description="Stop", icon="stop", button_style="warning")
        self._stop.tooltip = "End after the step under way, with everything saved; running the cell again goes on"
        self._curves, self._pictures = widgets.Image(format="png"), widgets.Image(format="png")
        for picture, width in ((self._curves, "760px"), (self._pictures, "760px")):
            picture.layout = widgets.Layout(width="100%", max_width=width)
        head = widgets.HBox([self._title, self._stop], layout=widgets.Layout(justify_content="space-between"))
        self.box = widgets.VBox(
            [head, self._epochs, self._steps, self._numbers, self._curves, self._table, self._pictures]
        )
        self.box.layout.max_width = "780px"
        self.box.layout.overflow = "hidden"  # a few pixels too wide would bring a scroll bar
        self.box.add_class("nnti-dashboard")

    def begin(self, run) -> None:
        """Show what is known before the first step."""
        from IPython.display import display

        experiment, self._began, self._done = run.experiment, time.perf_counter(), 0
        self._live, self._snapshots = LiveCurves(experiment), Snapshots(run.val_data, experiment)
        self._stop.on_click(lambda _: self._ask_to_stop(run))
        self._epochs.max, self._steps.max = experiment.epochs, len(run.loader)
        images = f"{len(run.train_data)} train / {len(run.val_data)} val images"
        about = f"{run.train_data.title}, {images}, {device_name(run.device)}"
        self._title.value = f"<b>{html.escape(experiment.name)}</b><br><small>{html.escape(about)}</small>"
        self._events = interface_events()
        self._poll = self._events.__enter__()
        display(self.box)
        answering(self._stop)
        self._write(run)
        if run.rows:
            self._show_epoch(run, always=True)

    def step(self, run, loss: LossSum) -> None:
        """Count a step; now and then look at the loss and show numbers and curves."""
        self._done += run.experiment.batch_size
        if time.perf_counter() - self._written < TEXT_EVERY:
            return
        with self.budget.spending("numbers"):
            self._poll(EVENTS)
            self._live.add(run.state.done + run.state.step / len(run.loader), float(loss.mean))
            self._write(run)
        if self.budget.allows("curves"):
            self._draw_curves(run)

    def phase(self, run, text: str) -> None:
        """Say what takes so long."""
        self._phase = text
        self._write(run)

    def epoch(self, run) -> None:
        """Show the epoch's row."""
        self._poll(EVENTS)
        self._show_epoch(run, always=run.state.done == 0)

    def end(self, run) -> None:
        """Show everything as it is now; nothing is left to be stopped."""
        self._phase = (
            "finished" if not len(run) else f"stopped after epoch {run.state.done}, step {run.state.step}: saved"
        )
        self._write(run)
        if run.rows:
            self._show_epoch(run, always=True)
        self._stop.layout.visibility = "hidden"
        self._events.__exit__(None, None, None)

    def _ask_to_stop(self, run) -> None:
        run.stop()
        self._stop.disabled, self._stop.description = True, "Stopping …"

    def _show_epoch(self, run, always: bool) -> None:
        """Show table, curves and predictions, those that cost much only where the budget allows or `always`."""
        self._table.value = _table(run.rows)
        if always or self.budget.allows("curves"):
            self._draw_curves(run)
        if always or self.budget.allows("pictures"):
            with self.budget.spending("pictures"):
                self._pictures.value = _picture(self._snapshots.take(run.model))

    def _draw_curves(self, run) -> None:
        with self.budget.spending("curves"):
            self._curves.value = self._live.draw(run.rows)

    def _write(self, run) -> None:
        """Write what costs nothing: bars and numbers."""
        self._written = time.perf_counter()
        self._epochs.value, self._steps.value = run.state.done, run.state.step
        self._epochs.description = f"epoch {min(run.state.done + 1, run.experiment.epochs)}/{run.experiment.epochs}"
        self._steps.description = f"step {run.state.step}/{len(run.loader)}"
        self._numbers.value = " · ".join(html.escape(text) for text in self._said(run))

    def _said(self, run) -> Iterator[str]:
        seconds = self._written - self._began
        if self._phase:
            yield self._phase
        if self._done and len(run):
            left = (len(run) * len(run.loader) - run.state.step) * run.experiment.batch_size
            yield f"{self._done / seconds:.1f} img/s"
            yield f"{_duration(left * seconds / self._done)} left"
        yield f"{_duration(seconds)} so far"
        yield _memory(run.device)
        if not len(run):
            yield f"showing this took {self.budget.share:.1%} of the time"
            return
        yield f"learning rate {run.optimizer.param_groups[-1]['lr']:.2g}"


def _bar() -> widgets.IntProgress:
    return widgets.IntProgress(layout=widgets.Layout(width="100%"), style={"description_width": "110px"})


def _table(rows: list[dict[str, float]]) -> str:
    """Return the last validations as HTML; the best of all is bold."""
    validated = [row for row in rows if not math.isnan(row["val_mean_iou"])]
    best = max(validated[1:], key=lambda row: row["val_mean_iou"], default=None)
    lines = "".join(_line(row, bold=row is best) for row in validated[-ROWS:])
    head = "".join(f"<th>{title}</th>" for title in COLUMNS.values())
    return f"<table style='border-spacing:12px 0;text-align:right'><tr>{head}</tr>{lines}</table>"


def _line(row: dict[str, float], bold: bool) -> str:
    cells = []
    for name in COLUMNS:
        value = row[name]
        text = "–" if math.isnan(value) else f"{value:.0f}" if name in ("epoch", "train_seconds") else f"{value:.4f}"
        cells.append(f"<td>{f'<b>{text}</b>' if bold else text}</td>")
    return f"<tr>{''.join(cells)}</tr>"


def _picture(snapshots) -> bytes:
    """Set images, truths and predictions, one column an image, as PNG."""
    height = min(snapshot.image.shape[0] for snapshot in snapshots)
    columns = []
    for snapshot in snapshots:
        width = round(snapshot.image.shape[1] * height / snapshot.image.shape[0])
        kinds = [
            np.asarray(Image.fromarray(part).resize((width, height), kind))
            for part, kind in zip(snapshot, (Image.BILINEAR, Image.NEAREST, Image.NEAREST), strict=True)
        ]
        gap = np.full((4, width, 3), 255, np.uint8)
        columns += [
            np.concatenate([kinds[0], gap, kinds[1], gap, kinds[2]]),
            np.full((3 * height + 8, 4, 3), 255, np.uint8),
        ]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(columns[:-1], axis=1)).save(buffer, format="png", compress_level=1)
    return buffer.getvalue()


def _duration(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


def _memory(device: torch.device) -> str:
    """Say what the GPU, or without one this process, takes of the memory."""
    if device.type == "cuda":
        return f"{torch.cuda.max_memory_allocated(device) / 1e9:.1f} GB of GPU memory at most"
    return f"{psutil.Process().memory_info().rss / 1e9:.1f} GB of memory"


def watch(run: Fit) -> Iterator[dict[str, float]]:
    """Train `run` as `for row in run` does, and show it: `for row in watch(fit(experiment)): ...`.

    Where a person watches a notebook, a dashboard with a Stop button; elsewhere a bar of text, and a line after each
    validation. `run.progress` False (`fit(..., progress=False)`): nothing but the rows.

    Yields each epoch's row of the history. Raises `nnti.training.stopping.TrainingStopped` after Stop or an interrupt, with
    everything saved; the same call goes on.
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
