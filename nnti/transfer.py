"""Batches on their way to the device: while one is worked on, the next one is copied."""

from collections.abc import Iterable, Iterator

import torch
from torch import Tensor

from nnti.augment import Batch

__all__ = ["on_device"]


def on_device(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    """Yield batches, in order, on the device.

    On CUDA each is copied on a stream of its own while its predecessor is worked on; the host's memory must be pinned,
    as the loaders' is, or the copy makes it wait. Elsewhere nothing is fetched ahead.
    """
    if device.type == "cuda":
        yield from _copied_ahead(batches, device)
    else:
        yield from (batch.to(device) for batch in batches)


def _copied_ahead(batches: Iterable[Batch], device: torch.device) -> Iterator[Batch]:
    copies, waiting = torch.cuda.Stream(device), None
    for batch in batches:
        with torch.cuda.stream(copies):
            copied = batch.to(device), copies.record_event()
        if waiting is not None:
            yield _arrived(*waiting)
        waiting = copied
    if waiting is not None:
        yield _arrived(*waiting)


def _arrived(batch: Batch, event: torch.cuda.Event) -> Batch:
    """Let the stream of the computation wait for the copy (the host does not), and keep the memory until it has run."""
    stream = torch.cuda.current_stream(batch.images.device)
    stream.wait_event(event)
    for value in vars(batch).values():
        if isinstance(value, Tensor):
            value.record_stream(stream)
    return batch
