"""A run folder: experiment.json, history.csv, record.json and the checkpoints (see `nnti.checkpoints`)."""

import json
import math
import re
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from nnti.checkpoints import Checkpoints, load_checkpoint, load_model
from nnti.config import Experiment
from nnti.data import SegmentationDataset
from nnti.device import commit, device_name, resolve_precision, versions
from nnti.metrics import METRICS
from nnti.paths import home, runs_dir
from nnti.state import RunState
from nnti.storage import RunError, one_writer, write_whole

__all__ = [
    "RunError", "RunFolder", "build_record", "describe_data", "find_run", "history_row", "list_runs", "load_checkpoint",
    "load_model", "write_evaluation",
]  # fmt: skip

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
        """Read what `nnti.analysis.analyze` has found, None where nobody has asked."""
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
        write_whole(self.path / name, lambda file: file.write(text.encode()))


def find_run(name_or_path: str | Path) -> RunFolder:
    """Return a run folder by its path, or by its name in runs/ or report/runs/."""
    candidates = [Path(name_or_path), runs_dir() / name_or_path, home() / "report" / "runs" / name_or_path]
    for candidate in candidates:
        if (candidate / EXPERIMENT).is_file() or (candidate / RECORD).is_file():
            return RunFolder(candidate)
    looked = ", ".join(str(candidate) for candidate in candidates)
    there = ", ".join(dict.fromkeys([*list_runs(), *_report_runs()])) or "none yet"
    raise RunError(f"no run '{name_or_path}' (looked at {looked}); there are: {there}")


def list_runs() -> list[str]:
    """Return the names of all runs in runs/ that have a record; those of the report are `nnti.report`'s."""
    return sorted(path.parent.name for path in runs_dir().glob(f"*/{RECORD}"))


def _report_runs() -> list[str]:
    """Return the names of the report's runs whose trained network is part of the project."""
    return sorted(path.parent.name for path in (home() / "report" / "runs").glob("*/best.pt"))


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
        results: as `nnti.evaluate.evaluate` returns them, one for each protocol.
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
    write_whole(path, lambda file: file.write(_json(written).encode()))
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
