"""Whole images, sliding windows, scales and mirror images: each against the sum written out by hand."""

import json

import pytest
import torch
import torch.nn.functional as F
from layouts import write_voc

from nnti.augment import normalize
from nnti.errors import SettingError
from nnti.experiment import Experiment
from nnti.inference.evaluate import evaluate
from nnti.inference.image import STRIP, Inference, predict, probabilities, windows
from nnti.loaders import load_split
from nnti.loss import CrossEntropy
from nnti.metrics import METRICS, ConfusionMatrix
from nnti.models import build_model

SIZES = [(1, 1), (1, 37), (33, 65), (50, 20)]


class Pointwise(torch.nn.Module):
    """Looks at one pixel at a time, so that windows and mirrors cannot matter; notes what it was shown."""

    def __init__(self, num_classes: int = 5):
        super().__init__()
        self.conv = torch.nn.Conv2d(3, num_classes, 1)
        self.seen: list[tuple[int, ...]] = []

    def forward(self, images):
        self.seen.append(tuple(images.shape))
        return self.conv(images)


def make_image(height: int, width: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=random)


@pytest.fixture
def pointwise() -> Pointwise:
    torch.manual_seed(0)
    return Pointwise().eval()


@pytest.fixture
def enet() -> torch.nn.Module:
    """ENet, whose answer depends on where in the window a pixel lies."""
    torch.manual_seed(0)
    model = build_model("enet", 5)
    torch.nn.init.normal_(model.head.weight)  # differences between classes that rounding cannot undo
    return model.eval()


def forward(model: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(normalize(image[None]).contiguous(memory_format=torch.channels_last))


# one pass


@pytest.mark.parametrize("size", SIZES)
def test_whole_is_the_plain_forward_pass(enet, size, monkeypatch):
    monkeypatch.setattr("nnti.inference.image.average", None)  # nothing to average: nothing computed but the logits
    image = make_image(*size)
    labels = predict(enet, image, precision="float32")
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), forward(enet, image).argmax(1)[0])


def test_labels_are_those_of_the_largest_score_in_every_strip(pointwise):
    image = make_image(2 * STRIP + 3, 5)
    labels = predict(pointwise, image, precision="float32")
    assert torch.equal(labels.long(), forward(pointwise, image).argmax(1)[0])


def test_probabilities_of_one_pass_are_its_softmax(enet):
    image = make_image(33, 65)
    expected = forward(enet, image).softmax(1)[0]
    assert torch.equal(probabilities(enet, image, precision="float32"), expected)


@pytest.mark.parametrize(
    ("name", "arguments"), [("enet", {}), ("r2unet", {"widths": [8, 16, 16, 16, 16]}), ("pspnet", {})]
)
def test_every_model_takes_every_size(name, arguments):
    model = build_model(name, 4, arguments, pretrained=False)
    inference = Inference(protocol="sliding", crop_size=24, scales=(0.5, 1.3), flip=True)
    for size in ((1, 1), (31, 18)):
        result = probabilities(model, make_image(*size), inference)
        assert (result.shape, result.dtype) == ((4, *size), torch.float32)
        assert result.sum(0) == pytest.approx(torch.ones(size), abs=1e-5)


# windows


@pytest.mark.parametrize("length", [1, 7, 8, 9, 100, 101])
@pytest.mark.parametrize("window", [8, 40, 100])
@pytest.mark.parametrize("overlap", [0, 1 / 3, 0.5, 0.95])
def test_windows_cover_every_pixel_and_overlap_enough(length, window, overlap):
    found = windows(length, window, overlap)
    assert (found[0].start, found[-1].stop) == (0, length)
    assert all(part.stop - part.start == min(window, length) for part in found)
    for part, following in zip(found, found[1:], strict=False):
        assert part.start < following.start
        assert part.stop - following.start >= round(overlap * window) - 1


def test_windows_of_the_published_evaluation():
    assert [part.start for part in windows(100, 40, 1 / 3)] == [0, 27, 54, 60]
    assert [part.start for part in windows(2048, 713, 1 / 3)] == [0, 475, 950, 1335]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("options", [{"crop_size": 16}, {"crop_size": (8, 24), "overlap": 0.8}, {"crop_size": 500}])
def test_sliding_equals_whole_for_a_pointwise_model(pointwise, size, options):
    image = make_image(*size)
    sliding = Inference(protocol="sliding", **options)
    whole = probabilities(pointwise, image, precision="float32")
    assert probabilities(pointwise, image, sliding, "float32") == pytest.approx(whole, abs=1e-6)


