"""Joint augmentation of image and label in ONE resampling.

Rescale, rotation, crop and flip are composed into a single affine map from a pixel of the crop to a point of the
source image; the crop is then sampled once, on whatever device the batch is on. The host only draws the numbers,
works out which part of the source the crop can touch and ships that part as uint8.

Coordinates are continuous: the pixel in column i covers [i, i + 1) and its centre lies at i + 0.5.
"""

import math
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nnti.config import Experiment

__all__ = [
    "MEAN_COLOR", "Batch", "Draw", "HostSample", "Placement", "collate", "cut", "draw", "normalize", "place_random",
    "place_report", "place_resized", "warp",
]  # fmt: skip

# ImageNet statistics, which the published backbones were trained with; the mean colour also fills what lies outside.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
MEAN_COLOR = tuple(round(255 * mean) for mean in MEAN)
BLUR_RADIUS = 3  # pixels: three standard deviations of the strongest blur


@dataclass(frozen=True)
class Draw:
    """The random numbers of one sample; the defaults change nothing but the size.

    Attributes:
        scale: factor on base_size.
        angle: rotation, degrees, counter-clockwise as seen.
        offset: where the crop lies between its extreme positions, (vertical, horizontal), each in [0, 1).
        flip: mirror left and right.
        sigma: standard deviation of the Gaussian blur, pixels of the crop.
    """

    scale: float = 1.0
    angle: float = 0.0
    offset: tuple[float, float] = (0.0, 0.0)
    flip: bool = False
    sigma: float = 0.0


@dataclass(frozen=True)
class Placement:
    """Where a crop lies in its source: `source = matrix @ (x, y, 1)` for crop coordinates (x, y).

    Attributes:
        matrix: (2, 3) float64, crop coordinates → source coordinates, both in pixels, (x, y) order.
        size: (height, width) of the crop.
        sigma: blur of the crop, pixels.
    """

    matrix: np.ndarray
    size: tuple[int, int]
    sigma: float = 0.0

    @property
    def shrink(self) -> float:
        """How many source pixels lie along one crop pixel."""
        return math.sqrt(abs(np.linalg.det(self.matrix[:, :2])))


class HostSample(NamedTuple):
    """What the host ships for one sample: the touched part of image and label, and the map into it."""

    image: Tensor  # uint8 (3, h / reduction, w / reduction), area-averaged
    label: Tensor  # uint8 (h, w)
    matrix: Tensor  # float32 (2, 3), crop → pixels of `label`
    reduction: int  # 1, 2 or 4
    sigma: float
    size: tuple[int, int]  # (height, width) of the crop
    index: int  # position in the data set, for error messages


@dataclass
class Batch:
    """Samples of one step, padded to common sizes.

    Attributes:
        images: uint8 (B, 3, h, w).
        labels: uint8 (B, H, W).
        extents: float32 (B, 2), width and height of the label without its padding.
        matrices: float32 (B, 2, 3), crop → label pixels.
        reductions: float32 (B,), label pixels per image pixel along one side.
        sigmas: float32 (B,), blur, pixels of the crop.
        size: (height, width) of the crops.
        indices: positions in the data set.
    """

    images: Tensor
    labels: Tensor
    extents: Tensor
    matrices: Tensor
    reductions: Tensor
    sigmas: Tensor
    size: tuple[int, int]
    indices: list[int] = field(default_factory=list)

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on `device`; the copy from pinned memory does not wait."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; called by DataLoader."""
        return self._map(torch.Tensor.pin_memory)

    def _map(self, change) -> "Batch":
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return Batch(**{name: change(value) if isinstance(value, Tensor) else value for name, value in values.items()})


def draw(experiment: Experiment, epoch: int, index: int) -> Draw:
    """Draw the random numbers of one sample; they depend on (seed, epoch, index) and on nothing else."""
    random = np.random.default_rng((experiment.seed, epoch, index))
    scale, angle, top, left, flip, sigma = random.random(6)
    low, high = experiment.scale
    return Draw(
        scale=low + (high - low) * scale,
        angle=experiment.rotate * (2 * angle - 1),
        offset=(top, left),
        flip=bool(flip < experiment.flip),
        sigma=experiment.blur * sigma,
    )


