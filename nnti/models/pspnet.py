"""PSPNet: a pyramid of pooled context on a dilated backbone.

Zhao, Shi, Qi, Wang, Jia, 2017, arXiv:1612.01105, Fig 3; the backbone comes from timm, with ImageNet weights.

Where this deviates, and why:
- any timm backbone with output at an eighth of the input works; the default, `resnet50s`, is the
  ResNet-50 with the three-convolution stem that the paper's authors trained with;
- images come normalised with ImageNet's mean and deviation, and are normalised anew for a backbone whose weights were
  trained with others;
- logits grow to the image's size in one bilinear step with `align_corners=False`, as everything else here is sampled.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from nnti.augment import MEAN, STD
from nnti.errors import WeightsError
from nnti.models.attention import PyramidAttention
from nnti.models.blocks import Block, Outputs, exact_depthwise, grow

__all__ = ["PSPNet", "PyramidPooling"]


OUTPUT_STRIDE = 8  # input size over feature size


class PSPNet(nn.Module):
    """Backbone, pyramid pooling and head; (B, 3, H, W) normalised images → (B, num_classes, H, W) logits.

    Training needs at least two images at a time: the pyramid's 1 × 1 level has one value per image and channel, and
    batch normalisation cannot work on a single value.

    Args:
        num_classes: number of output channels.
        backbone: any name of `timm.list_models()` that supports an `output_stride` of 8.
        pretrained: start from ImageNet weights of the backbone: weights/<backbone>.pth in the data folder, else those
            that timm downloads once into its cache.
        bins: the pyramid's levels, as numbers of cells along each side.
        dropout: before each classifier.
        aux: train with an auxiliary head on the backbone's last but one stage (paper, section 4). In training mode the
            network then returns `Outputs`, at the size of its features, instead of logits.
        context: "pyramid", as in the paper, or "attention": each pixel weights the pyramid's cells itself, see
            `PyramidAttention`.
        width: channels of the head.

    Raises WeightsError where the weights cannot be downloaded, ValueError for an impossible argument.
    """

    title = "PSPNet"  # name in figures and tables
    smallest_batch = 2

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet50s",
        pretrained: bool = False,
        bins: Sequence[int] = (1, 2, 3, 6),
        dropout: float = 0.1,
        aux: bool = True,
        context: str = "pyramid",
        width: int = 512,
    ):
        super().__init__()
        self.num_classes = num_classes
        self.backbone, self.weights = _backbone(backbone, pretrained)  # of the weights: file and SHA-256, for records
        self._renormalize_for(self.backbone)
        middle, deep = self.backbone.feature_info.channels()
        level = deep // len(bins)
        self.pyramid = {"pyramid": PyramidPooling, "attention": PyramidAttention}[context](deep, level, bins)
        self.fuse = _conv_norm_relu(self.pyramid.out_channels, width, 3)
        self.head = nn.Sequential(nn.Dropout2d(dropout), nn.Conv2d(width, num_classes, 1))
        self.auxiliary = None
        if aux:
            self.auxiliary = nn.Sequential(
                _conv_norm_relu(middle, width, 3), nn.Dropout2d(dropout), nn.Conv2d(width, num_classes, 1)
            )

    def forward(self, images: Tensor) -> Tensor | Outputs:
        """Return logits (B, num_classes, H, W) of normalised images (B, 3, H, W), or `Outputs`, see the class."""
        if self.training and len(images) < self.smallest_batch:
            raise ValueError(f"PSPNet trains on at least {self.smallest_batch} images at a time; set batch_size to 2")
        middle, deep = self.backbone(images * self.scale + self.shift)  # (B, 1024, H/8, W/8), (B, 2048, H/8, W/8)
        logits = self.head(self.fuse(self.pyramid(deep)))  # (B, num_classes, H/8, W/8)
        if self.training and self.auxiliary is not None:
            return Outputs(logits, self.auxiliary(middle))
        return grow(logits, images.shape[-2:])

    def _renormalize_for(self, backbone: nn.Module) -> None:
        """Keep the map from images in ImageNet's normalisation to the one that the backbone knows."""
        from timm.data import resolve_model_data_config

        wanted = resolve_model_data_config(backbone)
        ours, theirs = (torch.tensor(both).view(2, 3, 1, 1) for both in ((MEAN, STD), (wanted["mean"], wanted["std"])))
        self.register_buffer("scale", ours[1] / theirs[1], persistent=False)
        self.register_buffer("shift", (ours[0] - theirs[0]) / theirs[1], persistent=False)

    def parameter_groups(self) -> dict[str, list[nn.Parameter]]:
        """Return the parameters by how fast they should learn: "backbone" (pretrained) and "head" (new)."""
        backbone = list(self.backbone.parameters())
        known = {id(parameter) for parameter in backbone}
        return {"backbone": backbone, "head": [p for p in self.parameters() if id(p) not in known]}

    def blocks(self) -> Iterator[Block]:
        """Yield the rows of the architecture table; the pyramid's levels all read the backbone's end."""
        backbone = list(_backbone_blocks(self.backbone))
        yield from backbone
        deep, names = backbone[-1].name, []
        if isinstance(self.pyramid, PyramidAttention):
            yield Block("pyramid", "attention", f"to {self.pyramid.cells} cells", self.pyramid, (deep,))
        else:
            for bin, level in zip(self.pyramid.bins, self.pyramid.levels, strict=True):
                names.append(f"pool {bin}×{bin}")
                yield Block("pyramid", names[-1], f"mean of {bin}×{bin} cells, 1×1", level, (deep,))
        yield Block("head", "fuse", "3×3", self.fuse, (deep, *names) if names else ())
        yield Block("head", "classifier", "1×1", self.head)
        if self.auxiliary is not None:
            middle = backbone[-2].name if len(backbone) > 1 else deep
            yield Block("auxiliary", "auxiliary", "3×3, 1×1, in training only", self.auxiliary, (middle,))


