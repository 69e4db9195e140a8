"""Batch normalisation without its memory, and over the batches of several processes."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.distributed as dist
from timm.layers import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["GlobalBatchNorm", "batch_norms", "frozen_statistics", "synchronize_batch_norms"]


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
