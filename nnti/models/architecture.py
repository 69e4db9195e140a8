"""The architecture table of a model, measured on the model itself: what each block is, gives and costs."""

from dataclasses import dataclass

import pandas as pd
import torch
from torch import nn
from torch.func import functional_call

__all__ = ["Block", "architecture_table", "count_parameters", "trace"]


@dataclass(frozen=True)
class Block:
    """One row of the table: the paper's stage and name, what is special about it, and the module itself.

    `inputs` names the blocks that it reads from; empty: the block before it (the first reads the image). `before` holds
    modules that belong to the row and run before `module`, whose output is the row's.
    """

    stage: str
    name: str
    kind: str
    module: nn.Module
    inputs: tuple[str, ...] = ()
    before: tuple[nn.Module, ...] = ()


def count_parameters(module: nn.Module) -> int:
    """Return the number of learnable parameters."""
    return sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)


def architecture_table(model: nn.Module, size: tuple[int, int] = (512, 512)) -> pd.DataFrame:
    """Trace images of `size` (H, W) through the model and tabulate every block that `model.blocks()` yields.

    Columns: stage, name, type, channels, height, width, stride (input height over output height, rounded), parameters.
    Nothing is computed: the images and a stand-in for the weights have shapes but no values.
    """
    blocks, shapes = list(model.blocks()), {}
    hooks = [
        block.module.register_forward_hook(lambda _, __, output, at=at: shapes.update({at: _last(output).shape}))
        for at, block in enumerate(blocks)
    ]
    try:
        trace(model, size)
    finally:
        for hook in hooks:
            hook.remove()
    return pd.DataFrame([_row(block, shapes[at], size) for at, block in enumerate(blocks)])


def trace(model: nn.Module, size: tuple[int, int], training: bool = True, images: int = 2):
    """Return what the model gives for `images` images of `size` (H, W): tensors on the meta device, without values.

    In training mode every part of a network runs, an auxiliary head too. The model itself is left as it was.
    """
    values = {name: value.to("meta") for name, value in (*model.named_parameters(), *model.named_buffers())}
    modes = [(module, module.training) for module in model.modules()]
    try:
        with torch.no_grad():
            return functional_call(model.train(training), values, (torch.empty(images, 3, *size, device="meta"),))
    finally:
        for module, mode in modes:
            module.training = mode


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
        "parameters": sum(count_parameters(module) for module in (*block.before, block.module)),
    }


def _last(output) -> torch.Tensor:
    """Return the map that a block hands on: ENet's poolings add indices to it, backbones list theirs, deepest last."""
    if isinstance(output, list):
        return output[-1]
    return output[0] if isinstance(output, tuple) else output
