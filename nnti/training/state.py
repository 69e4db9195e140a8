"""The progress of a run: its history and the current epoch, as saved in checkpoints."""

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from nnti.data import SegmentationDataset
from nnti.device import commit, device_name, versions
from nnti.loss import LossSum
from nnti.metrics import METRICS, ConfusionMatrix
from nnti.training.parallel import World


@dataclass
class Partial:
    """The current epoch: steps done, sums of this process over them, the gradient's largest norm, and seconds."""

    step: int
    total: LossSum
    matrix: ConfusionMatrix
    gradient: torch.Tensor
    seconds: float = 0.0

    @classmethod
    def empty(cls, dataset: SegmentationDataset, device: torch.device) -> "Partial":
        """Return an epoch before its first step."""
        matrix = ConfusionMatrix(dataset.num_classes)
        return cls(0, LossSum(*torch.zeros(2, device=device)), matrix, torch.zeros((), device=device))

    def save(self, world: World) -> dict[str, Any]:
        """Return all processes' sums together, as plain types and tensors; all processes must call it."""
        total, matrix = world.sum(self.total, self.matrix)
        sums = {"total": float(total.total), "weight": float(total.weight), "counts": matrix.counts().cpu()}
        return {"step": self.step, "seconds": self.seconds, "gradient": float(self.gradient), **sums}

    def restore(self, saved: dict[str, Any], world: World) -> None:
        """Restore what `save` returned; only the main process gets the sums, or they would count several times."""
        self.step, self.seconds = saved["step"], saved["seconds"]
        self.gradient = torch.full_like(self.gradient, saved.get("gradient", 0.0))  # older runs did not measure it
        if world.main:
            self.total = LossSum(*torch.tensor([saved["total"], saved["weight"]], device=self.total.total.device))
            self.matrix.restore(saved["counts"])


@dataclass
class RunState:
    """The history of a run.

    Attributes:
        rows: one per epoch (see `history_row`); the first is the untrained network's.
        best: epoch and mean_iou of the best validation.
        extensions: where epochs were added to the run.
        sessions: device, versions and number of processes, each from an epoch and step on.
        partial: the current epoch.
    """

    rows: list[dict[str, float]] = field(default_factory=list)
    best: dict[str, Any] = field(default_factory=lambda: {"epoch": None, "mean_iou": -math.inf})
    extensions: list[dict[str, int]] = field(default_factory=list)
    sessions: list[dict[str, Any]] = field(default_factory=list)
    partial: Partial | None = None

    @property
    def done(self) -> int:
        """Number of finished epochs."""
        return int(self.rows[-1]["epoch"]) if self.rows else 0

    @property
    def step(self) -> int:
        """Steps done in the current epoch."""
        return self.partial.step if self.partial else 0

    def save(self, world: World) -> dict[str, Any]:
        """Return everything as plain types and tensors; all processes must call it."""
        partial = None if self.partial is None else self.partial.save(world)
        history = {"rows": self.rows, "best": self.best, "extensions": self.extensions, "sessions": self.sessions}
        return {**history, "partial": partial}

    def restore(self, saved: dict[str, Any], world: World, empty: Partial) -> None:
        """Restore what `save` returned; `empty` becomes the current epoch if one was interrupted."""
        self.rows, self.best = saved["rows"], saved["best"]
        self.extensions, self.sessions = saved["extensions"], saved["sessions"]
        if saved["partial"] is not None:
            empty.restore(saved["partial"], world)
            self.partial = empty

    def finish_epoch(self, row: dict[str, float]) -> None:
        """Add an epoch's row; it is the best if its validation mean IoU is, ties going to the earlier one."""
        self.rows.append(row)
        self.partial = None
        mean_iou = row["val_mean_iou"]
        if row["epoch"] and mean_iou > self.best["mean_iou"]:
            self.best = {"epoch": row["epoch"], "mean_iou": mean_iou}

    def scores(self, protocol: str) -> dict[str, Any]:
        """Return the last epoch's validation results; empty if there was no validation."""
        row = self.rows[-1] if self.rows else {}
        found = {name: row.get(f"val_{name}", math.nan) for name in ("loss", *METRICS)}
        return {} if math.isnan(found["pixel_accuracy"]) else {"protocol": protocol, **found}

    def enter_session(
        self, device: torch.device, precision: torch.dtype, world: World, weights: dict[str, Any] | None
    ) -> None:
        """Note device, versions and file of the weights that training begins or continues with, if changed."""
        now = {
            "device": device_name(device),
            "processes": world.size,
            "precision": str(precision).removeprefix("torch."),
            "versions": versions(),
            "commit": commit(),
            **({"weights": weights} if weights else {}),
        }
        if not self.sessions or {**self.sessions[-1], **now} != self.sessions[-1]:
            self.sessions.append({"epoch": self.done + 1, "step": self.step, **now})

    def place(self, epochs: int, steps: int) -> str:
        """Say where a resumed run of `epochs` epochs of `steps` steps stands."""
        if self.done == epochs:
            return f"is complete ({self.done} of {epochs} epochs)"
        step = f", step {self.step} of {steps}" if self.partial else ""
        text = f"goes on after epoch {self.done}{step} ({self.done} of {epochs} epochs)"
        last = self.extensions[-1] if self.extensions else {"after_epoch": None}
        if last["after_epoch"] == self.done:
            text += f"; extended from {last['from_epochs']} to {epochs} epochs, so the learning rate jumps up"
        return text


def history_row(epoch: int, train: dict | None, val: dict | None, **others: float) -> dict[str, float]:
    """Flatten the measurements of one epoch into columns train_…, val_…."""
    row: dict[str, float] = {"epoch": epoch, **others}
    for prefix, measured in (("train", train), ("val", val)):
        for name in ("loss", *METRICS):
            row[f"{prefix}_{name}"] = measured[name] if measured else math.nan
    return row
