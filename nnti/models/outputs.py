"""What a network returns: logits, and while it trains perhaps a second opinion from half way."""

from typing import NamedTuple

from torch import Tensor

__all__ = ["Outputs", "final_logits"]


class Outputs(NamedTuple):
    """Logits of a network with an auxiliary head, in training mode; in eval mode it returns the logits alone.

    Attributes:
        logits: of the network's end, (B, num_classes, H, W). auxiliary: of the head half way, same shape.
    """

    logits: Tensor
    auxiliary: Tensor


def final_logits(outputs: Tensor | Outputs) -> Tensor:
    """Return the logits of the network's end, (B, num_classes, H, W)."""
    return outputs.logits if isinstance(outputs, Outputs) else outputs
