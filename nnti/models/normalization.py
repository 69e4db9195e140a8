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
    """Let normalisations in training mode use the batch's statistics and leave their running ones alone."""
    norms = [norm for norm in batch_norms(model) if norm.training and norm.track_running_stats]
    for norm in norms:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in norms:
            norm.track_running_stats = True
