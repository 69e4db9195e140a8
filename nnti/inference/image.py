"""Segment one image: whole or in sliding windows, at one or several scales, with or without its mirror image.

This is how PSPNet's multi-scale results were made (Zhao et al., 2017, arXiv:1612.01105, section 5); its published
evaluation moves the window by two thirds of its side. Class probabilities are averaged, never logits, whose scale
differs from pass to pass. An image smaller than the window is one window of its own size: padding would add a
border that does not exist.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnti.augment import normalize
from nnti.device import autocast, resolve_precision
from nnti.experiment import Inference, crop_shape
from nnti.models.blocks import most_likely

STRIP = 256  # rows


@torch.inference_mode()
def predict(model: nn.Module, image: Tensor, inference: Inference | None = None, precision: str = "auto") -> Tensor:
    """Segment one uint8 image (3, H, W) at its own size: class numbers, uint8 (H, W), on the CPU.

    `inference` None is `Inference()`. `precision` is an experiment's setting; a model from `nnti.inference.deploy`,
    faster for many images, has its own precision and ignores it.
    """
    images, inference = _on_device(model, image), inference or Inference()
    with evaluating(model), autocast(images.device, resolve_precision(precision, images.device)):
        scores = model(images) if inference.plain else average(model, images, inference)
    strips = [most_likely(strip) for strip in scores.split(STRIP, dim=-2)]  # comparing takes memory as well
    return torch.cat(strips, dim=-2)[0].to("cpu", torch.uint8)


@torch.inference_mode()
def probabilities(
    model: nn.Module, image: Tensor, inference: Inference | None = None, precision: str = "auto"
) -> Tensor:
    """Return the class probabilities of a uint8 image (3, H, W): float32 (C, H, W), on the model's device."""
    images = _on_device(model, image)
    with evaluating(model), autocast(images.device, resolve_precision(precision, images.device)):
        return average(model, images, inference or Inference())[0]


def average(model: nn.Module, images: Tensor, inference: Inference) -> Tensor:
    """Average class probabilities over windows, scales and mirror images.

    Normalised images (B, 3, H, W) → float32 (B, C, H, W), on the device of the images. The caller chooses the model's
    mode and autocast.
    """
    size, total = images.shape[-2:], None
    for scale in inference.scales:
        scaled = _resize(images, [max(1, round(side * scale)) for side in size])
        found = _over_windows(model, scaled, inference)
        if total is None:
            total = _resize(found, size)
            continue
        for number in range(total.shape[1]):  # class by class: all at once would need another map of the sum's size
            total[:, number : number + 1] += _resize(found[:, number : number + 1], size)
    return total.div_(len(inference.scales))


def windows(length: int, window: int, overlap: float) -> list[slice]:
    """Return the windows along one side of `length` pixels, in order; together they cover it.

    Each begins (1 − overlap) · window, rounded, after the one before it; the last is moved back to the border. A window
    longer than the side becomes the side.
    """
    window = min(window, length)
    step = max(1, round((1 - overlap) * window))
    starts = [*range(0, length - window, step), length - window]
    return [slice(start, start + window) for start in starts]


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Put a model into eval mode; restore the mode of each part afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def _over_windows(model: nn.Module, images: Tensor, inference: Inference) -> Tensor:
    """Average over the windows of one scale: (B, 3, h, w) → (B, C, h, w); holds one sum and `tile_batch` windows."""
    size = images.shape[-2:]
    crop = size if inference.protocol == "whole" else crop_shape(inference.crop_size)
    tops, lefts = (windows(length, side, inference.overlap) for length, side in zip(size, crop, strict=True))
    places = [(..., rows, columns) for rows in tops for columns in lefts]
    if len(places) == 1:
        return _softmax(model, images, inference.flip)
    total, count = None, images.new_zeros(size)
    for first in range(0, len(places), inference.tile_batch):
        chosen = places[first : first + inference.tile_batch]
        tiles = _softmax(model, torch.cat([images[place] for place in chosen]), inference.flip)
        if total is None:
            total = tiles.new_zeros(len(images), tiles.shape[1], *size)
        for place, tile in zip(chosen, tiles.split(len(images)), strict=True):
            total[place] += tile
            count[place] += 1
    return total.div_(count)


def _softmax(model: nn.Module, images: Tensor, flip: bool) -> Tensor:
    """Return class probabilities (B, C, h, w), float32, of one pass, or of the mean of an image and its mirror."""
    result = model(images).float().softmax(1)
    if flip:
        result = (result + model(images.flip(-1)).float().softmax(1).flip(-1)) / 2
    return result


def _resize(values: Tensor, size: Sequence[int]) -> Tensor:
    """Resize (B, C, h, w) bilinearly, a pixel being a square as in `nnti.augment`; antialiased where it shrinks."""
    if values.shape[-2:] == tuple(size):
        return values
    return F.interpolate(values, tuple(size), mode="bilinear", align_corners=False, antialias=True)


def _on_device(model: nn.Module, image: Tensor) -> Tensor:
    """Return an image as the model takes it, normalised (1, 3, H, W), where the model is."""
    if image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise ValueError(f"image {tuple(image.shape)} must be (3, H, W), values 0 … 255; of a batch take one at a time")
    images = normalize(image[None].to(next(model.parameters()).device))
    return images.contiguous(memory_format=torch.channels_last)
