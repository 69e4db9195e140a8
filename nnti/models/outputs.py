"""What a network returns: logits, and while it trains perhaps a second opinion from half way."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["Outputs", "final_logits", "full_size_parts", "grow", "most_likely"]


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
