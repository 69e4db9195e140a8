"""The networks: normalised images (B, 3, H, W) → logits (B, num_classes, H, W)."""

import inspect

from torch import nn

from nnti.errors import SettingError, WeightsError
from nnti.models.blocks import Block, Outputs, architecture_table, count_parameters, final_logits, trace
from nnti.models.enet import ENet
from nnti.models.pspnet import PSPNet
from nnti.models.r2unet import R2UNet

__all__ = [
    "Block",
    "ENet",
    "MODELS",
    "Outputs",
    "PSPNet",
    "R2UNet",
    "WeightsError",
    "architecture_table",
    "build_model",
    "count_parameters",
    "final_logits",
    "trace",
]


MODELS = {"enet": ENet, "r2unet": R2UNet, "pspnet": PSPNet}


def build_model(name: str, num_classes: int, arguments: dict | None = None, pretrained: bool = True) -> nn.Module:
    """Build a model from its name and its constructor's arguments.

    `pretrained=False` downloads no weights, whatever the arguments say: a checkpoint's own are loaded afterwards.

    Raises SettingError, with what would be right, for a model that does not exist and for arguments that do not fit,
    and WeightsError without a connection.
    """
    if name not in MODELS:
        raise SettingError(f"model={name!r}: it must be one of {', '.join(MODELS)}")
    model, arguments = MODELS[name], dict(arguments or {})
    known = inspect.signature(model).parameters
    unknown = [argument for argument in arguments if argument not in known]
    if unknown:
        has = ", ".join(argument for argument in known if argument != "num_classes")
        raise SettingError(f"model_arguments={arguments}: {model.__name__} has no {', '.join(unknown)}; it has {has}")
    if not pretrained and "pretrained" in known:
        arguments["pretrained"] = False
    try:
        return model(num_classes, **arguments)
    except (TypeError, ValueError) as error:
        raise SettingError(f"model_arguments={arguments} do not fit: {error}; see help({model.__name__})") from error
