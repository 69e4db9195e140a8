"""Where a run stands: its history, and the epoch that is under way. Goes into checkpoints, comes out of them.

A run folder: experiment.json, history.csv, record.json and the checkpoints (see `nnti.models.saved`).

May this training go on from that checkpoint, and what becomes of its settings?
"""

import json
import math
import re
import time
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from nnti.data import SegmentationDataset
from nnti.device import commit, device_name, resolve_precision, versions
from nnti.errors import RunError
from nnti.experiment import Experiment
from nnti.folders import find_run_dir, list_runs, one_writer, write_whole
from nnti.loss import LossSum
from nnti.metrics import METRICS, ConfusionMatrix
from nnti.models.saved import check_classes, load_checkpoint
from nnti.training.optimizer import poly
from nnti.training.parallel import World

__all__ = [
    "Checkpoints",
    "Partial",
    "RunFolder",
    "RunState",
    "SaveClock",
    "build_record",
    "check_data",
    "continued",
    "describe_data",
    "find_run",
    "history_row",
    "list_runs",
    "refuse_foreign_folder",
    "stopped",
    "where",
    "write_evaluation",
]


@dataclass
class Partial:
    """An epoch that is under way: steps done, what this process has summed up in them, and their seconds."""

    step: int
    total: LossSum
    matrix: ConfusionMatrix
    seconds: float = 0.0

    @classmethod
    def empty(cls, num_classes: int, ignore_index: int, device: torch.device) -> "Partial":
        """Return an epoch of which nothing is done."""
        return cls(0, LossSum(*torch.zeros(2, device=device)), ConfusionMatrix(num_classes, ignore_index))

    def add(self, loss: LossSum) -> None:
        """Count a step; its loss carries no graph."""
        self.total = LossSum(self.total.total + loss.total, self.total.weight + loss.weight)
        self.step += 1

    def save(self, world: World) -> dict[str, Any]:
        """Return all processes' sums together, as plain types and tensors; all processes must call it."""
        total, matrix = world.gather(self.total, self.matrix)
        sums = {"total": float(total.total), "weight": float(total.weight), "counts": matrix.counts().cpu()}
        return {"step": self.step, "seconds": self.seconds, **sums}

    def restore(self, saved: dict[str, Any], world: World) -> None:
        """Take up what `save` returned; the main process alone has the sums, or they would be counted several times."""
        self.step, self.seconds = saved["step"], saved["seconds"]
        if world.main:
            self.total = LossSum(*torch.tensor([saved["total"], saved["weight"]], device=self.total.total.device))
            self.matrix.restore(saved["counts"])


class SaveClock:
    """Says when it is time to save within an epoch.

    Args:
        interval: (number, "s" or "steps"); None: never. step: steps done of the epoch.
    """

    def __init__(self, interval: tuple[float, str] | None, step: int):
        self.interval = interval
        self.saved(step)

    def saved(self, step: int) -> None:
        """Begin to count anew."""
        self._step, self._time = step, time.perf_counter()

    def due(self, step: int) -> bool:
        """Whether as much has passed since the last time."""
        if self.interval is None:
            return False
        number, unit = self.interval
        return (step - self._step if unit == "steps" else time.perf_counter() - self._time) >= number


@dataclass
class RunState:
    """The history of a run.

    Attributes:
        rows: one per epoch (see `nnti.training.run_folder.history_row`); the first is the untrained network's.
        best: epoch and mean_iou of the best validation.
        extensions: where the run was given more epochs than it was begun with.
        sessions: on what, with what versions and in how many processes it was trained, from which epoch and step on.
        partial: the epoch under way.
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
        """Steps done of the epoch under way."""
        return self.partial.step if self.partial else 0

    def save(self, world: World) -> dict[str, Any]:
        """Return everything as plain types and tensors; all processes must call it."""
        partial = None if self.partial is None else self.partial.save(world)
        history = {"rows": self.rows, "best": self.best, "extensions": self.extensions, "sessions": self.sessions}
        return {**history, "partial": partial}

    def restore(self, saved: dict[str, Any], world: World, empty: Partial) -> None:
        """Take up what `save` returned."""
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
        if row["epoch"] and (mean_iou > self.best["mean_iou"] or (self.best["epoch"] is None and mean_iou == mean_iou)):
            self.best = {"epoch": row["epoch"], "mean_iou": mean_iou}

    def scores(self, protocol: str) -> dict[str, Any]:
        """Return the last epoch's validation results; empty if there was no validation."""
        row = self.rows[-1] if self.rows else {}
        found = {name: row.get(f"val_{name}", math.nan) for name in ("loss", *METRICS)}
        return {} if math.isnan(found["pixel_accuracy"]) else {"protocol": protocol, **found}

    def enter_session(self, device: torch.device, precision: torch.dtype, world: World, commit: str | None) -> None:
        """Note where and with what the training goes on, unless that is as before."""
        now = {
            "device": device_name(device),
            "processes": world.size,
            "precision": str(precision).removeprefix("torch."),
            "versions": versions(),
            "commit": commit,
        }
        if not self.sessions or {**self.sessions[-1], **now} != self.sessions[-1]:
            self.sessions.append({"epoch": self.done + 1, "step": self.step, **now})


