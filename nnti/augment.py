"""Augmentation: rescale, rotate, crop and flip image and label by ONE affine map, resampling once.

The host draws the numbers and cuts out the part of the image that the crop can touch (`draw`, `place_random`, `cut`);
the device samples the crops of a whole batch (`warp`). Coordinates are continuous: the pixel in column i covers
[i, i + 1), and its centre lies at i + 0.5.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nnti.data.base import IGNORE_INDEX
from nnti.experiment import Experiment, crop_shape

# ImageNet statistics, as the pretrained backbones expect them; the mean colour also fills pixels outside the image
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


@dataclass
class Batch:
    """Samples from the host: the parts of image and label that the crops touch, and the maps into them.

    Attributes:
        images: uint8 (B, 3, H / reduction, W / reduction).
        labels: uint8 (B, H, W).
        extents: float32 (B, 2), width and height of the label without its padding.
        matrices: float32 (B, 2, 3), crop → label pixels.
        reductions: float32 (B,), label pixels per image pixel along one side: 1, 2 or 4.
        sigmas: float32 (B,), blur, pixels of the crop.
        size: (height, width) of the crops.
        indices: positions in the data set, for error messages.
    """

    images: Tensor
    labels: Tensor
    extents: Tensor
    matrices: Tensor
    reductions: Tensor
    sigmas: Tensor
    size: tuple[int, int]
    indices: list[int]

    def to(self, device: torch.device) -> "Batch":
        """Return the batch on `device`; copying from pinned memory does not block."""
        return self._map(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> "Batch":
        """Return the batch in page-locked memory; DataLoader calls this."""
        return self._map(Tensor.pin_memory)

    def sample(self, at: int) -> "Batch":
        """Return one sample as a batch, without the padding of its image; the batch must be on the CPU."""
        part = self._map(lambda tensor: tensor[at : at + 1])
        width, height = (part.extents[0] / part.reductions).ceil().int().tolist()
        return replace(part, images=part.images[:, :, :height, :width], indices=self.indices[at : at + 1])

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Batch":
        tensors = {f.name: getattr(self, f.name) for f in fields(self) if f.type is Tensor}
        return replace(self, **{name: change(tensor) for name, tensor in tensors.items()})


def draw(experiment: Experiment, epoch: int, index: int) -> Draw:
    """Draw the random numbers of one sample; they depend on (seed, epoch, index) alone."""
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
    from all whole positions with the largest overlap of crop and picture (a smaller picture lies somewhere inside).
    """
    long_side = max(1, round(base_size * draw.scale))
    height, width = (max(1, round(side * long_side / max(source))) for side in source)  # after scaling
    top, left = (_corner(at, s, c) for at, s, c in zip(draw.offset, (height, width), crop, strict=True))
    cos, sin = math.cos(math.radians(draw.angle)), math.sin(math.radians(draw.angle))
    x, y = width / 2, height / 2
    rescale = np.diag([source[1] / width, source[0] / height, 1])
    # crop points turn clockwise, so the picture turns counter-clockwise (y points down)
    turn = np.array([[cos, -sin, x - cos * x + sin * y], [sin, cos, y - sin * x - cos * y], [0, 0, 1]])
    shift = np.array([[1.0, 0, left], [0, 1, top], [0, 0, 1]])
    flip = np.array([[-1.0, 0, crop[1]], [0, 1, 0], [0, 0, 1]]) if draw.flip else np.eye(3)
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


def cut(image: Tensor, label: Tensor, placement: Placement, index: int = 0) -> Batch:
    """Cut out the part of an image (3, H, W) and its label (H, W) that a placement touches: a batch of one sample.

    Where the crop shrinks its source by 2 or more, the image is averaged to a half or a quarter of its size first, so
    that fine texture does not alias.
    """
    halvings = 2 if placement.shrink >= 4 else 1 if placement.shrink >= 2 else 0
    reduction = 2**halvings
    x0, y0, x1, y1 = _touched(placement, label.shape, margin=2 * reduction)
    part = image[:, y0:y1, x0:x1]
    for _ in range(halvings):
        part = _halve(part)
    matrix = placement.matrix - np.array([[0, 0, x0], [0, 0, y0]])
    numbers = ([[x1 - x0, y1 - y0]], matrix[None], [reduction], [placement.sigma])
    tensors = (torch.tensor(values, dtype=torch.float32) for values in numbers)
    return Batch(part[None], label[None, y0:y1, x0:x1], *tensors, placement.size, [index])


