"""A run folder: experiment.json, history.csv, record.json, analysis.json and the checkpoints.

Every file is written under another name and moved into place when complete, so a killed run leaves the old file or
the new one. last.pt keeps its predecessor as previous.pt.
"""

import json
import re
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from nnti.data import SegmentationDataset
from nnti.device import commit, device_name, resolve_precision, versions
from nnti.errors import RunError
from nnti.experiment import Experiment
from nnti.folders import find_run_dir, plain, write_whole
from nnti.models import count_parameters
from nnti.models.saved import check_classes, load_checkpoint, other_images
from nnti.training.state import RunState

try:
    import fcntl
except ImportError:  # Windows: a second run is not locked out
    fcntl = None

RECORD, HISTORY, EXPERIMENT, ANALYSIS, LOCK = (
    "record.json", "history.csv", "experiment.json", "analysis.json", "run.lock",
)  # fmt: skip
OWN_FILES = (
    "last.pt", "previous.pt", "best.pt", "epoch_[0-9][0-9][0-9]*.pt", RECORD, HISTORY, EXPERIMENT, ANALYSIS,
    "tensorboard/events.out.tfevents.*",
)  # fmt: skip
NEEDED = ("optimizer", "scaler", "rows", "best", "extensions", "sessions", "partial", "images")  # to resume
# these do not change the results (up to rounding, on another device)
FREE_SETTINGS = ("clip_gradient", "device", "num_workers", "cache", "checkpoint_every", "keep_every", "tensorboard")


