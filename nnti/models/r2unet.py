"""R2U-Net: a U-Net whose blocks are residual units of recurrent convolutions.

Alom, Hasan, Yakopcic, Taha, Asari, 2018, arXiv:1802.06955, Fig 3 and 4d; the U is that of Ronneberger et al., 2015,
arXiv:1505.04597.

Where this deviates from the paper, and why:
- one kernel serves both the input and the state, x ← f(w ∗ (u + x)) instead of f(w_f ∗ u + w_r ∗ x), as in the
  well-known public implementation, whose 39,092,563 parameters (19 classes, t = 2) this has;
- batch normalisation follows every convolution, as in that implementation. It shares one normalisation between the
  steps, whose statistics differ; `step_norm="per_step"` gives each step its own;
- poolings round up and the decoder grows to the size of the encoder's map, so that any input size works.
"""

from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from nnti.models.attention import AttentionGate
from nnti.models.blocks import Block, frozen_statistics

__all__ = ["R2UNet", "RecurrentConv", "RecurrentResidualUnit"]


class R2UNet(nn.Module):
    """Encoder and decoder of recurrent residual units; (B, 3, H, W) images → (B, num_classes, H, W) logits.

    Args:
        num_classes: number of output channels.
        widths: channels of the encoder's levels, from full size downwards.
        steps: t, how often a convolution is applied again to its input plus its own output.
        step_norm: "shared", one batch normalisation for all steps, or "per_step".
        gates: weight each skip connection's pixels by what the decoder has found there, see `AttentionGate`.
        checkpoint_activations: keep only each unit's input and compute the rest again in the backward pass: the same
            gradients from a fraction of the memory, for the time of one more forward pass.
    """

    title = "R2U-Net"  # name in figures and tables

    def __init__(
        self,
        num_classes: int,
        widths: Sequence[int] = (64, 128, 256, 512, 1024),
        steps: int = 2,
        step_norm: str = "shared",
        gates: bool = False,
        checkpoint_activations: bool = False,
    ):
        super().__init__()
        self.num_classes, self.checkpoint_activations = num_classes, checkpoint_activations

        def unit(in_channels: int, out_channels: int) -> RecurrentResidualUnit:
            return RecurrentResidualUnit(in_channels, out_channels, steps, step_norm)

        deeper = list(zip(widths, widths[1:], strict=False))  # (channels, channels one level below)
        self.encoder = nn.ModuleList([unit(3, widths[0]), *(unit(here, below) for here, below in deeper)])
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.up = nn.ModuleList(UpConv(below, here) for here, below in reversed(deeper))
        self.gates = nn.ModuleList(AttentionGate(here) for here, _ in reversed(deeper)) if gates else None
        self.decoder = nn.ModuleList(unit(2 * here, here) for here, _ in reversed(deeper))
        self.head = nn.Conv2d(widths[0], num_classes, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes, H, W) of normalised images (B, 3, H, W)."""
        x = self._run(self.encoder[0], images)
        skips = []  # (B, widths[i], ⌈H/2^i⌉, ⌈W/2^i⌉)
        for unit in self.encoder[1:]:
            skips.append(x)
            x = self._run(unit, self.pool(x))
        for level, (up, unit) in enumerate(zip(self.up, self.decoder, strict=True)):
            skip = skips.pop()
            x = up(x, skip.shape[-2:])
            if self.gates is not None:
                skip = self.gates[level](skip, x)
            x = self._run(unit, torch.cat([skip, x], dim=1))
        return self.head(x)

    def blocks(self) -> Iterator[Block]:
        """Yield the rows of the architecture table, down the encoder and up the decoder."""
        levels = len(self.encoder)
        for level, unit in enumerate(self.encoder, start=1):
            kind = unit.kind if level == 1 else f"max-pool / 2, {unit.kind}"
            yield Block("encoder", f"encoder{level}", kind, unit)
        for level, up, unit in zip(range(levels - 1, 0, -1), self.up, self.decoder, strict=True):
            yield Block("decoder", f"up{level}", "nearest × 2, 3×3", up)
            skip = f"encoder{level}"
            if self.gates is not None:
                gate, sources, skip = self.gates[levels - 1 - level], (skip, f"up{level}"), f"gate{level}"
                yield Block("decoder", skip, "attention gate", gate, sources)
            yield Block("decoder", f"decoder{level}", unit.kind, unit, (f"up{level}", skip))
        yield Block("", "classifier", "1×1", self.head)

    def _run(self, unit: "RecurrentResidualUnit", x: Tensor) -> Tensor:
        if not (self.checkpoint_activations and torch.is_grad_enabled()):
            return unit(x)
        # the second pass must not update running statistics, which the first has already done
        return checkpoint(unit, x, use_reentrant=False, context_fn=lambda: (nullcontext(), frozen_statistics(unit)))


class RecurrentResidualUnit(nn.Module):
    """1×1 projection plus two recurrent convolutions of it (paper, Fig 4d): (B, in, H, W) → (B, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int, steps: int, step_norm: str = "shared"):
        super().__init__()
        self.kind = f"recurrent residual, t = {steps}"
        self.project = nn.Conv2d(in_channels, out_channels, 1)
        self.recurrent = nn.Sequential(*(RecurrentConv(out_channels, steps, step_norm) for _ in range(2)))

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, h, w) of (B, in_channels, h, w)."""
        x = self.project(x)
        return x + self.recurrent(x)


class RecurrentConv(nn.Module):
    """A 3×3 convolution applied to its input, then `steps` times to its input plus its last output.

    x_0 = f(w ∗ u), x_k = f(w ∗ (u + x_{k−1})) for k = 1 … steps, with f = ReLU ∘ batch normalisation;
    u and x_k are (B, channels, H, W).
    """

    def __init__(self, channels: int, steps: int, step_norm: str = "shared"):
        super().__init__()
        self.steps = steps
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        norms = {"shared": 1, "per_step": steps + 1}[step_norm]
        self.norms = nn.ModuleList(nn.BatchNorm2d(channels) for _ in range(norms))

    def forward(self, u: Tensor) -> Tensor:
        """Return the last state, of the shape of `u`, (B, C, h, w)."""
        return self.states(u)[-1]

    def states(self, u: Tensor) -> list[Tensor]:
        """Return x_0 … x_steps."""
        states = [self._step(u, 0)]
        for step in range(1, self.steps + 1):
            states.append(self._step(u + states[-1], step))
        return states

    def _step(self, x: Tensor, step: int) -> Tensor:
        norm = self.norms[step if len(self.norms) > 1 else 0]
        return F.relu(norm(self.conv(x)))


class UpConv(nn.Module):
    """Nearest upsampling to a given size and a 3×3 convolution: (B, in, h, w), (H, W) → (B, out, H, W)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
        self.norm = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        """Grow (B, C, h, w) to (B, C', *size)."""
        return F.relu(self.norm(self.conv(F.interpolate(x, size=tuple(size), mode="nearest"))))
