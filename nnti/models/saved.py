"""Checkpoints: read only if whole, and described well enough to need no second file.

A checkpoint is what `torch.save` writes: a zip archive with a CRC-32 of each of its members, all of which are compared
before anything in it is used. It holds plain types and tensors alone, so that reading it cannot run code.
"""

import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnti.data import SegmentationDataset
from nnti.errors import RunError
from nnti.models import build_model

__all__ = ["check_classes", "load_checkpoint", "load_model"]


DESCRIPTION = ("experiment", "class_names", "model")
WRAPPERS = ("module.", "_orig_mod.")  # DataParallel's and torch.compile's


def load_checkpoint(path: str | Path, device: str | torch.device = "cpu") -> dict[str, Any]:
    """Read a checkpoint of this project; nothing in it can run code.

    Raises RunError if it is missing, damaged or something else.
    """
    path = Path(path)
    if not path.exists():
        raise RunError(
            f"{path} does not exist: weights are kept where a run was trained, records alone are committed. Train it: "
            f"python -m nnti train {path.resolve().parent.name}"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            wrong = archive.testzip()
        if wrong is not None:
            raise zipfile.BadZipFile(f"the checksum of {wrong} does not match")
        found = torch.load(path, map_location=device, weights_only=True)
    except Exception as error:  # many kinds, by what the damage hits
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise RunError(f"{path} cannot be read as a checkpoint: it is damaged or none ({reason[0]})") from error
    missing = [key for key in DESCRIPTION if not isinstance(found, dict) or key not in found]
    if missing:
        raise RunError(
            f"{path} is no checkpoint of this project: it lacks {', '.join(missing)}. For weights from elsewhere build "
            "the network yourself: model = nnti.models.build_model(…); model.load_state_dict(torch.load(path))"
        )
    return found


def load_model(path: str | Path, device: str | torch.device = "cpu") -> tuple[nn.Module, dict[str, Any]]:
    """Rebuild a trained model in eval mode from a checkpoint, or from a run folder's best one.

    Returns the model and the checkpoint's other entries: `experiment`, `class_names`, `palette`,
    `class_weights`, `epoch`, `scores`. Raises RunError if the weights are not those of the model described.
    """
    path = Path(path) / "best.pt" if Path(path).is_dir() else Path(path)
    checkpoint = load_checkpoint(path, device)
    settings, classes = checkpoint["experiment"], len(checkpoint["class_names"])
    model = build_model(settings["model"], classes, settings["model_arguments"], pretrained=False)
    load_weights(model, checkpoint.pop("model"), path)
    for key in ("optimizer", "scaler"):
        checkpoint.pop(key, None)
    return model.to(device).eval(), checkpoint


def check_classes(checkpoint: dict[str, Any], dataset: SegmentationDataset, path: Path) -> None:
    """Raise RunError if a data set has other classes, or in another order, than a checkpoint's network has learned."""
    learned, now = list(checkpoint["class_names"]), list(dataset.class_names)
    if learned != now:
        raise RunError(
            f"{path} was trained with {len(learned)} classes ({', '.join(learned)}), and {dataset.title} now has "
            f"{len(now)} ({', '.join(now)}). Restore the classes and their order in {dataset.root}, or train anew"
        )


def load_weights(model: nn.Module, weights: dict[str, torch.Tensor], path: Path) -> None:
    """Load a state_dict; raise RunError that says in which way it is another network's."""
    own = model.state_dict()
    for wrapper in WRAPPERS:
        if weights and all(name.startswith(wrapper) for name in weights):
            raise RunError(
                f"{path}: all names of its weights begin with '{wrapper}', which a wrapper around the network adds. "
                f"Save the network itself, or take it off: {{name.removeprefix('{wrapper}'): value for name, value in "
                "weights.items()}"
            )
    shapes = [name for name in own if name in weights and own[name].shape != weights[name].shape]
    missing, unknown = [name for name in own if name not in weights], [name for name in weights if name not in own]
    if shapes:
        name = shapes[-1]
        raise RunError(
            f"{path}: the weights are not those of {type(model).__name__} as the checkpoint describes it: {name} is "
            f"{tuple(weights[name].shape)}, not {tuple(own[name].shape)}. Where the number of classes differs, "
            "class_names are not those that it was trained with; otherwise model_arguments are not"
        )
    if missing or unknown:
        lists = f"missing: {', '.join(missing[:3]) or 'none'}; not known: {', '.join(unknown[:3]) or 'none'}"
        raise RunError(
            f"{path}: the weights are not those of {type(model).__name__} ({lists}). They were saved by other code or "
            "with other model_arguments"
        )
    model.load_state_dict(weights)
