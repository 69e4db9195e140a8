"""Modules that stand in for others where a network is exported for images of any size: same weights, same values.

An exporter follows sizes as symbols. It has to decide every comparison of two of them, and what it has decided holds
for the sizes of one example only. These modules therefore compare no sizes: where one of PyTorch's rounds up, or grows
to a given size, they always make a little more than is needed and cut the rest off.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

__all__ = ["average_cells", "with_dynamic_sizes"]


def with_dynamic_sizes(model: nn.Module) -> nn.Module:
    """Replace, in the model itself, every module that cannot be exported for sizes that are not known; return it."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            for kind, (fits, stand_in) in STAND_INS.items():
                if type(child) is kind and fits(child):
                    setattr(parent, name, stand_in(child).train(child.training))
    return model


def average_cells(x: Tensor, size: tuple[int | None, int | None]) -> Tensor:
    """Average a map (B, C, H, W) over a grid of cells: (B, C, *size), as `F.adaptive_avg_pool2d`; None keeps a side.

    Cell i of n covers the pixels from ⌊i · H / n⌋ up to, not including, ⌈(i + 1) · H / n⌉. With a row of weights for
    each cell, the means are two matrix products: (rows, H) · (B, C, H, W) · (W, columns).
    """
    rows, columns = size
    if columns is not None:
        x = x @ _cell_weights(x, x.shape[-1], columns).T  # (B, C, H, columns)
    if rows is not None:
        x = _cell_weights(x, x.shape[-2], rows) @ x  # (B, C, rows, columns)
    return x


class RoundedUpMaxPool(nn.Module):
    """Max-pooling in cells of k × k that rounds up: (B, C, H, W) → (B, C, ⌈H/k⌉, ⌈W/k⌉), perhaps with indices.

    The indices number the pixels of a map of (H + k − 1, W + k − 1), as `MaxUnpool` expects.
    """

    def __init__(self, pool: nn.MaxPool2d):
        super().__init__()
        self.cell, self.return_indices = _side(pool.kernel_size), pool.return_indices

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return F.max_pool2d(_extend(x, self.cell - 1, float("-inf")), self.cell, return_indices=self.return_indices)


class MaxUnpool(nn.Module):
    """Max-unpooling with the indices of `RoundedUpMaxPool`: two maps (B, C, h, w) → (B, C, *output_size)."""

    def __init__(self, unpool: nn.MaxUnpool2d):
        super().__init__()
        self.cell = _side(unpool.kernel_size)

    def forward(self, x: Tensor, indices: Tensor, output_size: tuple[int, int]) -> Tensor:
        height, width = output_size
        more = self.cell - 1
        extended = F.max_unpool2d(x, indices, self.cell, output_size=(height + more, width + more))
        return extended[..., :height, :width]


class GrowingConvTranspose(nn.Module):
    """A transposed convolution that is told its output's size: (B, in, h, w) → (B, out, *output_size)."""

    def __init__(self, conv: nn.ConvTranspose2d):
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, output_size: tuple[int, int] | None = None) -> Tensor:
        if output_size is None:
            return self.conv(x)
        height, width = output_size
        return self.conv(_extend(x, 1, 0.0))[..., :height, :width]  # a zero adds nothing to what is kept


class CellAverage(nn.Module):
    """`average_cells` as a module."""

    def __init__(self, pool: nn.AdaptiveAvgPool2d):
        super().__init__()
        size = pool.output_size
        self.size = tuple(size) if isinstance(size, tuple | list) else (size, size)

    def forward(self, x: Tensor) -> Tensor:
        return average_cells(x, self.size)


def _cell_weights(x: Tensor, length: int, cells: int) -> Tensor:
    """Return what each pixel of a side adds to each cell's mean: (cells, length), rows add up to 1."""
    cell = torch.arange(cells, device=x.device)[:, None]
    pixel = torch.arange(length, device=x.device)
    inside = ((pixel + 1) * cells > cell * length) & (pixel * cells < (cell + 1) * length)
    return inside.to(x.dtype) / inside.sum(1, keepdim=True)


def _extend(x: Tensor, pixels: int, value: float) -> Tensor:
    """Add pixels below and to the right."""
    return F.pad(x, (0, pixels, 0, pixels), value=value)


def _side(kernel_size: int | tuple[int, int]) -> int:
    return kernel_size if isinstance(kernel_size, int) else kernel_size[0]


def _in_cells(pool: nn.MaxPool2d | nn.MaxUnpool2d) -> bool:
    """Whether the windows are squares that touch each other."""
    kernel, stride, padding = ((side, side) if isinstance(side, int) else tuple(side)
                               for side in (pool.kernel_size, pool.stride, pool.padding))  # fmt: skip
    return kernel == stride and kernel[0] == kernel[1] and padding == (0, 0)


# type → (which of its modules need it, what takes their place)
STAND_INS = {
    nn.MaxPool2d: (lambda pool: pool.ceil_mode and _in_cells(pool) and pool.dilation == 1, RoundedUpMaxPool),
    nn.MaxUnpool2d: (_in_cells, MaxUnpool),
    nn.ConvTranspose2d: (lambda conv: conv.stride != (1, 1), GrowingConvTranspose),
    nn.AdaptiveAvgPool2d: (lambda pool: True, CellAverage),
}
