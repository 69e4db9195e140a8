"""From a checkpoint to a model, without any second file.

A checkpoint is written by `torch.save`: a zip archive with a checksum for each member. All are checked before anything
is used. It holds only plain types and tensors, so reading it cannot run code.
"""

import textwrap
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnti.data import SegmentationDataset
from nnti.errors import RunError
from nnti.models import build_model

DESCRIPTION = ("experiment", "class_names", "model")


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint of this project; raise RunError if it is missing, damaged or of another kind."""
    path = Path(path)
    if not path.exists():
        raise RunError(
            f"{path} does not exist: weights stay where a run was trained, and only its record is committed. Train it: "
            f"python -m nnti train {path.parent}"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
        if wrong is not None:
            raise zipfile.BadZipFile(f"the checksum of {wrong} does not match")
        found = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # many kinds, depending on the damage
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise RunError(f"{path} cannot be read: it is damaged, or not a checkpoint ({reason[0]})") from error
    missing = [key for key in DESCRIPTION if not isinstance(found, dict) or key not in found]
    if missing:
        raise RunError(
            f"{path} is not a checkpoint of this project: it lacks {', '.join(missing)}. For weights from elsewhere, "
            "build the network yourself: model = nnti.models.build_model(…); model.load_state_dict(torch.load(path))"
        )
    return found


def load_model(path: str | Path, device: str | torch.device = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild a trained model in eval mode from a checkpoint, or from a run folder's best one.

    Returns the model and the checkpoint's other entries: `experiment`, `class_names`, `palette`, `class_weights`,
    `epoch`, `scores`. Raises RunError if the weights do not fit the model.
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
            f"{len(now)} ({', '.join(now)}). Restore the classes and their order in {dataset.root}, or train anew"
        )
