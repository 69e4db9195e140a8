"""The joint augmentation: exact where it can be, like torchvision where it must be, drawn as the report says."""

import math

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import functional as tv

from nnti import augment
from nnti.augment import (
    MEAN_COLOR,
    Draw,
    collate,
    cut,
    draw,
    normalize,
    place_random,
    place_report,
    place_resized,
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
    images, labels = warp(collate([cut(image, label, placement)]))
    return images[0], labels[0]


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


@pytest.mark.parametrize("shape", [(375, 500), (500, 333), (37, 51), (64, 64), (1, 1)])
@pytest.mark.parametrize("flip", [False, True])
def test_identity_returns_the_input_bit_for_bit(shape, flip):
    image = torch.randint(0, 256, (3, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
    label = image[0] % 21
    images, labels = sample(image, label, place_random(Draw(flip=flip), shape, max(shape), shape))
    expected, expected_label = (image.flip(-1), label.flip(-1)) if flip else (image, label)
    assert torch.equal(images, expected.float())
    assert torch.equal(labels, expected_label.long())


@pytest.mark.parametrize("scale", [0.9, 1.0, 1.37, 2.0])
@pytest.mark.parametrize("angle", [0.0, -10.0, 7.3])
@pytest.mark.parametrize("flip", [False, True])
def test_agrees_with_torchvision_step_by_step(scale, angle, flip):
    image, label = picture(375, 500)
    drawn = Draw(scale=scale, angle=angle, offset=(0.3, 0.6), flip=flip)
    crop = (240, 250)
    images, labels = sample(image, label, place_random(drawn, (375, 500), 500, crop))
    expected, expected_label, interior = torchvision_way(image, label, drawn, 500, crop)
    assert interior.float().mean() > 0.8
    difference = (images - expected).abs().mean(0)[interior]
    assert difference.mean() < 0.5  # of 255 grey values; one resampling is a little sharper than two
    assert difference.quantile(0.99) < 4
    assert (labels == expected_label)[interior].float().mean() > 0.985  # the rest are one-pixel steps on region borders


def test_outside_is_mean_colour_and_void():
    image, label = picture(100, 160)
    drawn = Draw(scale=0.5, angle=8)
    images, labels = sample(image, label, place_random(drawn, (100, 160), 160, (120, 120)))
    outside = labels == 255
    assert 0.6 < outside.float().mean() < 0.9  # 80 × 50 turned pixels lie in 120 × 120
    assert torch.equal(images[:, outside], torch.tensor(MEAN_COLOR).float()[:, None].expand(3, int(outside.sum())))
    assert set(labels.unique().tolist()) <= {*range(9), 255}


def test_void_of_the_label_survives():
    image, label = picture(60, 80)
    label[20:30] = 255
    _, labels = sample(image, label, place_random(Draw(), (60, 80), 80, (60, 80)))
    assert torch.equal(labels == 255, label == 255)


@pytest.mark.parametrize("shrink", [2, 4])
def test_fine_texture_does_not_alias(shrink):
    """Black and white columns of one pixel become grey, not a moiré of black and white."""
    image = (torch.arange(512) % 2 * 255).to(torch.uint8).expand(3, 256, 512).contiguous()
    label = torch.zeros(256, 512, dtype=torch.uint8)
    size = (256 // shrink, 512 // shrink)
    images, _ = sample(image, label, place_resized((256, 512), size))
    assert (images - 127.5).abs().max() <= 0.5
    plain = tv.resize(image.float(), list(size), InterpolationMode.NEAREST)
    assert (plain - 127.5).abs().min() > 127  # what sampling without the average would have seen


def test_reduction_agrees_with_an_area_average():
    image, label = picture(301, 405)
    size = (75, 101)
    images, _ = sample(image, label, place_resized((301, 405), size))
    expected = torch.nn.functional.interpolate(image[None].float(), size=size, mode="area")[0]
    assert (images - expected).abs().mean() < 1.5


@pytest.mark.parametrize("shape", [(375, 500), (500, 375), (90, 60)])
def test_the_shipped_part_suffices(shape):
    image, label = picture(*shape)
    for index in range(20):
        placement = place_random(draw(VOC, 0, index), shape, max(shape), (96, 128))
        host = cut(image, label, placement)
        if host.reduction > 1:
            continue
        matrix = torch.from_numpy(placement.matrix).float()
        whole = warp(collate([host._replace(image=image, label=label, matrix=matrix)]))
        part = warp(collate([host]))
        # float32 coordinates of the part and of the whole differ by rounding alone
        assert (part[0] - whole[0]).abs().mean() < 0.05
        assert (part[1] == whole[1]).float().mean() > 0.999


def test_little_more_than_the_touched_part_is_shipped():
    image, label = picture(1024, 2048)
    host = cut(image, label, place_random(Draw(scale=2.0, offset=(0.5, 0.5)), (1024, 2048), 2048, (64, 64)))
    assert host.label.shape[0] <= 40 and host.label.shape[1] <= 40  # 32 × 32 pixels, a margin, whole cells of 4


def test_a_gpu_s_way_of_a_whole_batch_gives_what_one_at_a_time_gives():
    hosts = []
    for index, shape in enumerate([(375, 500), (500, 333), (37, 51)]):
        image, label = picture(*shape, seed=index)
        hosts.append(cut(image, label, place_random(draw(VOC, 0, index), shape, 400, (96, 128)), index))
    batch = collate(hosts)
    one_by_one, at_once = warp(batch), augment._warp(batch, 255)
    assert torch.allclose(one_by_one[0], at_once[0], atol=2e-2)  # coordinates are rounded as shares of other sides
    assert torch.equal(one_by_one[1], at_once[1])


@pytest.mark.parametrize("shape", [(6, 8), (7, 8), (6, 9), (7, 9), (1, 1), (1, 4)])
def test_halving_averages_the_pixels_of_each_cell(shape):
    image = torch.randint(0, 256, (3, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(2))
    expected = torch.nn.functional.avg_pool2d(image.float()[None], 2, ceil_mode=True)[0]
    assert (augment._halve(image) - expected).abs().max() <= 0.5


def test_a_batch_of_different_images_equals_one_at_a_time():
    pairs = [picture(100, 140, 1), picture(150, 90, 2), picture(300, 400, 3)]
    hosts = [
        cut(image, label, place_random(draw(VOC, 3, index), tuple(label.shape), 200, (96, 96)))
        for index, (image, label) in enumerate(pairs)
    ]
    images, labels = warp(collate(hosts))
    for at, host in enumerate(hosts):
        alone, alone_label = warp(collate([host]))
        assert torch.allclose(images[at], alone[0], atol=2e-2)
        assert torch.equal(labels[at], alone_label[0])


def test_draws_follow_the_report():
    draws = [draw(VOC, epoch, index) for epoch in range(20) for index in range(200)]
    scale, angle, sigma = (np.array([getattr(d, name) for d in draws]) for name in ("scale", "angle", "sigma"))
    for values, low, high in (
        (scale, 0.5, 2.0),
        (angle, -10, 10),
        (sigma, 0, 1),
        (np.array([d.offset[0] for d in draws]), 0, 1),
    ):
        assert low <= values.min() and values.max() <= high
        quartiles = np.quantile((values - low) / (high - low), [0.25, 0.5, 0.75])
        assert np.allclose(quartiles, [0.25, 0.5, 0.75], atol=0.03)  # 4000 draws: standard error 0.008
    assert abs(np.mean([d.flip for d in draws]) - 0.5) < 0.03
    assert abs(np.corrcoef(scale, angle)[0, 1]) < 0.06


def test_draws_depend_on_seed_epoch_and_index_alone():
    assert draw(VOC, 3, 5) == draw(VOC, 3, 5)
    others = [draw(VOC, 3, 6), draw(VOC, 4, 5), draw(VOC.replace(seed=1), 3, 5)]
    assert all(other != draw(VOC, 3, 5) for other in others)


def test_scale_means_the_longer_side():
    for shape in ((375, 500), (500, 375)):
        placement = place_random(Draw(scale=1.5), shape, 400, (64, 64))
        assert placement.shrink == pytest.approx(500 / (1.5 * 400), rel=2e-3)


def test_every_crop_position_is_reached():
    corners = set()
    for top in np.linspace(0, 0.999, 40):
        matrix = place_random(Draw(offset=(top, 0.0)), (10, 12), 12, (8, 12)).matrix
        corners.add(round(matrix[1, 2]))
    assert corners == {0, 1, 2}
    small = {round(place_random(Draw(offset=(top, 0.0)), (6, 12), 12, (8, 12)).matrix[1, 2]) for top in (0, 0.5, 0.99)}
    assert small == {-2, -1, 0}  # a picture lower than the crop lies somewhere inside it


def test_report_protocol_is_shorter_side_then_centre_crop():
    for shape in ((375, 500), (500, 375), (360, 480), (333, 333)):
        image, label = picture(*shape)
        images, labels = sample(image, label, place_report(shape, (240, 240)))
        expected = tv.center_crop(
            tv.resize(image.float(), [240], InterpolationMode.BILINEAR, antialias=False), [240, 240]
        )
        expected_label = tv.center_crop(tv.resize(label[None], [240], InterpolationMode.NEAREST_EXACT), [240, 240])[0]
        assert (images - expected).abs().mean() < 1.0
        assert (labels == expected_label).float().mean() > 0.985
        assert not (labels == 255).any()


def test_blur_is_a_gaussian_of_the_drawn_width():
    image = torch.zeros(3, 41, 41, dtype=torch.uint8)
    image[:, 20, 20] = 255
    label = torch.zeros(41, 41, dtype=torch.uint8)
    for sigma in (0.4, 0.8, 1.0):
        placement = place_random(Draw(sigma=sigma), (41, 41), 41, (41, 41))
        images, _ = sample(image, label, placement)
        expected = tv.gaussian_blur(image.float(), [7, 7], [sigma, sigma])
        assert torch.allclose(images, expected, atol=1e-3)
        assert math.isclose(images[0].sum(), 255, rel_tol=1e-4)


def test_arguments_are_left_alone():
    image, label = picture(60, 80)
    before = image.clone(), label.clone()
    batch = collate([cut(image, label, place_random(draw(VOC, 0, 0), (60, 80), 80, (48, 48)))])
    kept = batch.images.clone(), batch.labels.clone(), batch.matrices.clone()
    warp(batch)
    assert torch.equal(image, before[0]) and torch.equal(label, before[1])
    assert all(torch.equal(a, b) for a, b in zip(kept, (batch.images, batch.labels, batch.matrices), strict=True))


def test_normalize_matches_torchvision():
    image, _ = picture(20, 30)
    expected = tv.normalize(image.float() / 255, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    assert torch.allclose(normalize(image[None])[0], expected, atol=1e-6)
