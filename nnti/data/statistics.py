"""What a split holds, counted from its labels."""

import numpy as np
import torch

from nnti.data.base import SegmentationDataset
from nnti.progress import progress_bar

__all__ = ["class_frequencies", "evenly_spread"]


def evenly_spread(length: int, limit: int | None) -> list[int]:
    """Return `limit` indices spread evenly over range(length), ascending; all of them if `limit` is None or larger."""
    if limit is not None and limit < 1:
        raise ValueError(f"limit={limit}: it must be at least 1, or None for all")
    if limit is None or limit >= length:
        return list(range(length))
    return [index * length // limit for index in range(limit)]


def class_frequencies(dataset: SegmentationDataset, limit: int | None = None, progress: bool = True) -> np.ndarray:
    """Count the pixels of each class: int64 (num_classes,), void excluded.

    Reads labels only. With `limit`, so many images spread evenly over the split stand for it.
    """
    counts = torch.zeros(256, dtype=torch.int64)
    indices = evenly_spread(len(dataset), limit)
    for index in progress_bar(
        indices, desc=f"{dataset.title} {dataset.split}: class frequencies", disable=not progress
    ):
        counts += torch.bincount(dataset.label(index).flatten(), minlength=256)
    return counts[: dataset.num_classes].numpy()