@pytest.mark.parametrize("tile_batch", [1, 4, 100])
def test_sliding_is_the_mean_over_the_windows_of_each_pixel(enet, tile_batch):
    image, starts = make_image(40, 60), {"rows": [0, 16], "columns": [0, 16, 32, 36]}
    total, count = torch.zeros(5, 40, 60), torch.zeros(40, 60)
    for top in starts["rows"]:
        for left in starts["columns"]:
            place = (slice(top, top + 24), slice(left, left + 24))
            total[:, *place] += forward(enet, image[:, *place]).softmax(1)[0]
            count[place] += 1
    inference = Inference(protocol="sliding", crop_size=24, tile_batch=tile_batch)
    result = probabilities(enet, image, inference, "float32")
    assert result == pytest.approx(total / count, abs=1e-5)
    assert torch.equal(predict(enet, image, inference, "float32").long(), (total / count).argmax(0))
    whole = probabilities(enet, image, precision="float32")
    assert (result - whole).abs().max() > 1e-3  # windows do matter to this network


@pytest.mark.parametrize("tile_batch", [1, 3])
def test_never_more_than_the_allowed_windows_at_once(pointwise, tile_batch):
    inference = Inference(protocol="sliding", crop_size=16, flip=True, scales=(1.0, 2.0), tile_batch=tile_batch)
    probabilities(pointwise, make_image(50, 70), inference)
    assert max(shape[0] for shape in pointwise.seen) == tile_batch
    assert {shape[1:] for shape in pointwise.seen} == {(3, 16, 16)}
    tiles = sum(len(windows(50 * k, 16, 1 / 3)) * len(windows(70 * k, 16, 1 / 3)) for k in (1, 2))
    assert sum(shape[0] for shape in pointwise.seen) == 2 * tiles  # and each with its mirror image


# scales and mirror images


def test_scales_are_averaged_as_written_out_by_hand(enet):
    image = make_image(33, 65)
    how = {"mode": "bilinear", "align_corners": False, "antialias": True}
    total = torch.zeros(5, 33, 65)
    for height, width in ((16, 32), (33, 65), (50, 98)):  # halves are rounded to even
        scaled = F.interpolate(normalize(image[None]), (height, width), **how)
        with torch.no_grad():
            total += F.interpolate(enet(scaled).softmax(1), (33, 65), **how)[0]
    result = probabilities(enet, image, Inference(scales=(0.5, 1, 1.5)), "float32")
    assert result == pytest.approx(total / 3, abs=1e-5)


def test_no_scale_turns_an_image_into_nothing(pointwise):
    assert predict(pointwise, make_image(1, 3), Inference(scales=(0.1,))).shape == (1, 3)
    assert pointwise.seen == [(1, 3, 1, 1)]


def test_flip_makes_any_model_treat_left_and_right_alike(enet):
    image = make_image(33, 65)

    def unlike(inference):
        mirrored = probabilities(enet, image.flip(-1), inference, "float32").flip(-1)
        return (probabilities(enet, image, inference, "float32") - mirrored).abs().max()

    assert unlike(None) > 1e-3
    assert unlike(Inference(flip=True)) < 1e-5
    assert unlike(Inference(flip=True, scales=(0.5, 1.5))) < 1e-5


def test_flip_changes_nothing_for_a_symmetric_model(pointwise):
    image = make_image(20, 31)
    plain = probabilities(pointwise, image, precision="float32")
    assert probabilities(pointwise, image, Inference(flip=True), "float32") == pytest.approx(plain, abs=1e-6)


# what is left behind, what is refused


def test_every_part_of_the_model_keeps_its_mode(enet):
    enet.train()
    enet.stage1.eval()  # as one freezes a part
    before = [module.training for module in enet.modules()]
    predict(enet, make_image(20, 30), Inference(flip=True))
    with pytest.raises(ValueError, match=r"image \(20, 30\) must be \(3, H, W\)"):
        predict(enet, torch.zeros(20, 30, dtype=torch.uint8))
    assert [module.training for module in enet.modules()] == before


