"""ENet: a deep neural network architecture for real-time semantic segmentation.

Paszke, Chaurasia, Kim, Culurciello, 2016, arXiv:1606.02147; block and stage names follow the paper's Table 1 and Fig 2.

Where this deviates, and why:
- the transposed convolutions are 3 × 3 instead of 2 × 2, so that odd sizes come back exactly;
- poolings round up and strided projections are padded to match, so that any input of at least 1 × 1 pixel works;
- the normalisation that ends each extension starts at a tenth of its usual scale (in the manner of Goyal et al., 2017,
  arXiv:1706.02677): two dozen untrained extensions would otherwise drown what the main branches carry.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnti.models.blocks import Block

__all__ = ["ENet"]


DILATIONS = (2, 4, 8, 16)
EXTENSION_SCALE = 0.1


class ENet(nn.Module):
    """Encoder-decoder of bottlenecks; (B, 3, H, W) normalised images → (B, num_classes, H, W) logits.

    Args:
        num_classes: number of output channels.
        dropout: spatial dropout in stage 1, and after it (paper, section 4).
    """

    title = "ENet"  # name in figures and tables

    def __init__(self, num_classes: int, dropout: tuple[float, float] = (0.01, 0.1)):
        super().__init__()
        early, late = dropout
        self.num_classes = num_classes
        self.initial = InitialBlock(3, 16)
        self.down1 = Downsampling(16, 64, early)
        self.stage1 = nn.Sequential(*(Bottleneck(64, early) for _ in range(4)))
        self.down2 = Downsampling(64, 128, late)
        self.stage2 = nn.Sequential(*_context_bottlenecks(128, late))
        self.stage3 = nn.Sequential(*_context_bottlenecks(128, late))
        self.up4 = Upsampling(128, 64, late)
        self.stage4 = nn.Sequential(*(Bottleneck(64, late, activation=_relu) for _ in range(2)))
        self.up5 = Upsampling(64, 16, late)
        self.stage5 = Bottleneck(16, late, activation=_relu)
        self.head = nn.ConvTranspose2d(16, num_classes, 3, stride=2, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, num_classes, H, W) of normalised images (B, 3, H, W)."""
        half = self.initial(images)  # (B, 16, H/2, W/2)
        quarter, indices1 = self.down1(half)  # (B, 64, H/4, W/4)
        quarter = self.stage1(quarter)
        eighth, indices2 = self.down2(quarter)  # (B, 128, H/8, W/8)
        eighth = self.stage3(self.stage2(eighth))
        decoded = self.stage4(self.up4(eighth, indices2, quarter.shape[-2:]))  # (B, 64, H/4, W/4)
        decoded = self.stage5(self.up5(decoded, indices1, half.shape[-2:]))  # (B, 16, H/2, W/2)
        return self.head(decoded, output_size=images.shape[-2:])

    def blocks(self) -> Iterator[Block]:
        """Yield the rows of the paper's Table 1, input to output."""
        yield Block("", "initial", "3×3 / 2 ‖ max-pool", self.initial)
        yield from self._stage("1", self.down1, self.stage1)
        yield from self._stage("2", self.down2, self.stage2)
        yield from self._stage("3", None, self.stage3)
        yield from self._stage("4", self.up4, self.stage4, ("bottleneck3.8", "bottleneck2.0"))  # map, pooling indices
        yield from self._stage("5", self.up5, [self.stage5], ("bottleneck4.2", "bottleneck1.0"))
        yield Block("", "fullconv", "transposed 3×3 × 2", self.head)

    @staticmethod
    def _stage(stage: str, resampling: nn.Module | None, bottlenecks, inputs: tuple[str, ...] = ()) -> Iterator[Block]:
        if resampling is not None:
            yield Block(stage, f"bottleneck{stage}.0", resampling.kind, resampling, inputs)
        for number, bottleneck in enumerate(bottlenecks, start=1):
            yield Block(stage, f"bottleneck{stage}.{number}", bottleneck.kind, bottleneck)


