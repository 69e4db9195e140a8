"""Attention: over a pyramid's cells for PSPNet, and on the skip connections for R2U-Net.

`PyramidAttention` follows Zhu, Xu, Bai, Huang, Bai, "Asymmetric Non-local Neural Networks for Semantic Segmentation",
ICCV 2019, arXiv:1908.07678, section 3.2: keys and values are not all pixels but the cells of a pooling pyramid.
`AttentionGate` follows Oktay et al., "Attention U-Net", 2018, arXiv:1804.03999, equations 1 and 2.

Where this deviates, and why:
- keys and queries have projections of their own, and the attended map stands beside the input instead of being added
  to it, so that it takes the place of PSPNet's pyramid one to one;
- a gate compares maps of the skip's size, since the decoder's map has just been grown to it; so its weights need no
  resampling.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PyramidAttention(nn.Module):
    """A map beside what each of its pixels reads from a pyramid of cells: (B, C, h, w) → (B, 2 · C, h, w).

    The map is averaged over grids of bin × bin cells, 50 in all for the bins 1, 2, 3, 6. Each pixel's query q is
    compared with the key k of every cell, and the cells' values are averaged with the weights
    softmax(q · k / √key_channels).

    Args:
        channels: of the map.
        key_channels: of queries and keys.
        bins: cells along each side, one number per level.
    """

    def __init__(self, channels: int, key_channels: int, bins: Sequence[int]):
        super().__init__()
        self.bins, self.cells, self.out_channels = tuple(bins), sum(bin * bin for bin in bins), 2 * channels
        self.pools = nn.ModuleList(nn.AdaptiveAvgPool2d(bin) for bin in bins)
        self.query = nn.Sequential(nn.Conv2d(channels, key_channels, 1, bias=False), nn.BatchNorm2d(key_channels))
        self.key = nn.Linear(channels, key_channels)
        self.value = nn.Linear(channels, channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the map and what its pixels read: (B, C, h, w) → (B, 2 · C, h, w)."""
        cells = self._cells(x)
        read = self._weights(x, cells) @ self.value(cells)  # (B, h · w, C)
        read = read.transpose(1, 2).unflatten(2, x.shape[-2:])  # (B, C, h, w)
        return torch.cat([x, F.relu(self.norm(read)).to(x.dtype)], dim=1)

    def weights(self, x: Tensor) -> Tensor:
        """Return how much each pixel reads from each cell: (B, C, h, w) → (B, h, w, cells), adding up to 1."""
        return self._weights(x, self._cells(x)).unflatten(1, x.shape[-2:])

    def _cells(self, x: Tensor) -> Tensor:
        """Average over each level's cells, coarse levels first, row by row: (B, C, h, w) → (B, cells, C)."""
        return torch.cat([pool(x).flatten(2) for pool in self.pools], dim=2).transpose(1, 2)

    def _weights(self, x: Tensor, cells: Tensor) -> Tensor:
        query = self.query(x).flatten(2).transpose(1, 2)  # (B, h · w, K)
        key = self.key(cells)  # (B, cells, K)
        return (query @ key.transpose(1, 2) / key.shape[-1] ** 0.5).softmax(dim=-1)


class AttentionGate(nn.Module):
    """Weight each pixel of a skip connection by what the decoder has found there: α · skip, (B, C, H, W).

    α = σ(ψ(ReLU(W_x ∗ skip + W_g ∗ decoded))), one number in (0, 1) per pixel; W_x, W_g and ψ are 1×1 convolutions.
    """

    def __init__(self, channels: int):
        super().__init__()
        inner = max(1, channels // 2)
        self.skip = nn.Sequential(nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner))
        self.decoded = nn.Sequential(nn.Conv2d(channels, inner, 1, bias=False), nn.BatchNorm2d(inner))
        self.psi = nn.Conv2d(inner, 1, 1)

    def forward(self, skip: Tensor, decoded: Tensor) -> Tensor:
        """Return the weighted skip connection; both inputs are (B, C, H, W)."""
        return self.weights(skip, decoded) * skip

    def weights(self, skip: Tensor, decoded: Tensor) -> Tensor:
        """Return α, (B, 1, H, W)."""
        return torch.sigmoid(self.psi(F.relu(self.skip(skip) + self.decoded(decoded))))
