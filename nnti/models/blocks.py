"""The architecture table of a model, measured on the model itself: what each block is, gives and costs.

What a network returns: logits, and while it trains perhaps a second opinion from half way.

Batch normalisation without its memory, and over the batches of several processes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import pandas as pd
import torch
import torch.distributed as dist
import torch.nn.functional as F
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = [
    "Block",
    "GlobalBatchNorm",
    "Outputs",
    "architecture_table",
    "batch_norms",
    "count_parameters",
    "final_logits",
    "frozen_statistics",
    "full_size_parts",
    "grow",
    "most_likely",
    "synchronize_batch_norms",
    "trace",
]


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


class Outputs(NamedTuple):
    """Logits of a network with an auxiliary head, in training mode; in eval mode it returns full-size logits alone.

    Attributes:
        logits: of the network's end, (B, num_classes, h, w), of the size at which they are computed: whoever wants
            them pixel by pixel takes `full_size_parts`. auxiliary: of the head half way, same shape.
    """

    logits: Tensor
    auxiliary: Tensor


def final_logits(outputs: Tensor | Outputs) -> Tensor:
    """Return the logits of the network's end, (B, num_classes, h, w)."""
    return outputs.logits if isinstance(outputs, Outputs) else outputs


def grow(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize a map (B, C, h, w) bilinearly to `size` (H, W)."""
    # an exported program would keep the answer that its example gave; growing to the same size changes no value
    if not torch.compiler.is_exporting() and x.shape[-2:] == tuple(size):
        return x
    return F.interpolate(x, size=tuple(size), mode="bilinear", align_corners=False)


def full_size_parts(logits: Tensor, label: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield logits (B, C, h, w) grown to the size of a label (B, H, W), beside it, part by part of the batch.

    The logits become float32 (b, C, H, W). A part is one image on a CPU: at full size a whole batch is larger than its
    caches, and than what its allocator keeps for the next step. Elsewhere the batch is one part, for there each launch
    of a kernel costs.
    """
    images = 1 if logits.device.type == "cpu" else len(logits)
    for part, truth in zip(logits.split(images), label.split(images), strict=True):
        yield grow(part.to(torch.float32, memory_format=torch.contiguous_format), truth.shape[-2:]), truth


def most_likely(logits: Tensor) -> Tensor:
    """Return the class of the largest logit, the first of equals: (B, C, H, W) → integers (B, H, W), C ≤ 256."""
    if logits.device.type != "cpu" or logits.stride(1) == 1:  # channels last
        return logits.max(1).indices
    # a CPU compares whole vectors at once here, but not where it has to carry an index along
    last = logits.shape[1] - 1
    behind = torch.arange(last, -1, -1, dtype=torch.uint8).view(-1, 1, 1)  # how many classes follow
    return last - (logits == logits.amax(1, keepdim=True)).view(torch.uint8).mul_(behind).amax(1)


def batch_norms(model: nn.Module) -> list[nn.Module]:
    """Return every batch normalisation of a model."""
    return [module for module in model.modules() if isinstance(module, _BatchNorm)]


@contextmanager
def frozen_statistics(model: nn.Module) -> Iterator[None]:
    """Let normalisations in training mode update copies of their running statistics, which are then thrown away."""
    own = [(norm, dict(norm._buffers)) for norm in batch_norms(model)]
    for norm, buffers in own:
        norm._buffers.update({name: None if value is None else value.clone() for name, value in buffers.items()})
    try:
        yield
    finally:
        for norm, buffers in own:
            norm._buffers.update(buffers)


def synchronize_batch_norms(model: nn.Module, device: torch.device) -> nn.Module:
    """Return the model with normalisations whose training statistics are those of all processes' images together.

    The names of weights stay. On GPUs they are PyTorch's own; these refuse to work on a CPU, where `GlobalBatchNorm`
    takes their place.
    """
    if device.type == "cuda":
        return convert_sync_batchnorm(model)
    for norm in batch_norms(model):
        if type(norm) is not nn.BatchNorm2d:
            raise ValueError(
                f"{type(norm).__name__} has no form for several processes on CPUs: set sync_batch_norm=False"
            )
        norm.__class__ = GlobalBatchNorm
    return model


class GlobalBatchNorm(nn.BatchNorm2d):
    """Batch normalisation over the images of all processes; (B, C, H, W) → (B, C, H, W), B may differ between them."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise with the statistics of all processes in training, with the running ones in eval mode."""
        if not (self.training and dist.is_initialized() and dist.get_world_size() > 1):
            return super().forward(x)
        values = x.float()
        sums = torch.cat([values.sum((0, 2, 3)), values.new_tensor([x.numel() / x.shape[1]])])
        sums = _SumOverProcesses.apply(sums)
        count = sums[-1].detach()
        centered = values - (sums[:-1] / count).view(1, -1, 1, 1)
        variance = _SumOverProcesses.apply(centered.square().sum((0, 2, 3))) / count
        self._remember((sums[:-1] / count).detach(), (variance * count / (count - 1)).detach())
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centered * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, unbiased_variance: Tensor) -> None:
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(unbiased_variance, self.momentum)


class _SumOverProcesses(torch.autograd.Function):
    """Sum a tensor over all processes; so is its gradient, for each of them has used the sum."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        total = x.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total
