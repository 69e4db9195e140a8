"""The networks: normalised images (B, 3, H, W) → logits (B, num_classes, H, W)."""

from torch import nn

from nnti.errors import SettingError
from nnti.models.blocks import Block, Outputs, architecture_table, count_parameters, final_logits, trace
from nnti.models.enet import ENet
from nnti.models.pspnet import PSPNet
from nnti.models.r2unet import R2UNet

MODELS = {"enet": ENet, "r2unet": R2UNet, "pspnet": PSPNet}


def build_model(name: str, num_classes: int, arguments: dict | None = None, pretrained: bool = True) -> nn.Module:
    """Build a model from its name and its constructor's arguments.

    `pretrained=False` downloads no weights, whatever the arguments say; use it before loading a checkpoint.

    Raises SettingError for an unknown model and for arguments that do not fit, and WeightsError where pretrained
    weights cannot be downloaded.
    """
    if name not in MODELS:
        raise SettingError(f"model={name!r}: it must be one of {', '.join(MODELS)}")
    model, arguments = MODELS[name], dict(arguments or {})
    if not pretrained and "pretrained" in arguments:
        arguments["pretrained"] = False
    try:
        return model(num_classes, **arguments)
    except (TypeError, ValueError, KeyError, IndexError) as error:
        raise SettingError(f"model_arguments={arguments} do not fit: {error}; see help({model.__name__})") from error
