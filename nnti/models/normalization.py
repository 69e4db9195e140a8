"""Batch normalisation without its memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

__all__ = ["batch_norms", "frozen_statistics"]


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