def collate(samples: list[Batch]) -> Batch:
    """Join samples to one batch; images and labels are padded on the right and below."""
    names = ("extents", "matrices", "reductions", "sigmas")
    tensors = (torch.cat([getattr(sample, name) for sample in samples]) for name in names)
    images, labels = (_stack([getattr(sample, name) for sample in samples]) for name in ("images", "labels"))
    return Batch(images, labels, *tensors, samples[0].size, [index for sample in samples for index in sample.indices])


def warp(batch: Batch) -> tuple[Tensor, Tensor]:
    """Sample the crops on the batch's device.

    Returns images, float32 (B, 3, h, w) with values 0 … 255 (bilinear, then blurred; outside: mean colour), and labels,
    int64 (B, h, w) (nearest; outside: void).
    """
    if batch.images.device.type != "cpu":
        return _warp(batch)
    crops = [_warp(batch.sample(at)) for at in range(len(batch.images))]  # one image fits the caches
    images, labels = zip(*crops, strict=True)
    return torch.cat(images), torch.cat(labels)


def normalize(images: Tensor) -> Tensor:
    """Return images (…, 3, H, W) of values 0 … 255 as the networks take them: ImageNet's mean 0, deviation 1."""
    mean, std = (torch.tensor(values, device=images.device).view(3, 1, 1) for values in (MEAN, STD))
    return torch.addcmul(-mean / std, images.float(), 1 / (255 * std))


def prepare(batch: Batch, experiment: Experiment, device: torch.device) -> tuple[Tensor, Tensor]:
    """Move a batch to the device and sample its crops: normalised images (B, 3, h, w) and labels (B, h, w)."""
    images, labels = warp(batch.to(device))
    return normalize(images).contiguous(memory_format=memory_format(experiment)), labels


def memory_format(experiment: Experiment) -> torch.memory_format:
    """Return the memory format for the setting `channels_last`."""
    return torch.channels_last if experiment.channels_last else torch.contiguous_format


def examples(
    image: Tensor, label: Tensor, experiment: Experiment, epochs: Iterable[int] = range(6)
) -> list[tuple[Tensor, Tensor]]:
    """Return the training crops of one image (3, H, W) and its label (H, W) in some epochs, for a figure.

    Each is a pair of a crop, float32 (3, h, w) with values 0 … 255, and its label, int64 (h, w).
    """
    crops = []
    for epoch in epochs:
        drawn = draw(experiment, epoch, index=0)
        placement = place_random(drawn, label.shape, experiment.base_size, crop_shape(experiment.crop_size))
        images, labels = warp(cut(image, label, placement))
        crops.append((images[0], labels[0]))
    return crops


def _warp(batch: Batch) -> tuple[Tensor, Tensor]:
    x, y = _source_points(batch.matrices, batch.size)
    width, height = batch.extents.view(-1, 2, 1, 1).unbind(1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)  # (B, h, w), the same for image and label
    labels = torch.where(inside, _nearest(batch.labels, x, y).long(), IGNORE_INDEX)
    factor = 1 / batch.reductions.view(-1, 1, 1)
    images = _bilinear(batch.images, x * factor, y * factor, (width * factor).ceil(), (height * factor).ceil())
    mean = torch.tensor(MEAN_COLOR, device=images.device, dtype=torch.float32).view(3, 1, 1)
    return _blur(torch.where(inside[:, None], images, mean), batch.sigmas), labels


