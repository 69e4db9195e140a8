"""The joint augmentation: exact where it can be, else like torchvision and SciPy; drawn as the report says."""

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from nnti import augment
from nnti.augment import (
    MEAN_COLOR,
    Draw,
    collate,
    cut,
    draw,
    examples,
    normalize,
    place_random,
    place_report,
    place_resized,
    prepare,
    warp,
)
from nnti.experiment import Experiment

VOC = Experiment.load("enet_voc")


def picture(height: int, width: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth colour picture with sharp-edged regions, and their label."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width] / max(height, width)
    regions = np.zeros((height, width), dtype=np.uint8)
    for value in range(1, 9):
        center_y, center_x, radius = random.random(3) * (height / max(height, width), width / max(height, width), 0.25)
        regions[(y - center_y) ** 2 + (x - center_x) ** 2 < radius**2] = value
    waves = [np.sin(8 * (x * np.cos(a) + y * np.sin(a)) + b) for a, b in random.random((3, 2)) * 6]
    image = 120 + 60 * np.stack(waves) + 6 * regions
    return torch.from_numpy(image.clip(0, 255).astype(np.uint8)), torch.from_numpy(regions)


def sample(image, label, placement):
    images, labels = warp(cut(image, label, placement))
    return images[0], labels[0]


# one map, one resampling


@pytest.mark.parametrize("shape", [(375, 500), (37, 51), (64, 64), (1, 1)])
@pytest.mark.parametrize("flip", [False, True])
def test_identity_returns_the_input_bit_for_bit(shape, flip):
    image = torch.randint(0, 256, (3, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    label = image[0] % 21
    images, labels = sample(image, label, place_random(Draw(flip=flip), shape, max(shape), shape))
    expected, expected_label = (image.flip(-1), label.flip(-1)) if flip else (image, label)
    assert torch.equal(images, expected.float())
    assert torch.equal(labels, expected_label.long())


def torchvision_way(image, label, draw: Draw, base_size, crop):
    """Resize → rotate → crop → flip, one resampling after the other, with torchvision's own functions."""
    height, width = label.shape
    long_side = round(base_size * draw.scale)
    size = [max(1, round(side * long_side / max(height, width))) for side in (height, width)]
    image = tv.resize(image.float(), size, InterpolationMode.BILINEAR, antialias=False)
    label = tv.resize(label[None], size, InterpolationMode.NEAREST_EXACT)
    inside = torch.ones(1, *size)
    image = tv.rotate(image, draw.angle, InterpolationMode.BILINEAR)
    label = tv.rotate(label, draw.angle, InterpolationMode.NEAREST, fill=255)
    inside = tv.rotate(inside, draw.angle, InterpolationMode.BILINEAR)
    corner = [int(at * (side - c + 1)) for at, side, c in zip(draw.offset, size, crop, strict=True)]
    image, label, inside = (tv.crop(t, *corner, *crop) for t in (image, label, inside))
    if draw.flip:
        image, label, inside = (tv.horizontal_flip(t) for t in (image, label, inside))
    return image, label[0].long(), inside[0] > 0.999


@pytest.mark.parametrize(
    ("scale", "angle", "flip"), [(0.9, -10.0, False), (1.0, 0.0, True), (1.37, 7.3, False), (2.0, -10.0, True)]
)
def test_agrees_with_torchvision_step_by_step(scale, angle, flip):
    image, label = picture(375, 500)
    drawn, crop = Draw(scale=scale, angle=angle, offset=(0.3, 0.6), flip=flip), (240, 250)
    images, labels = sample(image, label, place_random(drawn, (375, 500), 500, crop))
    expected, expected_label, interior = torchvision_way(image, label, drawn, 500, crop)
    assert interior.float().mean() > 0.8
    difference = (images - expected).abs().mean(0)[interior]
    assert difference.mean() < 0.5  # of 255 grey values; one resampling is a little sharper than two
    assert difference.quantile(0.99) < 4
    assert (labels == expected_label)[interior].float().mean() > 0.985  # the rest are one-pixel steps on region borders


@pytest.mark.parametrize("shape", [(375, 500), (90, 60)])
def test_the_warp_samples_the_whole_image_where_scipy_does(shape):
    image, label = picture(*shape)
    for index in range(8):
        placement = place_random(replace(draw(VOC, 0, index), sigma=0), shape, max(shape), (60, 80))
        if placement.shrink >= 2:
            continue
        images, labels = sample(image, label, placement)
        y, x = np.mgrid[:60, :80] + 0.5
        source_x, source_y = (a * x + b * y + c for a, b, c in placement.matrix)
        inside = (source_x >= 0) & (source_x < shape[1]) & (source_y >= 0) & (source_y < shape[0])
        at = [source_y - 0.5, source_x - 0.5]
        for ours, channel, color in zip(images.numpy(), image.numpy().astype(float), MEAN_COLOR, strict=True):
            expected = np.where(inside, map_coordinates(channel, at, order=1, mode="nearest"), color)
            assert np.abs(ours - expected).max() < 0.05
        expected = np.where(inside, map_coordinates(label.numpy(), at, order=0, mode="nearest"), 255)
        assert (labels.numpy() == expected).mean() > 0.999  # points half way between two pixels


def test_outside_is_mean_colour_and_void_and_void_of_the_label_survives():
    image, label = picture(100, 160)
    label[20:30] = 255
    images, labels = sample(image, label, place_random(Draw(scale=0.5, angle=8), (100, 160), 160, (120, 120)))
    outside = (images == torch.tensor(MEAN_COLOR).float().view(3, 1, 1)).all(0)
    assert 0.6 < outside.float().mean() < 0.9  # 80 × 50 turned pixels lie in 120 × 120
    assert (labels[outside] == 255).all()
    assert 0.05 < (labels[~outside] == 255).float().mean() < 0.15  # the ten rows
    assert set(labels.unique().tolist()) <= {*range(9), 255}


@pytest.mark.parametrize("shrink", [2, 4])
def test_fine_texture_does_not_alias(shrink):
    """Black and white columns of one pixel become grey, not a moiré of black and white."""
    image = (torch.arange(512) % 2 * 255).to(torch.uint8).expand(3, 256, 512).contiguous()
    size = (256 // shrink, 512 // shrink)
    images, _ = sample(image, image[0], place_resized((256, 512), size))
    assert (images - 127.5).abs().max() <= 0.5


@pytest.mark.parametrize("shape", [(302, 404), (301, 405), (7, 9)])
def test_a_reduced_image_is_an_area_average(shape):
    image, label = picture(*shape)
    size = [-(-side // 2) for side in shape]
    two_to_one = place_resized((2 * size[0], 2 * size[1]), tuple(size))  # also at an odd border
    expected = F.avg_pool2d(image.float()[None], 2, ceil_mode=True)
    assert (cut(image, label, two_to_one).images - expected).abs().max() <= 0.5


def test_little_more_than_the_touched_part_is_shipped():
    image, label = picture(1024, 2048)
    part = cut(image, label, place_random(Draw(scale=2.0, offset=(0.5, 0.5)), (1024, 2048), 2048, (64, 64)))
    assert max(part.labels.shape[1:]) <= 40  # 32 × 32 pixels, a margin, whole cells of 4


# batches


def test_a_batch_equals_its_images_one_by_one():
    shapes = [(100, 140), (150, 90), (300, 400), (37, 51)]
    parts = [
        cut(*picture(*shape, seed=index), place_random(draw(VOC, 3, index), shape, 200, (96, 96)), index)
        for index, shape in enumerate(shapes)
    ]
    batch = collate(parts)
    assert batch.indices == [0, 1, 2, 3]
    images, labels = warp(batch)
    for at, part in enumerate(parts):
        alone, alone_label = warp(part)
        assert torch.equal(images[at], alone[0])
        assert torch.equal(labels[at], alone_label[0])
    at_once, labels_at_once = augment._warp(batch)  # as a GPU does it; it divides coordinates by other sides
    assert torch.allclose(images, at_once, atol=2e-2)
    assert torch.equal(labels, labels_at_once)


def test_prepared_batches_are_normalised_crops_in_the_memory_format_that_is_set():
    batch = cut(*picture(60, 80), place_random(draw(VOC, 0, 0), (60, 80), 80, (48, 40)))
    before = [tensor.clone() for tensor in (batch.images, batch.labels, batch.matrices)]
    crops, expected_labels = warp(batch)
    images, labels = prepare(batch, VOC.replace(channels_last=True), torch.device("cpu"))
    expected = tv.normalize(crops / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert torch.allclose(images, expected, atol=1e-6) and torch.equal(labels, expected_labels)
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert all(torch.equal(*pair) for pair in zip(before, (batch.images, batch.labels, batch.matrices), strict=True))
    assert torch.equal(normalize(crops), images)


# draws and placements


def test_draws_follow_the_report():
    draws = [draw(VOC, epoch, index) for epoch in range(20) for index in range(200)]
    for name, low, high in (("scale", 0.5, 2.0), ("angle", -10, 10), ("sigma", 0, 1)):
        values = np.array([getattr(drawn, name) for drawn in draws])
        assert low <= values.min() and values.max() <= high
        quartiles = np.quantile((values - low) / (high - low), [0.25, 0.5, 0.75])
        assert np.allclose(quartiles, [0.25, 0.5, 0.75], atol=0.03)  # 4000 draws: standard error 0.008
    assert abs(np.mean([drawn.flip for drawn in draws]) - 0.5) < 0.03
    assert abs(np.corrcoef([drawn.scale for drawn in draws], [drawn.angle for drawn in draws])[0, 1]) < 0.06


def test_draws_depend_on_seed_epoch_and_index_alone():
    assert draw(VOC, 3, 5) == draw(VOC, 3, 5)
    others = [draw(VOC, 3, 6), draw(VOC, 4, 5), draw(VOC.replace(seed=1), 3, 5)]
    assert all(other != draw(VOC, 3, 5) for other in others)


def test_examples_are_what_training_would_draw():
    image, label = picture(120, 90)
    small = VOC.replace(base_size=100, crop_size=64)
    for epoch, (crop, crop_label) in zip((2, 5), examples(image, label, small, (2, 5)), strict=True):
        expected = sample(image, label, place_random(draw(small, epoch, 0), (120, 90), 100, (64, 64)))
        assert torch.equal(crop, expected[0]) and torch.equal(crop_label, expected[1])


def test_scale_means_the_longer_side_and_every_corner_is_reached():
    for shape in ((375, 500), (500, 375)):
        assert place_random(Draw(scale=1.5), shape, 400, (64, 64)).shrink == pytest.approx(500 / 600, rel=2e-3)

    def tops(height: int) -> set[int]:
        draws = [Draw(offset=(top, 0.0)) for top in np.linspace(0, 0.999, 40)]
        return {round(place_random(drawn, (height, 12), 12, (8, 12)).matrix[1, 2]) for drawn in draws}

    assert tops(10) == {0, 1, 2}
    assert tops(6) == {-2, -1, 0}  # a picture lower than the crop lies somewhere inside it


@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (333, 333)])
def test_report_protocol_is_shorter_side_then_centre_crop(shape):
    image, label = picture(*shape)
    images, labels = sample(image, label, place_report(shape, (240, 240)))
    expected = tv.resize(image.float(), [240], InterpolationMode.BILINEAR, antialias=False)
    expected_label = tv.center_crop(tv.resize(label[None], [240], InterpolationMode.NEAREST_EXACT), [240, 240])[0]
    assert (images - tv.center_crop(expected, [240, 240])).abs().mean() < 1.0
    assert (labels == expected_label).float().mean() > 0.985
    assert not (labels == 255).any()


@pytest.mark.parametrize("sigma", [0.4, 1.0])
def test_blur_is_a_gaussian_of_the_drawn_width(sigma):
    image = torch.zeros(3, 41, 41, dtype=torch.uint8)
    image[:, 20, 20] = 255
    images, _ = sample(image, image[0], place_random(Draw(sigma=sigma), (41, 41), 41, (41, 41)))
    assert torch.allclose(images, tv.gaussian_blur(image.float(), [7, 7], [sigma, sigma]), atol=1e-3)
