"""A trained network made ready to segment many images: the same predictions from less work for each.

What it changes and what each part is worth is measured by `benchmarks/inference.py`:
- batch normalisation becomes a part of the convolution before it. In eval mode it multiplies each channel by a constant
  and adds another, and so can the convolution's weight and bias;
- weights and activations are kept in bfloat16, where that is the precision, and laid out channels last. Autocast would
  convert between each two operators, and leave a network's main branch in float32;
- the compiler is an option: it takes a minute, and knows one size of image.
"""

import copy
from collections import Counter, defaultdict

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nnti.device import compiled, resolve_precision
from nnti.models import trace
from nnti.models.blocks import batch_norms

__all__ = ["Deployed", "deploy", "fold_batch_norms"]


TRACED_SIZE = (64, 64)  # large enough for every network's coarsest map; no values are computed


def deploy(model: nn.Module, precision: str = "auto", *, compile: bool = False) -> "Deployed":
    """Return a copy of a model for inference alone, on the model's device; the model is left as it was.

    Args:
        model: images (B, 3, H, W) → logits (B, C, H, W) in eval mode.
        precision: an experiment's setting.
        compile: let `torch.compile` work on it when the first images come. Images of any other shape are segmented
            uncompiled: each further shape would take minutes.
    """
    dtype = resolve_precision(precision, next(model.parameters()).device)
    return Deployed(fold_batch_norms(model), dtype, compile)


class Deployed(nn.Module):
    """What `deploy` makes: normalised images (B, 3, H, W), float32 → logits (B, C, H, W), of any floating type.

    It computes in its own precision, whatever context of autocast it is called in.

    Args:
        model: folded, in eval mode; is changed and kept.
        dtype: float32, bfloat16, or float16: that by autocast, for the range of float16 is too small for some weights.
        compile: see `deploy`.
    """

    def __init__(self, model: nn.Module, dtype: torch.dtype, compile: bool = False):
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


def fold_batch_norms(model: nn.Module) -> nn.Module:
    """Return a copy of a model, in eval mode, whose convolutions do what the batch normalisations behind them did.

    Which belong together is read off a pass of an image without values: a normalisation is folded if each of its calls
    gets what a convolution has just made, nothing else reads that, and these convolutions are called before no other
    normalisation. So ENet's first one stays, behind a concatenation, and R2U-Net's with `step_norm="per_step"`, where
    several follow one convolution in turn.

    Logits agree with the model's own to about 1e-6 of the largest. The copy is not to be trained.
    """
    model = copy.deepcopy(model).requires_grad_(False).eval()
    replaced: dict[nn.Module, nn.Module] = {}
    for norm, convolutions in _foldable(model).items():
        replaced[norm] = nn.Identity().eval()
        for conv in convolutions:
            replaced[conv] = fuse_conv_bn_eval(conv, norm, transpose=isinstance(conv, nn.ConvTranspose2d))
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if child in replaced:
                setattr(parent, name, replaced[child])
    return model


class _Readers(TorchDispatchMode):
    """Counts how many operators read a tensor, by the tensor's id."""

    def __init__(self):
        super().__init__()
        self.count: Counter[int] = Counter()

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        options = options or {}
        self.count.update(id(leaf) for leaf in tree_leaves((arguments, options)) if isinstance(leaf, Tensor))
        return operator(*arguments, **options)


def _foldable(model: nn.Module) -> dict[nn.Module, set[nn.Module]]:
    """Return the batch normalisations that can be folded, each with the convolutions before it."""
    outputs, inputs, readers = _record(model)
    maker = {id(output): conv for conv, output in outputs if readers.count[id(output)] == 1}
    taker = {id(x): norm for norm, x in inputs}
    before, behind = defaultdict(set), defaultdict(set)
    for norm, x in inputs:
        before[norm].add(maker.get(id(x)))
    for conv, output in outputs:
        behind[conv].add(taker.get(id(output)))
    return {norm: convs for norm, convs in before.items() if all(behind[conv] == {norm} for conv in convs)}


def _record(model: nn.Module) -> tuple[list, list, _Readers]:
    """Pass an image without values through a model.

    Returns (convolution, output) and (normalisation, input) of every call, and who read what. The lists keep the
    tensors alive: no two of them have the same id.
    """
    outputs, inputs, readers = [], [], _Readers()

    def made(conv: nn.Module, _, output: Tensor) -> None:
        outputs.append((conv, output))
        readers.count[id(output)] = 0  # the id may have been that of a tensor which is gone

    hooks = []
    for module in model.modules():
        if _is_convolution(module):
            hooks.append(module.register_forward_hook(made))
        elif type(module) is nn.BatchNorm2d and module.running_mean is not None:
            hooks.append(module.register_forward_pre_hook(lambda norm, given: inputs.append((norm, given[0]))))
    try:
        with readers:
            trace(model, TRACED_SIZE, training=False, images=1)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs, inputs, readers


def _is_convolution(module: nn.Module) -> bool:
    """Whether PyTorch can fold into it; a subclass may do more than its base."""
    return type(module) is nn.Conv2d or (type(module) is nn.ConvTranspose2d and module.groups == 1)