class RunFolder:
    """The files of one run; the folder `path` is made when something is first written.

    Attributes: `last`, the checkpoint that training resumes from; `previous`, the one before it; `best`, that of the
    epoch with the best validation mean IoU.
    """

    def __init__(self, path: str | Path, experiment: Experiment | None = None):
        self.path, self._experiment = Path(path), experiment
        self.last, self.previous, self.best = (self.path / name for name in ("last.pt", "previous.pt", "best.pt"))
        self._last_is_damaged = False

    # reading

    def experiment(self) -> Experiment:
        """Read the run's settings."""
        return self._experiment or Experiment.load(self.path / EXPERIMENT)  # a folder's name may be that of a preset

    def history(self) -> pd.DataFrame:
        """Read one row per epoch; row 0 is the untrained network, unmeasured cells are NaN."""
        if not (self.path / HISTORY).is_file():
            raise RunError(f"{self.path} holds no {HISTORY}: no epoch of this run is finished")
        try:
            rows = pd.read_csv(self.path / HISTORY)
        except ValueError:  # pandas's ParserError and EmptyDataError, or another encoding
            rows = pd.DataFrame()
        if "epoch" not in rows:
            raise RunError(
                f"{self.path / HISTORY} is damaged, perhaps saved by a spreadsheet; train again: the command that "
                "trained the run writes it anew"
            )
        return rows

    def record(self) -> dict[str, Any]:
        """Read record.json."""
        try:
            record = json.loads((self.path / RECORD).read_text(encoding="utf-8"))
            if "experiment" not in record:
                raise ValueError("it holds something else")
            return record
        except FileNotFoundError:
            raise RunError(f"{self.path} holds no {RECORD}: it is not a run folder, or no epoch is finished") from None
        except ValueError as error:
            raise RunError(
                f"{self.path / RECORD} is damaged ({error}); remove it and train again: a complete run writes it anew"
            ) from error

    def analysis(self) -> dict[str, Any] | None:
        """Read the results of `python -m nnti analyze`; None if the best epoch has not been analysed."""
        path = self.path / ANALYSIS
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
        return found if found and found["epoch"] == self.record()["best_epoch"] else None

    @property
    def finished(self) -> bool:
        """Whether the run has a complete record."""
        try:
            return self.record().get("finished", False)
        except RunError:
            return False

    def kept(self, epoch: int) -> Path:
        """Return the path of the checkpoint kept for an epoch."""
        return self.path / f"epoch_{epoch:03d}.pt"

    def load_last(self) -> dict[str, Any] | None:
        """Read the last checkpoint, or the one before it if the last is damaged or missing; None if there is neither.

        Changes nothing. Raises RunError if both are damaged.
        """
        problems = []
        for path in (self.last, self.previous):
            if not path.exists():
                continue
            try:
                found = load_checkpoint(path)
            except RunError as error:
                problems.append(str(error))
                continue
            self._last_is_damaged = bool(problems)
            if problems:
                warnings.warn(f"{problems[0]}; going on from {path.name}, the one before it", stacklevel=2)
            return found
        if problems:
            raise RunError(
                "; ".join(problems) + ". Nothing was changed. Put a copy of one of them in its place, or pass "
                "restart=True (--restart) to start over"
            )
        return None

    # writing

    @contextmanager
    def one_writer(self) -> Iterator[None]:
        """Lock the folder against other runs; raise RunError if it is locked. The lock ends with the process.

        Some network and cloud disks have no locks; there training continues without one.
        """
        with ExitStack() as stack:
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                lock = stack.enter_context((self.path / LOCK).open("a"))
                if fcntl is not None:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    # closing is not enough: the reading processes have inherited the file
                    stack.callback(fcntl.flock, lock, fcntl.LOCK_UN)
            except BlockingIOError:
                raise RunError(
                    f"{self.path} is being trained by another process (or another notebook). Wait for it, stop it, or "
                    "pass another run_dir (--run-dir)"
                ) from None
            except OSError:
                pass
            yield

    def save(self, path: Path, checkpoint: dict[str, Any], previous: Path | None = None) -> None:
        """Write a checkpoint; keep the one that it replaces as `previous`, if given."""
        write_whole(path, lambda file: torch.save(checkpoint, file), previous)

    def save_last(self, checkpoint: dict[str, Any]) -> None:
        """Write last.pt; the old one becomes previous.pt, unless it was damaged."""
        self.save(self.last, checkpoint, None if self._last_is_damaged else self.previous)
        self._last_is_damaged = False

    def write_experiment(self, experiment: Experiment, anew: bool = False) -> None:
        """Write the settings into the folder; `anew` first removes the files of an earlier run, and no others."""
        for pattern in OWN_FILES if anew else ():
            for path in [*self.path.glob(pattern), *self.path.glob(f"{pattern}.part")]:
                path.unlink()
        write_whole(self.path / EXPERIMENT, experiment.to_json())

    def write_history(self, rows: list[dict[str, float]]) -> None:
        """Write all epochs so far."""
        write_whole(self.path / HISTORY, pd.DataFrame(rows).to_csv(index=False, float_format="%.8g"))

    def write_record(self, record: dict[str, Any]) -> None:
        """Write record.json; NaN becomes null."""
        write_whole(self.path / RECORD, _json(record))

    def write_analysis(self, analysis: dict[str, Any]) -> Path:
        """Write analysis.json, one line per list of numbers, so that a matrix can be read in the file."""
        text = re.sub(r"\[[^\[\]{}]*\]", lambda found: " ".join(found[0].split()), _json(analysis))
        write_whole(self.path / ANALYSIS, text)
        return self.path / ANALYSIS


def find_run(name_or_path: str | Path) -> RunFolder:
    """Return a run folder by its path, or by its name in runs/ or report/runs/."""
    return RunFolder(find_run_dir(name_or_path))


# the record