class PyramidPooling(nn.Module):
    """A map beside its means over grids of cells: (B, C, h, w) → (B, C + len(bins) · level_channels, h, w).

    Args:
        channels: of the map. level_channels: that each level is reduced to.
        bins: cells along each side, one number per level.
    """

    def __init__(self, channels: int, level_channels: int, bins: Sequence[int]):
        super().__init__()
        self.bins, self.out_channels = tuple(bins), channels + len(bins) * level_channels
        self.levels = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(bin), *_conv_norm_relu(channels, level_channels, 1)) for bin in bins
        )

    def forward(self, x: Tensor) -> Tensor:
        """Concatenate the map and its levels: (B, C, h, w) → (B, C + levels · level_channels, h, w)."""
        # each (B, level_channels, h, w); autocast on a CPU resizes in float32, and cat would follow
        levels = [grow(level(x), x.shape[-2:]).to(x.dtype) for level in self.levels]
        return torch.cat([x, *levels], dim=1)


def _backbone(name: str, pretrained: bool) -> tuple[nn.Module, dict[str, str] | None]:
    """Return a timm model that gives its last two stages, [middle, deep], at an eighth of the input's size.

    The second value tells the file of its weights, where they came from one: name and SHA-256.
    """
    import timm  # slower to import than PyTorch: only when a PSPNet is built

    from nnti.models.weights import load_backbone, weights_file

    if ":" not in name and not timm.is_model(name.split(".")[0]):  # "hf-hub:…" and "local-dir:…" are timm's to resolve
        raise ValueError(f"timm has no backbone '{name}'; timm.list_models() has all names")
    options = {"features_only": True, "output_stride": OUTPUT_STRIDE, "out_indices": (-2, -1)}
    path = weights_file(name) if pretrained else None
    try:
        backbone = exact_depthwise(timm.create_model(name, pretrained=pretrained and path is None, **options))
    except (NotImplementedError, AssertionError, TypeError) as error:
        raise ValueError(
            f"backbone '{name}' cannot give features at output_stride {OUTPUT_STRIDE} "
            f"({str(error) or type(error).__name__}); ResNets, EfficientNets, ConvNeXts and MobileNets can"
        ) from error
    except Exception as error:  # without a connection the hub client raises many kinds
        if not pretrained:
            raise
        raise WeightsError(
            f"the ImageNet weights of '{name}' could not be downloaded ({type(error).__name__}). Go online once, and "
            f'timm keeps them; or train without them: model_arguments={{"backbone": "{name}", "pretrained": false}}, '
            "with backbone_factor=1 and more epochs. A file of them may also lie in the data folder, as "
            f"weights/{name}.pth"
        ) from error
    return backbone, load_backbone(backbone, name, path) if path else None


def _backbone_blocks(backbone: nn.Module) -> Iterator[Block]:
    """Yield a block per stage: modules that run before the first one with blocks inside are its stem."""
    children = dict(backbone.items()) if isinstance(backbone, nn.ModuleDict) else {}
    stages = {name: module for name, module in children.items() if name.startswith(("layer", "stages", "blocks"))}
    if not stages:
        yield Block("backbone", "backbone", type(backbone).__name__, backbone)
        return
    stem = [module for name, module in children.items() if name not in stages]
    if stem:
        yield Block("backbone", "stem", "convolutions, max-pool", stem[-1], (), tuple(stem[:-1]))
    for name, module in stages.items():
        kinds = [type(part).__name__ for part in module.children()]
        yield Block("backbone", name, f"{len(kinds)} × {kinds[0]}" if kinds else type(module).__name__, module)


def _conv_norm_relu(in_channels: int, out_channels: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU())
