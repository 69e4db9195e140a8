"""Prepare a trained network for segmenting many images: the same network, usually faster.

Batch normalisation, in eval mode a factor and an offset per channel, is folded into the convolution before it. Weights
and activations are kept in bfloat16, if that is the precision, and channels last; autocast would convert them between
operators. `benchmarks/inference.py` measures each part.
"""

import copy
from collections import defaultdict

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nnti.device import compiled, resolve_precision
from nnti.models.blocks import batch_norms

TRIED = (1, 3, 64, 64)  # the image on which a folded network is compared with the model
TOLERANCE = 1e-3  # of the logits' mean size; rounding can move single maxima of ENet's poolings


def deploy(model: nn.Module, precision: str = "auto", *, compile: bool = False) -> "Deployed":
    """Return a copy of a model for inference only, on the model's device; the model is not changed.

    Args:
        precision: an experiment's setting.
        compile: apply `torch.compile` at the first images, which takes up to a minute. Images of any other shape run
            uncompiled: each further shape would take as long.
    """
    dtype = resolve_precision(precision, next(model.parameters()).device)
    return Deployed(fold_batch_norms(model), dtype, compile)


class Deployed(nn.Module):
    """The result of `deploy`: normalised images (B, 3, H, W), float32 → logits (B, C, H, W), of any floating type.

    It computes in its own precision, also under autocast. That is how it uses float16, whose range some weights exceed.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype, compile: bool):
        super().__init__()
        self.model, self.dtype = model, dtype
        model.to(torch.bfloat16 if dtype == torch.bfloat16 else torch.float32, memory_format=torch.channels_last)
        for norm in batch_norms(model):  # those that could not be folded; their statistics would lose digits
            norm.float()
        self._compiled = compiled(model) if compile else model
        self._shape: torch.Size | None = None  # of the images that it was compiled for

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (B, C, H, W) of normalised images (B, 3, H, W)."""
        half = self.dtype == torch.float16
        images = images.to(torch.float32 if half else self.dtype, memory_format=torch.channels_last)
        self._shape = self._shape or images.shape
        network = self._compiled if images.shape == self._shape else self.model
        with torch.autocast(images.device.type, torch.float16 if half else torch.bfloat16, enabled=half):
            return network(images)


@torch.no_grad()
def fold_batch_norms(model: nn.Module) -> nn.Module:
    """Return a copy of a model, in eval mode, with batch normalisations folded into the convolutions before them.

    A normalisation is folded if it reads only outputs of convolutions that feed no other normalisation. So ENet's first
    one stays, behind a concatenation, and those of R2U-Net with `step_norm="per_step"`, which share a convolution. If
    the logits of a random image then differ (something else read a convolution's output), nothing is folded. The
    copy is not for training.
    """
    device = next(model.parameters()).device
    plain = copy.deepcopy(model).requires_grad_(False).cpu().eval()  # a GPU may round to ten bits
    folded = copy.deepcopy(plain)
    image = torch.randn(TRIED, generator=torch.Generator().manual_seed(0))
    for norm, convolutions in _foldable(folded, image).items():
        for conv in convolutions:
            fused = fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose2d))
            _replace(folded, conv, fused)
        _replace(folded, norm, nn.Identity())
    expected, logits = plain(image), folded(image)
    agree = (logits - expected).abs().mean() <= TOLERANCE * expected.abs().mean()
    return (folded if agree else plain).to(device).eval()


def _foldable(model: nn.Module, image: Tensor) -> dict[nn.Module, set[nn.Module]]:
    """Return the batch normalisations that can be folded, each with the convolutions before it."""
    made, taken = [], []  # (convolution, its output), (normalisation, its input) of each call in one forward pass
    hooks = []
    for module in model.modules():
        if type(module) is nn.Conv2d or (type(module) is nn.ConvTranspose2d and module.groups == 1):
            hooks.append(module.register_forward_hook(lambda conv, _, output: made.append((conv, output))))
        elif type(module) is nn.BatchNorm2d and module.running_mean is not None:
            hooks.append(module.register_forward_pre_hook(lambda norm, inputs: taken.append((norm, inputs[0]))))
    model(image)
    for hook in hooks:
        hook.remove()
    maker = {id(output): conv for conv, output in made}
    taker = {id(x): norm for norm, x in taken}
    before, behind = defaultdict(set), defaultdict(set)
    for norm, x in taken:
        before[norm].add(maker.get(id(x)))
    for conv, output in made:
        behind[conv].add(taker.get(id(output)))
    return {norm: convs for norm, convs in before.items() if all(behind[conv] == {norm} for conv in convs)}


def _replace(model: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Replace a module by another one, wherever it occurs."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child is old:
                setattr(parent, name, new)
