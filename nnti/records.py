"""A run folder: experiment.json, history.csv, record.json, last.pt, best.pt and kept checkpoints.

Checkpoints describe themselves: settings, classes and scores travel with the weights, as plain types and tensors that
`torch.load(weights_only=True)` reads. Every file is written beside its place and moved there when it is whole.
"""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from nnti.config import Experiment
from nnti.metrics import METRICS
from nnti.models import build_model
from nnti.paths import home, runs_dir

__all__ = ["RunError", "RunFolder", "find_run", "history_row", "list_runs", "load_checkpoint", "load_model"]

RECORD, HISTORY, EXPERIMENT = "record.json", "history.csv", "experiment.json"


class RunError(RuntimeError):
    """A run folder or checkpoint is missing, damaged or another experiment's; the message says what to do."""


class RunFolder:
    """The files of one run.

    Args:
        path: the folder, made when something is first written.
    """

    def __init__(self, path: str | Path):
        self.path = Path(path)

    @property
    def last(self) -> Path:
        """Checkpoint of the last finished epoch."""
        return self.path / "last.pt"

    @property
    def best(self) -> Path:
        """Checkpoint of the epoch with the best validation mean IoU."""
        return self.path / "best.pt"

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

    def clear(self) -> None:
        """Remove the files of an earlier run, so that none stands beside the new ones; other files are left alone."""
        for pattern in ("last.pt", "best.pt", "epoch_[0-9][0-9][0-9]*.pt", RECORD, HISTORY, EXPERIMENT):
            for path in self.path.glob(pattern):
                path.unlink()

    def write_experiment(self, experiment: Experiment) -> None:
        """Make the folder and write the settings into it."""
        self.path.mkdir(parents=True, exist_ok=True)
        _write(self.path / EXPERIMENT, lambda path: experiment.save(path))

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Write all epochs so far."""
        _write(self.path / HISTORY, lambda path: pd.DataFrame(rows).to_csv(path, index=False, float_format="%.8g"))

    def write_record(self, record: dict[str, Any]) -> None:
        """Write record.json; NaN becomes null."""
        text = json.dumps(_plain(record), indent=1, allow_nan=False, ensure_ascii=False) + "\n"
        _write(self.path / RECORD, lambda path: path.write_text(text, encoding="utf-8"))

    def write_checkpoint(self, name: str, checkpoint: dict[str, Any]) -> None:
        """Write a checkpoint under `name` (last.pt, best.pt, epoch_010.pt)."""
        _write(self.path / name, lambda path: torch.save(checkpoint, path))


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint; nothing in it can run code."""
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise RunError(
            f"{path} does not exist: weights are kept where a run was trained, records alone are committed. Train it: "
            f"python -m nnti train {Path(path).parent.name}"
        ) from None
    except Exception as error:  # torch raises many kinds for damaged files
        raise RunError(f"{path} cannot be read as a checkpoint ({type(error).__name__}: {error})") from error


def load_model(path: str | Path, device: str | torch.device = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild a trained model in eval mode from a checkpoint, or from a run folder's best one.

    Returns the model and the checkpoint's other entries: `experiment`, `class_names`, `palette`,
    `class_weights`, `epoch`, `scores`.
    """
    path = RunFolder(path).best if Path(path).is_dir() else Path(path)
    checkpoint = load_checkpoint(path, device)
    settings, classes = checkpoint["experiment"], len(checkpoint["class_names"])
    model = build_model(settings["model"], classes, settings["model_arguments"], pretrained=False)
    model.load_state_dict(checkpoint.pop("model"))
    checkpoint.pop("optimizer", None)
    return model.to(device).eval(), checkpoint


def find_run(name_or_path: str | Path) -> RunFolder:
    """Return a run folder by its path, or by its name in runs/ or report/runs/."""
    candidates = [Path(name_or_path), runs_dir() / name_or_path, home() / "report" / "runs" / name_or_path]
    for candidate in candidates:
        if (candidate / EXPERIMENT).is_file() or (candidate / RECORD).is_file():
            return RunFolder(candidate)
    looked = ", ".join(str(candidate) for candidate in candidates)
    raise RunError(f"no run '{name_or_path}' (looked at {looked}); there are: {', '.join(list_runs()) or 'none yet'}")


def list_runs() -> list[str]:
    """Return the names of all runs in runs/ and report/runs/ that have a record."""
    folders = (runs_dir(), home() / "report" / "runs")
    return sorted({path.parent.name for folder in folders for path in folder.glob(f"*/{RECORD}")})


def history_row(epoch: int, train: dict | None, val: dict | None, **others: float) -> dict[str, float]:
    """Flatten the measurements of one epoch into columns train_…, val_…."""
    row: dict[str, float] = {"epoch": epoch, **others}
    for prefix, measured in (("train", train), ("val", val)):
        for name in ("loss", *METRICS):
            row[f"{prefix}_{name}"] = measured[name] if measured else math.nan
    return row


def _write(path: Path, write: Callable[[Path], Any]) -> None:
    temporary = path.with_name(path.name + ".part")
    write(temporary)
    os.replace(temporary, path)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
