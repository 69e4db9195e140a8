"""Shared parts of the networks: architecture tables, outputs and batch normalisations."""

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any, NamedTuple

import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Block:
    """One row of the architecture table: the paper's stage and name, what is special about it, and the module itself.

    `inputs` names the blocks that it reads from; empty: the previous block (for the first, the image). `before` holds
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
    """Tabulate the blocks of `model.blocks()` for images of `size` (H, W).

    Columns: stage, name, type, channels, height, width, stride (input height over output height, rounded), parameters.
    Nothing is computed, see `trace`.
    """
    blocks = list(model.blocks())
    with watched({block.name: block.module for block in blocks}) as calls:
        trace(model, size)
    return pd.DataFrame([_row(block, calls[block.name][1], size) for block in blocks])


@contextmanager
def watched(modules: Mapping[Any, nn.Module]) -> Iterator[dict[Any, tuple]]:
    """Yield a dict that gets (inputs, output) of each module under its key, in the order in which the modules run."""
    calls = {}
    hooks = [
        module.register_forward_hook(lambda _, inputs, output, key=key: calls.update({key: (inputs, output)}))
        for key, module in modules.items()
    ]
    try:
        yield calls
    finally:
        for hook in hooks:
            hook.remove()


def trace(model: nn.Module, size: tuple[int, int], training: bool = True, images: int = 2):
    """Return the outputs of the model for `images` images of `size` (H, W): tensors on the meta device, without values.

    Nothing is computed, and the model is left as it was; its forward hooks run. In training mode every part of a
    network runs, including an auxiliary head.
    """
    without_values = copy.deepcopy(model).to("meta").train(training)
    with torch.no_grad():
        return without_values(torch.empty(images, 3, *size, device="meta"))


def _row(block: Block, output, size: tuple[int, int]) -> dict:
    if isinstance(output, list | tuple):  # backbones list their maps, deepest last; ENet's poolings add indices
        output = output[-1] if isinstance(output, list) else output[0]
    _, channels, height, width = output.shape
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


class Outputs(NamedTuple):
    """Outputs of a network with an auxiliary head in training mode; in eval mode it returns full-size logits alone.

    Attributes:
        logits: final ones, (B, num_classes, h, w), at the size of the features; `full_size_parts` resizes them to the
            label.
        auxiliary: those of the auxiliary head, same shape.
    """

    logits: Tensor
    auxiliary: Tensor


def final_logits(outputs: Tensor | Outputs) -> Tensor:
    """Return the final logits, (B, num_classes, h, w)."""
    return outputs.logits if isinstance(outputs, Outputs) else outputs


def grow(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a map (B, C, h, w) bilinearly to `size` (H, W)."""
    # an export for any size must not take this branch by its example; resizing to the same size changes no value
    if not torch.compiler.is_exporting() and x.shape[-2:] == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def full_size_parts(logits: Tensor, label: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits (B, C, h, w), resized to the label (B, H, W), with the label, in parts of the batch.

    The logits become float32 (b, C, H, W). On a CPU a part is one image: a whole batch at full size does not fit into
    its caches. Elsewhere the batch is one part, because each launch of a kernel costs time.
    """
    images = 1 if logits.device.type == "cpu" else len(logits)
    for part, truth in zip(logits.split(images), label.split(images), strict=True):
        yield grow(part.to(torch.float32, memory_format=torch.contiguous_format), truth.shape[-2:]), truth


def most_likely(logits: Tensor) -> Tensor:
    """Return the class of the largest logit, the first one of a tie: (B, C, H, W) → integers (B, H, W), C ≤ 256."""
    if logits.device.type != "cpu" or logits.stride(1) == 1:  # channels last
        return logits.max(1).indices
    # faster on a CPU than argmax, which is not vectorised
    last = logits.shape[1] - 1
    behind = torch.arange(last, -1, -1, dtype=torch.uint8).view(-1, 1, 1)  # how many classes follow
    return last - (logits == logits.amax(1, keepdim=True)).view(torch.uint8).mul_(behind).amax(1)


def exact_depthwise(model: nn.Module) -> nn.Module:
    """Let dilated depthwise convolutions compute in float32 on a CPU, whatever autocast says, and return the model.

    In bfloat16 and channels last, PyTorch 2.14.1 gets the gradients of their weights wrong there.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1 and max(module.dilation) > 1:
            module.forward = MethodType(_without_autocast, module)
    return model


def _without_autocast(convolution: nn.Conv2d, x: Tensor) -> Tensor:
    forward = type(convolution).forward
    if x.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
        return forward(convolution, x)
    warnings.warn(
        "dilated depthwise convolutions compute in float32: on a CPU, PyTorch gets their bfloat16 gradients wrong",
        stacklevel=2,
    )
    with torch.autocast("cpu", enabled=False):
        return forward(convolution, x.to(convolution.weight.dtype))


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """Return every batch normalisation of a model."""
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    return [module for module in model.modules() if isinstance(module, kinds)]


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Restore the running statistics of normalisations at the end.

    They are still updated inside: activation checkpointing requires both passes to save the same tensors, and without
    running statistics (`track_running_stats=False`) a normalisation saves fewer.
    """
    before = [(buffer, buffer.clone()) for norm in batch_norms(model) for buffer in norm.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in before:
                buffer.copy_(value)
