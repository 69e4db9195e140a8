"""Segment one image: whole or in sliding windows, at one or several scales, with or without its mirror image.

PSPNet's multi-scale results come about like this (Zhao et al., 2017, arXiv:1612.01105, section 5); its published
evaluation moves the window by two thirds of its side. What is averaged are class probabilities, never logits: the
scale of logits differs from pass to pass.

Resampling is bilinear with `align_corners=False` (a pixel is a square, as in `nnti.augment`), antialiased where it
shrinks. A picture smaller than the window is one window of its own size: all networks here take any size, and padding
would show them a border that is not there.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnti.augment import normalize
from nnti.device import autocast, resolve_precision
from nnti.experiment import Inference, crop_shape
from nnti.models.blocks import most_likely

__all__ = ["Inference", "average", "evaluating", "predict", "probabilities", "windows"]


STRIP = 256  # rows


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