def build_record(
    experiment: Experiment,
    state: RunState,
    train: SegmentationDataset,
    val: SegmentationDataset,
    model: nn.Module,
) -> dict[str, Any]:
    """Return the record of an unfinished run."""
    seconds = [row["train_seconds"] for row in state.rows if row["epoch"] > 0]
    return {
        "name": experiment.name,
        "finished": False,
        "experiment": experiment.to_dict(),
        "data": {
            "title": train.title,
            "train_split": train.split,
            "train_images": len(train),
            "val_split": val.split,
            "val_images": len(val),
            "class_names": list(train.class_names),
            "cache": train.cache,
        },
        "parameters": count_parameters(model),
        "seed": experiment.seed,
        **{key: value for key, value in state.sessions[-1].items() if key not in ("epoch", "step")},
        "sessions": state.sessions,
        "extensions": state.extensions,
        "epochs": state.done,
        "seconds_per_epoch": float(np.median(seconds)) if seconds else None,
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
    """Write the results of evaluating a run's checkpoint, and on what, as JSON; return the path.

    `results`: as `nnti.inference.evaluate.evaluate` returns them, one for each protocol.
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
    write_whole(path, _json(written))
    return path


def is_evaluation(path: Path) -> bool:
    """Whether a file is one that `write_evaluation` has written."""
    with suppress(OSError, ValueError, TypeError):
        return {"run", "epoch", "split", "validation"} <= set(json.loads(path.read_text(encoding="utf-8")))
    return False


def _json(content: dict[str, Any]) -> str:
    return json.dumps(plain(content), indent=1, allow_nan=False, ensure_ascii=False) + "\n"


# may a run resume from what is there?


def continued(run: RunFolder, experiment: Experiment, saved: dict[str, Any], extend: bool) -> dict[str, Any] | None:
    """Return the checkpoint to resume from; None if the settings differ but nothing was trained yet.

    With `extend`, the number of epochs may grow, and the checkpoint records from which epoch on. Raises RunError,
    listing the settings that differ, for another experiment.
    """
    lacking = [key for key in NEEDED if key not in saved]
    if lacking:
        raise RunError(
            f"{run.last} cannot be continued: it lacks {', '.join(lacking)}. It is a checkpoint like best.pt, or from "
            "an older version of this project. Pass restart=True (--restart), or another run_dir (--run-dir)"
        )
    before = Experiment.from_dict(saved["experiment"])
    changed = {key: pair for key, pair in before.differences(experiment).items() if key not in FREE_SETTINGS}
    longer = experiment.epochs > before.epochs
    if extend and longer:
        del changed["epochs"]
    if not changed and longer:
        done = len(saved["rows"]) - 1
        step = {"after_epoch": done, "from_epochs": before.epochs, "to_epochs": experiment.epochs}
        return {**saved, "extensions": [*saved["extensions"], step]}
    if not changed:
        return saved
    if len(saved["rows"]) <= 1 and saved["partial"] is None:
        return None
    listed = ", ".join(f"{key}: {old!r} → {new!r}" for key, (old, new) in changed.items())
    more = " To train it longer, pass extend=True (--extend)." if longer and list(changed) == ["epochs"] else ""
    raise RunError(
        f"{run.path} holds a run with other settings ({listed}).{more} Pass restart=True (--restart) to replace "
        "it, or another run_dir (--run-dir) to keep both"
    )


def check_data(run: RunFolder, saved: dict[str, Any], train: SegmentationDataset, val: SegmentationDataset) -> None:
    """Raise RunError if a split has other images than when the run began, or the data set other classes."""
    check_classes(saved, train, run.last)
    for split, dataset in (("train_split", train), ("val_split", val)):
        if other := other_images(saved, split, dataset):
            raise RunError(
                f"{run.path} was trained with other images in its {split} ({other}). Restore the data set in "
                f"{dataset.root}, or pass restart=True (--restart) or another run_dir (--run-dir)"
            )


def refuse_other_folder(path: Path) -> None:
    """Raise RunError for a folder that holds something else than a run, such as images."""
    others = sorted(file.name for file in path.glob("[!.]*"))  # hidden ones are of a desktop or an editor
    run = {EXPERIMENT, LOCK} & set(others)
    with suppress(RunError):  # a record that holds something else
        run = run or (RECORD in others and RunFolder(path).record())
    if others and not run:
        raise RunError(f"{path} is no run: it holds {others[0]}. Pass a new folder as run_dir (--run-dir)")


def refuse_foreign(run: RunFolder) -> None:
    """Raise RunError for results without a checkpoint to resume from, such as a committed record, to keep them."""
    found = [path.name for path in (run.best, run.path / RECORD) if path.exists()]
    if found:
        raise RunError(
            f"{run.path} holds {' and '.join(found)} of a run but no {run.last.name} to go on from. Pass "
            "another run_dir (--run-dir) to keep it, or restart=True (--restart) to replace it"
        )
