"""Segment one image: whole or in sliding windows, at one or several scales, with or without its mirror image.

PSPNet's multi-scale results come about like this (Zhao et al., 2017, arXiv:1612.01105, section 5); its published
evaluation moves the window by two thirds of its side. What is averaged are class probabilities, never logits: the
scale of logits differs from pass to pass.

Resampling is bilinear with `align_corners=False` (a pixel is a square, as in `nnti.augment`), antialiased where it
shrinks. A picture smaller than the window is one window of its own size: all networks here take any size, and padding
would show them a border that is not there.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnti.augment import normalize
from nnti.device import autocast, resolve_precision
from nnti.errors import SettingError
from nnti.experiment import crop_shape
from nnti.models.blocks import most_likely

__all__ = ["Inference", "average", "evaluating", "predict", "probabilities", "windows"]


SMALLEST_CROP = 8  # pixels, as for an experiment's crop_size
STRIP = 256  # rows


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How an image is segmented; the defaults are one pass over the whole image.

    Attributes:
        protocol: 'whole', or 'sliding' for windows of crop_size.
        crop_size: the window's side, or (height, width), pixels of the scaled image; the size of the training crops
            is what the network knows best. For 'sliding' only.
        overlap: share of a window's side that the next one covers again, in [0, 1).
        scales: factors on the image's sides, one pass each.
        flip: average each pass with that over the mirror image.
        tile_batch: windows that go through the network at once; more need more memory.

    Raises SettingError, naming the setting, for a value that cannot be meant.
    """

    protocol: Literal["whole", "sliding"] = "whole"
    crop_size: int | tuple[int, int] | None = None
    overlap: float = 1 / 3
    scales: tuple[float, ...] = (1.0,)
    flip: bool = False
    tile_batch: int = 1

    def __post_init__(self):
        for name in ("scales", "crop_size"):  # lists, as JSON has them, become what they stand for
            if isinstance(getattr(self, name), list):
                object.__setattr__(self, name, tuple(getattr(self, name)))
        _check_window(self)
        if not isinstance(self.scales, tuple) or not self.scales or not all(map(_is_positive, self.scales)):
            raise SettingError(f"scales={self.scales!r}: give one or more factors above 0, for example (0.75, 1, 1.25)")
        if not isinstance(self.flip, bool):
            raise SettingError(f"flip={self.flip!r}: it must be True or False")

    @property
    def plain(self) -> bool:
        """Whether this is one forward pass with nothing to average."""
        return self.protocol == "whole" and self.scales == (1,) and not self.flip

    def to_dict(self) -> dict[str, Any]:
        """Return the settings that shape the result, as plain types; `Inference(**…)` builds it again."""
        window = {"crop_size": self.crop_size, "overlap": self.overlap} if self.protocol == "sliding" else {}
        return {"protocol": self.protocol, **window, "scales": self.scales, "flip": self.flip}

    def __str__(self) -> str:
        """Say it as it stands beside a number: "sliding 512 × 512, overlap 0.33, scales 0.75 1, flip"."""
        text = self.protocol
        if self.protocol == "sliding":
            height, width = crop_shape(self.crop_size)
            text += f" {height} × {width}, overlap {self.overlap:.2g}"
        if self.scales != (1,):
            text += f", scales {' '.join(f'{scale:g}' for scale in self.scales)}"
        return f"{text}, flip" if self.flip else text


@torch.inference_mode()
def predict(model: nn.Module, image: Tensor, inference: Inference | None = None, precision: str = "auto") -> Tensor:
    """Segment one uint8 image (3, H, W) at its own size: class numbers, uint8 (H, W), on the CPU.

    `inference` None is `Inference()`; precision is an experiment's setting, and nothing to a model from
    `nnti.inference.deploy.deploy`, which has its own. Of many images, predict each with such a model.
    """
    images, inference = _on_device(model, image), inference or Inference()
    with evaluating(model), autocast(images.device, resolve_precision(precision, images.device)):
        scores = model(images) if inference.plain else average(model, images, inference)
    return _labels(scores)[0].to("cpu", torch.uint8)


@torch.inference_mode()
def probabilities(
    model: nn.Module, image: Tensor, inference: Inference | None = None, precision: str = "auto"
) -> Tensor:
    """Return the class probabilities of a uint8 image (3, H, W): float32 (C, H, W), on the model's device."""
    images, inference = _on_device(model, image), inference or Inference()
    with evaluating(model), autocast(images.device, resolve_precision(precision, images.device)):
        return average(model, images, inference)[0]


