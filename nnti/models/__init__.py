"""The networks: normalised images (B, 3, H, W) → logits (B, num_classes, H, W)."""

from torch import nn

from nnti.models.architecture import architecture_table, count_parameters
from nnti.models.enet import ENet

__all__ = ["MODELS", "ENet", "architecture_table", "build_model", "count_parameters"]

MODELS = {"enet": ENet}


def build_model(name: str, num_classes: int, arguments: dict | None = None) -> nn.Module:
    """Build a model from its name and its constructor's arguments.

    Raises ValueError, naming the arguments that the model has, if one does not fit.
    """
    try:
        return MODELS[name](num_classes, **(arguments or {}))
    except TypeError as error:
        raise ValueError(
            f"model_arguments={arguments} do not fit {name}: {error}; see help({MODELS[name].__name__})"
        ) from error
