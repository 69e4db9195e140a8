"""May this training go on from that checkpoint, and what becomes of its settings?"""

from pathlib import Path
from typing import Any

from nnti.checkpoints import check_classes
from nnti.config import Experiment
from nnti.data import SegmentationDataset
from nnti.optimization import poly
from nnti.records import RunFolder
from nnti.state import RunState
from nnti.storage import RunError

__all__ = ["check_data", "continued", "refuse_foreign_folder", "stopped", "where"]

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