TAIL = 1 << 16  # bytes


class Checkpoints:
    """The checkpoints of a run folder: the last one, the one before it, the best and those that are kept."""

    def __init__(self, folder: Path):
        self.last, self.previous, self.best = (folder / name for name in ("last.pt", "previous.pt", "best.pt"))
        self.damaged = folder / "last.damaged.pt"
        self._folder, self._last_is_whole = folder, False
        self._seen: bytes | None = None  # last.pt as this object left it

    def kept(self, epoch: int) -> Path:
        """Return the path of the checkpoint that is kept of an epoch."""
        return self._folder / f"epoch_{epoch:03d}.pt"

    def load_last(self) -> dict[str, Any] | None:
        """Read the last checkpoint, or the one before it where the last is damaged; None if there is neither.

        Nothing is changed. Raises RunError if what is there is damaged.
        """
        problems, self._seen = [], _stamp(self.last)
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                found = load_checkpoint(path)
            except RunError as error:
                problems.append(str(error))
                continue
            self._last_is_whole = path == self.last
            if problems:
                warnings.warn(f"{problems[0]}; going on from {path.name}, the one before it", stacklevel=2)
            return found
        if problems:
            raise RunError(
                "; ".join(problems) + ". Nothing was changed. Put a copy of one of them in its place, or pass "
                "restart=True (--restart) to start over"
            )
        return None

    def save_last(self, checkpoint: dict[str, Any]) -> None:
        """Write last.pt; what it replaces becomes previous.pt, unless it was found damaged."""
        if _stamp(self.last) != self._seen:
            raise RunError(
                f"{self.last} was written by another training meanwhile and is left as it is. Give the same command "
                "again to go on from it, or pass another run_dir (--run-dir)"
            )
        if self.last.exists() and not self._last_is_whole:
            self.last.replace(self.damaged)
        self.save(self.last, checkpoint, previous=self.previous)
        self._last_is_whole, self._seen = True, _stamp(self.last)

    def load_best(self, epoch: int) -> dict[str, Any] | None:
        """Return the best epoch's checkpoint, from best.pt or the kept one; None if neither is whole and its own."""
        for path in (self.best, self.kept(epoch)):
            try:
                found = load_checkpoint(path)
            except RunError:
                continue
            if found["epoch"] == epoch:
                return found
        return None

    def save(self, path: Path, checkpoint: dict[str, Any], previous: Path | None = None) -> None:
        """Write a checkpoint."""
        write_whole(path, lambda file: torch.save(checkpoint, file), previous)


def _stamp(path: Path) -> bytes | None:
    """Return what changes when a checkpoint is written anew; None if it is not there.

    It is the file's end, where the checksums of its members are: network and cloud disks may change its time later.
    """
    try:
        with open(path, "rb") as file:
            file.seek(max(0, path.stat().st_size - TAIL))
            return file.read()
    except OSError:
        return None


RECORD, HISTORY, EXPERIMENT, ANALYSIS = "record.json", "history.csv", "experiment.json", "analysis.json"
OWN_CHECKPOINTS = ("last.pt", "previous.pt", "last.damaged.pt", "best.pt", "epoch_[0-9][0-9][0-9]*.pt")
OWN_FILES = (*OWN_CHECKPOINTS, RECORD, HISTORY, EXPERIMENT, ANALYSIS, "tensorboard/events.out.tfevents.*")