def place_random(draw: Draw, source: tuple[int, int], base_size: int, crop: tuple[int, int]) -> Placement:
    """Compose rescale, rotation, crop and flip of a (height, width) `source` into one map.

    The longer side becomes `base_size · draw.scale`, the picture turns about its centre, and the crop's corner is drawn
    from all whole positions in which crop and picture cover each other as far as they can (a picture smaller than the
    crop lies somewhere inside it).
    """
    height, width = source
    long_side = max(1, round(base_size * draw.scale))
    scaled = [max(1, round(side * long_side / max(source))) for side in source]
    top, left = (_corner(at, s, c) for at, s, c in zip(draw.offset, scaled, crop, strict=True))
    flip = _affine([[-1, 0, crop[1]], [0, 1, 0]]) if draw.flip else np.eye(3)
    shift = _affine([[1, 0, left], [0, 1, top]])
    turn = _rotation(draw.angle, (scaled[1] / 2, scaled[0] / 2))
    rescale = np.diag([width / scaled[1], height / scaled[0], 1])
    return Placement((rescale @ turn @ shift @ flip)[:2], crop, draw.sigma)


def place_resized(source: tuple[int, int], size: tuple[int, int]) -> Placement:
    """Stretch a whole (height, width) `source` to `size`."""
    return Placement(np.array([[source[1] / size[1], 0, 0], [0, source[0] / size[0], 0]]), size)


