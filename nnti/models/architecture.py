"""The architecture table of a model, measured on the model itself: what each block is, gives and costs."""

from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn

__all__ = ["Block", "architecture_table", "count_parameters"]


@dataclass(frozen=True)
class Block:
    """One row of the table: the paper's stage and name, what is special about it, and the module itself."""

    stage: str
    name: str
    kind: str
    module: nn.Module


def count_parameters(module: nn.Module) -> int:
    """Return the number of learnable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def architecture_table(model: nn.Module, size: tuple[int, int] = (512, 512)) -> pd.DataFrame:
    """Run one blank image of `size` (H, W) through the model and tabulate every block that `model.blocks()` yields.

    Columns: stage, name, type, channels, height, width, stride (input height over output height, rounded), parameters.
    """
    blocks, shapes = list(model.blocks()), {}
    hooks = [
        block.module.register_forward_hook(lambda _, __, output, at=at: shapes.update({at: _first(output).shape}))
        for at, block in enumerate(blocks)
    ]
    mode, device = model.training, next(model.parameters()).device
    try:
        with torch.inference_mode():
            model.eval()(torch.zeros(1, 3, *size, device=device))
    finally:
        model.train(mode)
        for hook in hooks:
            hook.remove()
    rows = [_row(block, shapes[at], size) for at, block in enumerate(blocks)]
    return pd.DataFrame(rows)


def _row(block: Block, shape: torch.Size, size: tuple[int, int]) -> dict:
    _, channels, height, width = shape
    return {
        "stage": block.stage,
        "name": block.name,
        "type": block.kind,
        "channels": channels,
        "height": height,
        "width": width,
        "stride": round(size[0] / height),
        "parameters": count_parameters(block.module),
    }


def _first(output):
    return output[0] if isinstance(output, tuple) else output