class RunFolder:
    """The files of one run.

    Args:
        path: the folder, made when something is first written.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.checkpoints = Checkpoints(self.path)

    @property
    def last(self) -> Path:
        """Checkpoint that training goes on from."""
        return self.checkpoints.last

    @property
    def best(self) -> Path:
        """Checkpoint of the epoch with the best validation mean IoU."""
        return self.checkpoints.best

    def experiment(self) -> Experiment:
        """Read the run's settings."""
        return Experiment.load(self.path)

    def history(self) -> pd.DataFrame:
        """Read one row per epoch; row 0 is the untrained network, unmeasured cells are NaN."""
        if not (self.path / HISTORY).is_file():
            raise RunError(f"{self.path} holds no {HISTORY}: no epoch of this run is finished")
        return pd.read_csv(self.path / HISTORY)

    def record(self) -> dict[str, Any]:
        """Read record.json."""
        try:
            return json.loads((self.path / RECORD).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.path} holds no {RECORD}: it is no run folder, or no epoch is finished") from None
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            raise RunError(
                f"{self.path / RECORD} is damaged ({error}); remove it and train again: a complete run writes it anew"
            ) from error

    def analysis(self) -> dict[str, Any] | None:
        """Read what `nnti.inference.errors.analyze` has found, None where nobody has asked."""
        path = self.path / ANALYSIS
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None

    def write_analysis(self, analysis: dict[str, Any]) -> Path:
        """Write analysis.json."""
        # a line per list of numbers: a matrix can be read in the file
        text = re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), _json(analysis))
        self._write_text(ANALYSIS, text)
        return self.path / ANALYSIS

    @property
    def finished(self) -> bool:
        """Whether the record is there and closed."""
        try:
            return self.record()["finished"]
        except RunError:
            return False

    def one_writer(self) -> AbstractContextManager[None]:
        """Keep other trainings out of the folder meanwhile; RunError if one is there."""
        return one_writer(self.path)

    def clear(self) -> None:
        """Remove the files of an earlier run, so that none stands beside the new ones; other files are left alone."""
        for pattern in OWN_FILES:
            for path in [*self.path.glob(pattern), *self.path.glob(f"{pattern}.part")]:
                path.unlink()
        self.checkpoints = Checkpoints(self.path)

    def write_experiment(self, experiment: Experiment) -> None:
        """Make the folder and write the settings into it."""
        self.path.mkdir(parents=True, exist_ok=True)
        self._write_text(EXPERIMENT, experiment.to_json())

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Write all epochs so far."""
        self._write_text(HISTORY, pd.DataFrame(rows).to_csv(index=False, float_format="%.8g"))

    def write_record(self, record: dict[str, Any]) -> None:
        """Write record.json; NaN becomes null."""
        self._write_text(RECORD, _json(record))

    def _write_text(self, name: str, text: str) -> None:
        write_whole(self.path / name, text)


def find_run(name_or_path: str | Path) -> RunFolder:
    """Return a run folder by its path, or by its name in runs/ or report/runs/."""
    return RunFolder(find_run_dir(name_or_path))


def history_row(epoch: int, train: dict | None, val: dict | None, **others: float) -> dict[str, float]:
    """Flatten the measurements of one epoch into columns train_…, val_…."""
    row: dict[str, float] = {"epoch": epoch, **others}
    for prefix, measured in (("train", train), ("val", val)):
        for name in ("loss", *METRICS):
            row[f"{prefix}_{name}"] = measured[name] if measured else math.nan
    return row


def describe_data(train: SegmentationDataset, val: SegmentationDataset) -> dict[str, Any]:
    """Return what a record says of its data."""
    return {
        "title": train.title,
        "train_split": train.split,
        "train_images": len(train),
        "val_split": val.split,
        "val_images": len(val),
        "class_names": list(train.class_names),
        "cache": train.cache,
    }


def build_record(
    experiment: Experiment, state: RunState, data: dict[str, Any], parameters: int, steps: int
) -> dict[str, Any]:
    """Return the record of a run that is not finished, as it stands; `steps` are those of an epoch."""
    seconds = [row["train_seconds"] for row in state.rows if row["epoch"] > 0]
    images = steps * experiment.batch_size
    return {
        "name": experiment.name,
        "finished": False,
        "experiment": experiment.to_dict(),
        "data": data,
        "parameters": parameters,
        "seed": experiment.seed,
        **{key: value for key, value in state.sessions[-1].items() if key not in ("epoch", "step")},
        "sessions": state.sessions,
        "extensions": state.extensions,
        "epochs": state.done,
        "seconds_per_epoch": float(np.median(seconds)) if seconds else None,
        "images_per_second": images / float(np.median(seconds)) if seconds else None,
        "train_seconds": sum(seconds),
        "best_epoch": state.best["epoch"],
        "untrained": {key: value for key, value in state.rows[0].items() if key.startswith("val_")},
    }


def write_evaluation(
    path: Path,
    run: RunFolder,
    checkpoint: dict[str, Any],
    device: torch.device,
    dataset: SegmentationDataset,
    results: list[dict[str, Any]],
) -> Path:
    """Write what was measured of a run's checkpoint, and on what, as JSON; return the path.

    Args:
        checkpoint: as `load_model` returns it. device: on which it was measured. dataset: the split.
        results: as `nnti.inference.evaluate.evaluate` returns them, one for each protocol.
    """
    precision = resolve_precision(checkpoint["experiment"]["precision"], device)
    written = {
        "run": run.path.resolve().name,
        "epoch": checkpoint["epoch"],
        "device": device_name(device),
        "precision": str(precision).removeprefix("torch."),
        "versions": versions(),
        "commit": commit(),
        "data": dataset.title,
        "split": dataset.split,
        "validation": {result["protocol"]: result for result in results},
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, _json(written))
    return path


def _json(content: dict[str, Any]) -> str:
    return json.dumps(_plain(content), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


NEEDED = ("optimizer", "scaler", "rows", "best", "extensions", "sessions", "partial", "images")
# what a machine does, and how often it saves, leaves the results as they are (up to rounding, on another device)
FREE_SETTINGS = ("device", "num_workers", "cache", "checkpoint_every", "keep_every", "tensorboard")


def continued(run: RunFolder, experiment: Experiment, saved: dict[str, Any], extend: bool) -> dict[str, Any] | None:
    """Return the checkpoint to go on from; None where it has learned nothing yet under other settings.

    With `extend`, more epochs than before are accepted, and the checkpoint says from which epoch on. Raises RunError,
    listing the settings that differ, for another experiment.
    """
    lacking = [key for key in NEEDED if key not in saved]
    if lacking:
        raise RunError(
            f"{run.last} cannot be gone on from: it lacks {', '.join(lacking)}. It is a checkpoint for use alone, such "
            "as best.pt, or of an older version of this project. Pass restart=True (--restart), or another run_dir"
        )
    before = Experiment.from_dict(saved["experiment"])
    changed = {key: pair for key, pair in before.differences(experiment).items() if key not in FREE_SETTINGS}
    longer = experiment.epochs > before.epochs
    if extend and longer:
        del changed["epochs"]
    if not changed:
        return _extended(saved, before, experiment) if longer else saved
    if len(saved["rows"]) <= 1 and saved["partial"] is None:
        return None
    listed = ", ".join(f"{key}: {old!r} → {new!r}" for key, (old, new) in changed.items())
    more = " To train it longer, pass extend=True (--extend)." if longer and list(changed) == ["epochs"] else ""
    raise RunError(
        f"{run.path} holds a run with other settings ({listed}).{more} Pass restart=True (--restart) to replace "
        "it, or another run_dir (--run-dir) to keep both"
    )


def _extended(saved: dict[str, Any], before: Experiment, experiment: Experiment) -> dict[str, Any]:
    done = len(saved["rows"]) - 1
    step = {"after_epoch": done, "from_epochs": before.epochs, "to_epochs": experiment.epochs}
    return {**saved, "extensions": [*saved["extensions"], step]}


def check_data(run: RunFolder, saved: dict[str, Any], images: dict[str, int], dataset: SegmentationDataset) -> None:
    """Raise RunError if a split has another number of images than when the run began, or the data set other classes."""
    check_classes(saved, dataset, run.last)
    for split, now in images.items():
        before = saved["images"][split]
        if now != before:
            raise RunError(
                f"{run.path} was trained with {before} images in its {split}, and there are {now} now. Restore the "
                "data set, or pass restart=True (--restart) or another run_dir (--run-dir)"
            )


def refuse_foreign_folder(run: RunFolder) -> None:
    """Raise RunError for results without a checkpoint to go on from, such as a committed record: they are kept."""
    found = [path.name for path in (run.best, run.path / "record.json") if path.exists()]
    if found:
        raise RunError(
            f"{run.path} holds {' and '.join(found)} of a run but no {run.last.name} to go on from. Pass "
            "another run_dir (--run-dir) to keep it, or restart=True (--restart) to replace it"
        )


def where(state: RunState, experiment: Experiment, steps: int) -> str:
    """Say where a run stands that is taken up again; `steps` are those of an epoch."""
    done, epochs = state.done, experiment.epochs
    if done == epochs:
        return f"is complete ({done} of {epochs} epochs)"
    step = f", step {state.step} of {steps}" if state.partial else ""
    text = f"goes on after epoch {done}{step} ({done} of {epochs} epochs)"
    last = state.extensions[-1] if state.extensions else None
    if last and last["after_epoch"] == done:
        factor = poly(done, epochs, experiment.power)
        text += (
            f"; extended from {last['from_epochs']} to {epochs} epochs, so the learning rate follows the longer "
            f"schedule from here, at {factor:.3g} of its first value"
        )
    return text


def stopped(state: RunState, experiment: Experiment, steps: int, last: Path) -> str:
    """Say where a run stands that ends early, and how it goes on; `last` is its checkpoint."""
    return (
        f"stopped in epoch {state.done + 1} of {experiment.epochs} after step {state.step} of {steps}; "
        f"saved in {last}: the same call, or command, goes on from there"
    )
