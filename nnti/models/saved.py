"""From a checkpoint to a model, without any second file.

A checkpoint is written by `torch.save`: a zip archive with a checksum for each member. All are checked before anything
is used. It holds only plain types and tensors, so reading it cannot run code.
"""

import textwrap
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnti.data import SegmentationDataset
from nnti.errors import RunError
from nnti.experiment import Experiment
from nnti.models import build_model

DESCRIPTION = ("experiment", "class_names", "model")
LISTED = 3  # names of images that a message gives


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint of this project; raise RunError if it is missing, damaged or of another kind."""
    path = Path(path)
    if not path.exists():
        here = f' --run-dir "{path.parent}"' if (path.parent / "last.pt").exists() else ""  # it has just begun
        raise RunError(
            f"{path} does not exist: weights stay where a run was trained, and only its record is committed. Train it: "
            f'python -m nnti train "{path.parent}"{here}'
        )
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
        if wrong is not None:
            raise zipfile.BadZipFile(f"the checksum of {wrong} does not match")
        found = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # many kinds, depending on the damage
        reason = str(error).strip().splitlines() or [type(error).__name__]
        anew = ". Remove it; where the run still has its last.pt, the command that trained it writes this one anew"
        raise RunError(
            f"{path} cannot be read: it is damaged, or not a checkpoint ({reason[0]})"
            + ("" if path.name in ("last.pt", "previous.pt") else anew)
        ) from error
    missing = [key for key in DESCRIPTION if not isinstance(found, dict) or key not in found]
    if missing:
        raise RunError(
            f"{path} is not a checkpoint of this project: it lacks {', '.join(missing)}. For weights from elsewhere, "
            "build the network yourself: model = nnti.models.build_model(…); model.load_state_dict(torch.load(path))"
        )
    return found


def load_model(path: str | Path, device: str | torch.device = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild a trained model in eval mode from a checkpoint, or from a run folder's best one.

    Returns the model and the checkpoint's other entries: `experiment`, `class_names`, `palette`, `label_values`,
    `class_weights`, `images`, `epoch`, `scores`. Raises RunError if the weights do not fit the model.
    """
    path = Path(path) / "best.pt" if Path(path).is_dir() else Path(path)
    checkpoint = load_checkpoint(path, device)
    settings, classes = checkpoint["experiment"], len(checkpoint["class_names"])
    model = build_model(settings["model"], classes, settings["model_arguments"], pretrained=False)
    load_weights(model, checkpoint.pop("model"), path)
    for key in ("optimizer", "scaler"):
        checkpoint.pop(key, None)
    return model.to(device).eval(), checkpoint


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Load a state_dict; raise RunError with names and shapes that do not fit."""
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise RunError(
            f"{path}: the weights are not those of {type(model).__name__} as the checkpoint describes it. They were "
            f"saved with other classes or model_arguments, or by other code: {textwrap.shorten(str(error), 400)}"
        ) from error


def check_classes(checkpoint: dict[str, Any], dataset: SegmentationDataset, path: Path) -> None:
    """Raise RunError if a data set's classes or their order differ from those of a checkpoint."""
    learned, now = list(checkpoint["class_names"]), list(dataset.class_names)
    if learned != now:
        raise RunError(
            f"{path} was trained with {len(learned)} classes ({', '.join(learned)}), and {dataset.title} now has "
            f"{len(now)} ({', '.join(now)}). Restore the classes and their order in {dataset.root}, or train anew, "
            f"with initial_weights={path.parent} if you like"
        )


def other_images(checkpoint: dict[str, Any], key: str, dataset: SegmentationDataset) -> str:
    """Say how a split's images differ from those of a run's `train_split` or `val_split` (`key`); "" if they do not.

    Images are known by their names, wherever they lie; older checkpoints have no more than their number.
    """
    before, now = checkpoint.get("images", {}).get(key), image_names(dataset)
    if before in (None, now, len(now)):
        return ""
    number = f"{len(before) if isinstance(before, list) else before} images then, {len(now)} now"
    if not isinstance(before, list):
        return number
    parts = []
    for what, names in (("new", set(now) - set(before)), ("gone", set(before) - set(now))):
        more = ", …" if len(names) > LISTED else ""
        parts += [f"{len(names)} {what} ({', '.join(sorted(names)[:LISTED])}{more})"] if names else []
    return f"{number}: {' and '.join(parts) or 'the same ones in another order'}"


def image_names(dataset: SegmentationDataset) -> list[str]:
    """Return the names of all images in order: what stays the same where a data set lies in another place."""
    return [dataset.image_name(image) for image, _ in dataset.files]


def take_over(model: nn.Module, run: Path, experiment: Experiment, class_names: Sequence[str]) -> dict[str, Any]:
    """Copy each tensor of equal name and shape from a run's best checkpoint into an experiment's model.

    The classifier is copied only if the run's classes were these, in this order.

    Returns the file, its epoch, and the names of the tensors that stay as they were. Raises RunError if the run trained
    another network.
    """
    found, own, name = load_checkpoint(run / "best.pt"), model.state_dict(), experiment.model
    if found["experiment"]["model"] != name:
        other = found["experiment"]["model"]
        raise RunError(f"initial_weights: {run} is a run of model={other}, not of {name}; take another, or that model")
    fitting = {key: value for key, value in found["model"].items() if key in own and own[key].shape == value.shape}
    if list(found["class_names"]) != list(class_names):
        with torch.device("meta"):  # a tensor of the classifier is one whose shape depends on the number of classes
            other = build_model(name, len(class_names) + 1, experiment.model_arguments, pretrained=False).state_dict()
        fitting = {key: value for key, value in fitting.items() if other[key].shape == value.shape}
    model.load_state_dict({**own, **fitting})
    rest = [key for key in own if key not in fitting]
    return {"file": f"{run.resolve().name}/best.pt", "epoch": found["epoch"], "not_taken_over": rest}