class PReLU(nn.PReLU):
    """max(x, 0) + w · min(x, 0) with one learned w per channel; (B, C, H, W) → the same.

    In training on a CPU, x is mixed with its own ReLU: the same values and gradients as PyTorch's operator, whose
    backward pass is slow there because it is not vectorised.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or not torch.is_grad_enabled():
            return super().forward(x)
        return torch.lerp(F.relu(x), x, self.weight.to(x.dtype).view(-1, 1, 1))


class InitialBlock(nn.Module):
    """Strided convolution beside a max-pooling of the input (paper, Fig 2a): (B, 3, H, W) → (B, 16, H/2, W/2)."""

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels - in_channels, 3, stride=2, padding=1, bias=False)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.norm = nn.BatchNorm2d(out_channels)
        self.activation = PReLU(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        conv = self.conv(x)
        pool = self.pool(x).to(conv.dtype)  # under autocast a float32 image would make all main branches float32
        return self.activation(self.norm(torch.cat([conv, pool], dim=1)))


class Bottleneck(nn.Module):
    """Residual block at constant size (paper, Fig 2b): 1×1 to a quarter of the channels, a convolution, 1×1 back.

    Args:
        channels: of input and output.
        dropout: probability of dropping a whole channel of the extension.
        dilation: of the 3 × 3 convolution.
        asymmetric: 5 × 1 followed by 1 × 5 in place of the 3 × 3 convolution.
        activation: makes an activation for a number of channels (PReLU in the encoder, ReLU in the decoder).
    """

    def __init__(self, channels: int, dropout: float, *, dilation: int = 1, asymmetric: bool = False, activation=PReLU):
        super().__init__()
        inner = channels // 4
        self.kind = "asymmetric 5" if asymmetric else f"dilated {dilation}" if dilation > 1 else ""
        if asymmetric:
            conv = [
                nn.Conv2d(inner, inner, (5, 1), padding=(2, 0), bias=False),
                nn.Conv2d(inner, inner, (1, 5), padding=(0, 2), bias=False),
            ]
        else:
            conv = [nn.Conv2d(inner, inner, 3, padding=dilation, dilation=dilation, bias=False)]
        self.extension = nn.Sequential(
            nn.Conv2d(channels, inner, 1, bias=False),
            *_norm_act(inner, activation),
            *conv,
            *_norm_act(inner, activation),
            *_expand(inner, channels, dropout),
        )
        self.activation = activation(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x + self.extension(x))


class Downsampling(nn.Module):
    """Bottleneck of half the size: the main branch is max-pooled and padded with zero channels.

    (B, in, H, W) → (B, out, ⌈H/2⌉, ⌈W/2⌉) and the pooling indices (B, in, ⌈H/2⌉, ⌈W/2⌉).
    """

    kind = "downsampling"

    def __init__(self, in_channels: int, out_channels: int, dropout: float):
        super().__init__()
        inner = in_channels // 4
        self.extra_channels = out_channels - in_channels
        self.pool = nn.MaxPool2d(2, ceil_mode=True, return_indices=True)
        self.extension = nn.Sequential(
            nn.Conv2d(in_channels, inner, 2, stride=2, bias=False),
            *_norm_act(inner, PReLU),
            nn.Conv2d(inner, inner, 3, padding=1, bias=False),
            *_norm_act(inner, PReLU),
            *_expand(inner, out_channels, dropout),
        )
        self.activation = PReLU(out_channels)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        main, indices = self.pool(x)
        main = F.pad(main, (0, 0, 0, 0, 0, self.extra_channels))  # zero channels behind the pooled ones
        even = F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))  # the 2×2 projection rounds up like the pooling
        return self.activation(main + self.extension(even)), indices


class Upsampling(nn.Module):
    """Bottleneck of double the size: the main branch is projected and max-unpooled with the encoder's indices.

    (B, in, h, w), indices (B, out, h, w), (H, W) → (B, out, H, W).
    """

    kind = "upsampling"

    def __init__(self, in_channels: int, out_channels: int, dropout: float):
        super().__init__()
        inner = in_channels // 4
        self.main = nn.Sequential(nn.Conv2d(in_channels, out_channels, 1, bias=False), nn.BatchNorm2d(out_channels))
        self.unpool = nn.MaxUnpool2d(2)
        self.reduce = nn.Sequential(nn.Conv2d(in_channels, inner, 1, bias=False), *_norm_act(inner, _relu))
        self.deconv = nn.ConvTranspose2d(inner, inner, 3, stride=2, padding=1, bias=False)
        self.expand = nn.Sequential(*_norm_act(inner, _relu), *_expand(inner, out_channels, dropout))
        self.activation = nn.ReLU()

    def forward(self, x: Tensor, indices: Tensor, size: tuple[int, int]) -> Tensor:
        main = self.unpool(self.main(x), indices, output_size=size)
        extension = self.expand(self.deconv(self.reduce(x), output_size=size))
        return self.activation(main.to(extension.dtype) + extension)  # autocast on a CPU unpools in float32


def _context_bottlenecks(channels: int, dropout: float) -> Iterator[Bottleneck]:
    """Yield the eight bottlenecks of stages 2 and 3: regular and asymmetric ones between growing dilations."""
    for number, dilation in enumerate(DILATIONS):
        yield Bottleneck(channels, dropout, asymmetric=number % 2 == 1)
        yield Bottleneck(channels, dropout, dilation=dilation)


def _expand(inner: int, channels: int, dropout: float) -> tuple[nn.Module, nn.Module, nn.Module]:
    """Make the end of an extension: 1×1 convolution, normalisation, spatial dropout."""
    norm = nn.BatchNorm2d(channels)
    nn.init.constant_(norm.weight, EXTENSION_SCALE)
    return nn.Conv2d(inner, channels, 1, bias=False), norm, nn.Dropout2d(dropout)


def _norm_act(channels: int, activation) -> tuple[nn.Module, nn.Module]:
    return nn.BatchNorm2d(channels), activation(channels)


def _relu(channels: int) -> nn.Module:
    """Return a ReLU; takes a number of channels because PReLU does."""
    return nn.ReLU()