def average(model: nn.Module, images: Tensor, inference: Inference) -> Tensor:
    """Average class probabilities over windows, scales and mirror images.

    Normalised images (B, 3, H, W) → float32 (B, C, H, W), on the device of the images. The model runs in the mode, and
    the context of autocast, that it is found in.
    """
    size, total = tuple(images.shape[-2:]), None
    for scale in inference.scales:
        scaled = _resize(images, tuple(max(1, round(side * scale)) for side in size))
        one = _over_windows(model, scaled, inference)
        if total is None:
            total = _resize(one, size)
            continue
        for number in range(total.shape[1]):  # class by class: all at once would be another map of the sum's size
            total[:, number : number + 1] += _resize(one[:, number : number + 1], size)
    return total.div_(len(inference.scales))


def windows(length: int, window: int, overlap: float) -> list[slice]:
    """Return the windows along one side of `length` pixels, in order; together they cover it.

    Each begins (1 − overlap) · window, rounded, behind the one before it; the last is moved back to the border. A
    window longer than the side becomes the side.
    """
    window = min(window, length)
    step = max(1, round((1 - overlap) * window))
    starts = [*range(0, length - window, step), length - window]
    return [slice(start, start + window) for start in starts]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode for a while; afterwards every part of it is in the mode that it came in."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _over_windows(model: nn.Module, images: Tensor, inference: Inference) -> Tensor:
    """Average over the windows of one scale: (B, 3, h, w) → (B, C, h, w); holds one sum, and `tile_batch` windows."""
    size = images.shape[-2:]
    crop = size if inference.protocol == "whole" else crop_shape(inference.crop_size)
    sides = [windows(length, window, inference.overlap) for length, window in zip(size, crop, strict=True)]
    tiles = [(rows, columns) for rows in sides[0] for columns in sides[1]]
    total = None
    for first in range(0, len(tiles), inference.tile_batch):
        chosen = tiles[first : first + inference.tile_batch]
        parts = _softmax(model, torch.cat([images[..., rows, columns] for rows, columns in chosen]), inference.flip)
        if len(tiles) == 1:
            return parts
        if total is None:
            total = parts.new_zeros(len(images), parts.shape[1], *size)
        for (rows, columns), part in zip(chosen, parts.split(len(images)), strict=True):
            total[..., rows, columns] += part
    per_row, per_column = (_coverage(side, length) for side, length in zip(sides, size, strict=True))
    return total.div_(torch.outer(per_row, per_column).to(total.device))


def _softmax(model: nn.Module, images: Tensor, flip: bool) -> Tensor:
    """Return class probabilities (B, C, h, w), float32, of one pass, or of the mean of an image and its mirror."""
    result = model(images).float().softmax(1)
    if flip:
        result = (result + model(images.flip(-1)).float().softmax(1).flip(-1)) / 2
    return result


def _labels(scores: Tensor) -> Tensor:
    """Return the best class of each pixel, (B, C, H, W) → (B, H, W), in strips: comparing takes memory as well."""
    return torch.cat([most_likely(strip) for strip in scores.split(STRIP, dim=-2)], dim=-2)


def _coverage(side: list[slice], length: int) -> Tensor:
    """Count the windows over each pixel of one side: float32 (length,)."""
    count = torch.zeros(length)
    for window in side:
        count[window] += 1
    return count


def _resize(values: Tensor, size: tuple[int, int]) -> Tensor:
    if values.shape[-2:] == size:
        return values
    return F.interpolate(values, size, mode="bilinear", align_corners=False, antialias=True)


def _on_device(model: nn.Module, image: Tensor) -> Tensor:
    """Return an image as the model takes it, (1, 3, H, W), where the model is, laid out channels last."""
    if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise ValueError(f"image {tuple(image.shape)} must be (3, H, W), values 0 … 255; of a batch take one at a time")
    images = normalize(image[None].to(next(model.parameters()).device))
    return images.contiguous(memory_format=torch.channels_last)


def _check_window(inference: Inference) -> None:
    if inference.protocol not in ("whole", "sliding"):
        raise SettingError(f"protocol={inference.protocol!r}: an image is segmented 'whole' or 'sliding'")
    crop = inference.crop_size
    if (crop is None) == (inference.protocol == "sliding"):
        raise SettingError(
            f"protocol={inference.protocol!r} with crop_size={crop!r}: 'sliding' needs a crop_size, for example the "
            "one that the network was trained with; 'whole' has none"
        )
    sides = () if crop is None else crop_shape(crop)
    if len(sides) not in (0, 2) or not all(_is_whole(side) and side >= SMALLEST_CROP for side in sides):
        raise SettingError(f"crop_size={crop!r}: a side or (height, width), at least {SMALLEST_CROP} pixels")
    if not _is_number(inference.overlap) or not 0 <= inference.overlap < 1:
        raise SettingError(f"overlap={inference.overlap!r}: it must be at least 0 and below 1, for example 1/3")
    if not _is_whole(inference.tile_batch) or inference.tile_batch < 1:
        raise SettingError(f"tile_batch={inference.tile_batch!r}: it must be a whole number, at least 1")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return _is_number(value) and value > 0