def place_report(source: tuple[int, int], size: tuple[int, int]) -> Placement:
    """Resize so that `source` just covers `size`, then crop the centre: the `report` validation protocol.

    For a square `size` this is "shorter side to the crop size, then centre crop".
    """
    factor = max(target / side for target, side in zip(size, source, strict=True))
    scaled = [max(target, round(side * factor)) for target, side in zip(size, source, strict=True)]
    top, left = ((s - target) // 2 for s, target in zip(scaled, size, strict=True))
    x_step, y_step = source[1] / scaled[1], source[0] / scaled[0]
    return Placement(np.array([[x_step, 0, left * x_step], [0, y_step, top * y_step]]), size)


def cut(image: Tensor, label: Tensor, placement: Placement, index: int = 0) -> HostSample:
    """Slice the part of image (3, H, W) and label (H, W) that a placement touches.

    Where the crop shrinks its source by 2 or more, the image is area-averaged to a half or a quarter first, so that
    fine texture does not alias.
    """
    reduction = 4 if placement.shrink >= 4 else 2 if placement.shrink >= 2 else 1
    x0, y0, x1, y1 = _touched(placement, label.shape, margin=2 * reduction)
    part = image[:, y0:y1, x0:x1]
    if reduction > 1:  # partial cells at the right and lower border average the pixels that they have
        part = F.avg_pool2d(part.float(), reduction, ceil_mode=True).round_().to(torch.uint8)
    matrix = placement.matrix - np.array([[0, 0, x0], [0, 0, y0]])
    return HostSample(
        part, label[y0:y1, x0:x1], torch.from_numpy(matrix).float(), reduction, placement.sigma, placement.size, index
    )


def collate(samples: list[HostSample]) -> Batch:
    """Pad the parts to one buffer each, right and below, and stack them.

    The image buffer's sides are powers of two: normalised coordinates are then exact, and the identity map returns the
    input bit for bit.
    """
    sides = [_power_of_two(max(s.image.shape[axis] for s in samples)) for axis in (1, 2)]
    images = torch.zeros(len(samples), 3, *sides, dtype=torch.uint8)
    sides = [max(s.label.shape[axis] for s in samples) for axis in (0, 1)]
    labels = torch.zeros(len(samples), *sides, dtype=torch.uint8)
    for at, sample in enumerate(samples):
        images[at, :, : sample.image.shape[1], : sample.image.shape[2]] = sample.image
        labels[at, : sample.label.shape[0], : sample.label.shape[1]] = sample.label
    return Batch(
        images=images,
        labels=labels,
        extents=torch.tensor([s.label.shape[::-1] for s in samples], dtype=torch.float32),
        matrices=torch.stack([s.matrix for s in samples]),
        reductions=torch.tensor([s.reduction for s in samples], dtype=torch.float32),
        sigmas=torch.tensor([s.sigma for s in samples], dtype=torch.float32),
        size=samples[0].size,
        indices=[s.index for s in samples],
    )


def warp(batch: Batch, ignore_index: int = 255) -> tuple[Tensor, Tensor]:
    """Sample the crops on the batch's device.

    Returns images, float32 (B, 3, h, w) with values 0 … 255 (bilinear, then blurred; outside: mean colour), and labels,
    int64 (B, h, w) (nearest; outside: `ignore_index`).
    """
    points = _source_points(batch.matrices, batch.size)
    extents = batch.extents.view(-1, 1, 1, 2)
    inside = ((points >= 0) & (points < extents)).all(-1)  # (B, h, w), the same for image and label
    reductions = batch.reductions.view(-1, 1, 1, 1)
    images = _bilinear(batch.images, points / reductions, (extents / reductions).ceil())
    mean = torch.tensor(MEAN_COLOR, device=images.device, dtype=torch.float32).view(3, 1, 1)
    images = _blur(torch.where(inside[:, None], images, mean), batch.sigmas)
    return images, torch.where(inside, _nearest(batch.labels, points), ignore_index)


def normalize(images: Tensor) -> Tensor:
    """Return images with values 0 … 255 as the networks take them: ImageNet mean 0, standard deviation 1."""
    mean = torch.tensor(MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(STD, device=images.device).view(3, 1, 1)
    return (images.float() / 255 - mean) / std


def _source_points(matrices: Tensor, size: tuple[int, int]) -> Tensor:
    """Map every pixel centre of a (height, width) crop by (B, 2, 3) matrices → (B, height, width, 2), (x, y) order."""
    y = torch.arange(size[0], device=matrices.device, dtype=torch.float32).view(-1, 1, 1) + 0.5
    x = torch.arange(size[1], device=matrices.device, dtype=torch.float32).view(1, -1, 1) + 0.5
    of_x, of_y, constant = matrices[:, None, None].unbind(-1)  # (B, 1, 1, 2) each
    return of_x * x + of_y * y + constant


def _bilinear(images: Tensor, points: Tensor, extents: Tensor) -> Tensor:
    """Sample uint8 (B, 3, H, W) at points (B, h, w, 2) → float32 (B, 3, h, w), edges continued."""
    sides = torch.tensor([images.shape[3], images.shape[2]], device=images.device, dtype=torch.float32)
    points = torch.minimum(points, extents - 0.5).clamp_min(0.5)
    return F.grid_sample(images.float(), 2 * points / sides - 1, mode="bilinear", align_corners=False)


def _nearest(labels: Tensor, points: Tensor) -> Tensor:
    """Sample uint8 (B, H, W) at points (B, h, w, 2) → int64 (B, h, w); outside values are arbitrary."""
    batch, height, width = labels.shape
    column, row = points.long().unbind(-1)
    position = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
    return labels.view(batch, -1).gather(1, position.view(batch, -1)).view(position.shape).long()


def _blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """Blur each image (3, h, w) with its own Gaussian, one axis after the other; sigma 0 changes nothing."""
    batch, channels, height, width = images.shape
    if min(height, width) <= BLUR_RADIUS:  # too small to mirror at the border
        return images
    distance = torch.arange(-BLUR_RADIUS, BLUR_RADIUS + 1, device=images.device, dtype=torch.float32)
    kernels = torch.exp(-0.5 * (distance / sigmas.clamp_min(1e-3).view(-1, 1)) ** 2)
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(channels, 0)  # (B · 3, 7)
    flat = F.pad(images.reshape(1, -1, height, width), (BLUR_RADIUS,) * 4, mode="reflect")
    flat = F.conv2d(flat, kernels[:, None, :, None], groups=batch * channels)
    return F.conv2d(flat, kernels[:, None, None, :], groups=batch * channels).view(images.shape)


def _touched(placement: Placement, source: tuple[int, int], margin: int) -> tuple[int, int, int, int]:
    """Return the source rectangle (x0, y0, x1, y1) that holds all the crop's corners, on whole cells of 4 pixels."""
    height, width = placement.size
    corners = placement.matrix @ np.array([[0, width, 0, width], [0, 0, height, height], [1, 1, 1, 1]])
    low, high = corners.min(1) - margin, corners.max(1) + margin
    x0, y0 = (int(np.clip(math.floor(v), 0, s - 1)) // 4 * 4 for v, s in zip(low, source[::-1], strict=True))
    x1, y1 = (int(np.clip(math.ceil(v), 1, s)) for v, s in zip(high, source[::-1], strict=True))
    return x0, y0, max(x1, x0 + 1), max(y1, y0 + 1)


def _corner(at: float, scaled: int, crop: int) -> int:
    low, high = min(0, scaled - crop), max(0, scaled - crop)
    return low + int(at * (high - low + 1))


def _rotation(degrees: float, center: tuple[float, float]) -> np.ndarray:
    """Turn crop points clockwise about `center`, so that the picture turns counter-clockwise (y points down)."""
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    x, y = center
    return _affine([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y]])


def _affine(rows: list[list[float]]) -> np.ndarray:
    return np.vstack([np.array(rows, dtype=np.float64), [0, 0, 1]])


def _power_of_two(side: int) -> int:
    return 1 << (side - 1).bit_length()