def _source_points(matrices: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Map every pixel centre of a (height, width) crop by (B, 2, 3) matrices → x and y, (B, height, width) each."""
    rows, columns = (torch.arange(side, device=matrices.device, dtype=torch.float32) + 0.5 for side in size)
    of_x, of_y, constant = matrices[..., None, None].unbind(2)  # (B, 2, 1, 1) each
    return (of_x * columns + (of_y * rows[:, None] + constant)).unbind(1)


def _bilinear(images: Tensor, x: Tensor, y: Tensor, width: Tensor, height: Tensor) -> Tensor:
    """Sample uint8 (B, 3, H, W) at x and y (B, h, w) → float32 (B, 3, h, w), edges continued.

    grid_sample takes coordinates as fractions of the sides. These are exact where the sides are powers of two, so the
    identity map returns the input bit for bit. Only the first row and column of the padding are ever read.
    """
    batch, channels, rows, columns = images.shape
    sides = [1 << (side - 1).bit_length() for side in (rows, columns)]  # the next power of two
    padded = torch.empty(batch, channels, *sides, device=images.device)
    padded[:, :, :rows, :columns] = images
    padded[:, :, rows : rows + 1] = 0
    padded[:, :, :, columns : columns + 1] = 0
    x = torch.minimum(x.clamp_min(0.5), width - 0.5) * (2 / sides[1]) - 1
    y = torch.minimum(y.clamp_min(0.5), height - 0.5) * (2 / sides[0]) - 1
    return F.grid_sample(padded, torch.stack([x, y], dim=-1), mode="bilinear", align_corners=False)


def _nearest(labels: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """Sample uint8 (B, H, W) at x and y (B, h, w) → uint8 (B, h, w); outside values are arbitrary."""
    batch, height, width = labels.shape
    first = torch.arange(batch, device=labels.device, dtype=torch.int32).view(-1, 1, 1) * (height * width)
    position = y.clamp(0, height - 1).int() * width + x.clamp(0, width - 1).int() + first
    return labels.reshape(-1).index_select(0, position.view(-1)).view(position.shape)


def _blur(images: Tensor, sigmas: Tensor) -> Tensor:
    """Blur each image (3, h, w) with its own Gaussian, one axis after the other; sigma 0 changes nothing.

    It sums shifted images with weights, which on a CPU is faster than a grouped convolution.
    """
    if min(images.shape[-2:]) <= BLUR_RADIUS:  # too small to mirror at the border
        return images
    if images.device.type == "cpu" and not sigmas.any():  # validation; on a GPU this check would make the host wait
        return images
    distance = torch.arange(BLUR_RADIUS + 1, device=images.device, dtype=torch.float32)
    taps = torch.exp(-0.5 * (distance / sigmas.clamp_min(1e-3).view(-1, 1)) ** 2)
    taps = (taps / (2 * taps.sum(1, keepdim=True) - taps[:, :1]))[..., None, None, None].unbind(1)  # (B, 1, 1, 1) each
    for axis, border in ((-2, (0, 0, BLUR_RADIUS, BLUR_RADIUS)), (-1, (BLUR_RADIUS, BLUR_RADIUS, 0, 0))):
        length, padded = images.shape[axis], F.pad(images, border, mode="reflect")
        images = images * taps[0]
        for step in range(1, BLUR_RADIUS + 1):
            before, after = (padded.narrow(axis, BLUR_RADIUS + shift, length) for shift in (-step, step))
            images.addcmul_(before + after, taps[step])
    return images


def _halve(image: Tensor) -> Tensor:
    """Average uint8 (3, H, W) over cells of 2 × 2 pixels → uint8 (3, ⌈H/2⌉, ⌈W/2⌉).

    Two neighbours in a row are read as one 16-bit number, whose bytes are then added: faster than pooling in
    float32.
    """
    _, height, width = image.shape
    pixels = np.pad(image.numpy(), ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
    pairs = pixels.view(np.uint16)
    sums = (pairs & 255) + (pairs >> 8)
    return torch.from_numpy(((sums[:, ::2] + sums[:, 1::2] + 2) >> 2).astype(np.uint8))


def _stack(parts: list[Tensor]) -> Tensor:
    """Copy uint8 tensors (1, …, h, w) into one (B, …, H, W) of the largest sides; padding is 0."""
    sides = [max(part.shape[axis] for part in parts) for axis in (-2, -1)]
    stacked = torch.zeros(len(parts), *parts[0].shape[1:-2], *sides, dtype=torch.uint8)
    for row, part in zip(stacked, parts, strict=True):
        row[..., : part.shape[-2], : part.shape[-1]] = part[0]
    return stacked


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