def test_the_image_is_not_changed(pointwise):
    image = make_image(20, 30)
    copy = image.clone()
    predict(pointwise, image, Inference(protocol="sliding", crop_size=8, flip=True, scales=(0.5, 2)))
    assert torch.equal(image, copy)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocol": "full"}, "protocol='full'.*'whole' or 'sliding'"),
        ({"protocol": "sliding"}, "needs a crop_size"),
        ({"crop_size": 64}, "'whole' has none"),
        ({"protocol": "sliding", "crop_size": 7}, "crop_size=7.*at least 8"),
        ({"protocol": "sliding", "crop_size": (64, 64, 64)}, "crop_size=.*height, width"),
        ({"protocol": "sliding", "crop_size": 64.0}, "crop_size=64.0"),
        ({"protocol": "sliding", "crop_size": 64, "overlap": 1}, "overlap=1.*below 1"),
        ({"protocol": "sliding", "crop_size": 64, "overlap": -0.1}, "overlap=-0.1"),
        ({"scales": ()}, r"scales=\(\).*one or more"),
        ({"scales": (1, 0)}, r"scales=\(1, 0\).*above 0"),
        ({"scales": (1, float("nan"))}, "scales="),
        ({"scales": 1.5}, "scales=1.5"),
        ({"flip": "no"}, "flip='no'"),
        ({"tile_batch": 0}, "tile_batch=0"),
    ],
)
def test_bad_settings_are_named(options, message):
    with pytest.raises(SettingError, match=message):
        Inference(**options)


def test_settings_say_what_they_are_and_survive_json():
    sliding = Inference(protocol="sliding", crop_size=[96, 128], scales=[0.75, 1], flip=True)
    assert str(sliding) == "sliding 96 × 128, overlap 0.33, scales 0.75 1, flip"
    assert (str(Inference()), str(Inference(protocol="sliding", crop_size=64))) == (
        "whole",
        "sliding 64 × 64, overlap 0.33",
    )
    for inference in (sliding, Inference(), Inference(scales=(2.0,))):
        assert Inference(**json.loads(json.dumps(inference.to_dict()))) == inference


# evaluation


@pytest.fixture
def split(tmp_path, monkeypatch):
    write_voc(tmp_path)
    monkeypatch.setenv("NNTI_DATA", str(tmp_path))
    experiment = Experiment(precision="float32", val_size=32)
    return experiment, load_split(experiment, "val")


def test_evaluate_averages_and_says_so(split):
    experiment, data = split
    torch.manual_seed(0)
    model = build_model("enet", 21).train()
    torch.nn.init.normal_(model.head.weight)
    inference = Inference(protocol="sliding", crop_size=24, scales=(0.75, 1.0), flip=True)
    weights = torch.arange(1, 22).numpy()
    result = evaluate(model, experiment, data, "full", CrossEntropy(weights), progress=False, inference=inference)

    matrix, total, weight = ConfusionMatrix(21), 0.0, 0.0
    for image, label in data:
        averaged = probabilities(model, image, inference, "float32")
        matrix.update(averaged.argmax(0), label)
        for number in label.unique().tolist():
            if number != 255:  # −log of the true class's averaged probability, pixel by pixel
                total += -weights[number] * averaged[number][label == number].double().log().sum()
                weight += weights[number] * (label == number).sum()
    expected = matrix.compute()
    assert all(result[name] == pytest.approx(expected[name], abs=1e-6) for name in METRICS)
    assert result["loss"] == pytest.approx(float(total / weight), rel=1e-5)
    assert Inference(**result["inference"]) == inference
    assert (result["protocol"], result["images"]) == ("full", 2)
    assert all(module.training for module in model.modules())


def test_evaluate_without_options_is_as_ever(split):
    experiment, data = split
    torch.manual_seed(0)
    model = build_model("enet", 21)
    plain, stated = (evaluate(model, experiment, data, "full", None, False, how) for how in (None, Inference()))
    assert "inference" not in plain
    assert stated.pop("inference") == {"protocol": "whole", "scales": (1.0,), "flip": False}
    assert (plain["loss"], plain["mean_iou"]) == (stated["loss"], stated["mean_iou"])
    assert list(plain) == list(stated)


def test_evaluate_stays_finite_where_a_probability_rounds_to_zero(split):
    experiment, data = split
    model = Pointwise(21)
    torch.nn.init.zeros_(model.conv.weight)
    model.conv.bias.data = torch.arange(21.0) * 100  # class 20 is certain, and wrong
    result = evaluate(model, experiment, data, "full", None, False, Inference(flip=True))
    assert 80 < result["loss"] < 90  # −log of the smallest number


def test_evaluate_averages_at_full_size_only(split):
    experiment, data = split
    with pytest.raises(SettingError, match="protocol='report'.*'full' only"):
        evaluate(Pointwise(21), experiment, data, "report", None, False, Inference(flip=True))
