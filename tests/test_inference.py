"""Images, files, splits and errors: against sums written out by hand, slow loops and Cityscapes' own evaluation."""

import copy
import json
import math
import shutil

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cityscapesscripts.helpers.labels import labels as LABELS
from layouts import CITYSCAPES, draw_image, save_image, write_camvid, write_cityscapes
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nnti.__main__ import main
from nnti.augment import normalize
from nnti.data import CamVid, Cityscapes, DataError
from nnti.errors import SettingError
from nnti.experiment import Experiment
from nnti.folders import home
from nnti.inference.errors import FARTHEST, LEFT_OUT, NEAR, ErrorCounts, analyze, boundary_mask
from nnti.inference.evaluate import evaluate
from nnti.inference.files import find_images, predict_files
from nnti.inference.image import STRIP, Inference, predict, probabilities, windows
from nnti.loss import CrossEntropy
from nnti.metrics import METRICS, ConfusionMatrix
from nnti.models import build_model
from nnti.models.saved import load_model

VOID = 255


def make_image(height: int, width: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=random)


def make_enet(num_classes: int) -> torch.nn.Module:
    """ENet, whose answer depends on where in the window a pixel lies."""
    torch.manual_seed(0)
    model = build_model("enet", num_classes)
    torch.nn.init.normal_(model.head.weight)  # differences between classes that rounding cannot undo
    return model.eval()


@pytest.fixture
def enet() -> torch.nn.Module:
    return make_enet(5)


def forward(model: torch.nn.Module, image: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return model(normalize(image[None]).contiguous(memory_format=torch.channels_last))


# one image


@pytest.mark.parametrize("size", [(1, 37), (33, 65), (2 * STRIP + 3, 5)])
def test_one_pass_is_the_plain_forward_pass(enet, size):
    image = make_image(*size)
    before, expected = image.clone(), forward(enet, image)
    labels = predict(enet, image, precision="float32")
    assert labels.dtype == torch.uint8 and torch.equal(labels.long(), expected.argmax(1)[0])
    assert torch.equal(probabilities(enet, image, precision="float32"), expected.softmax(1)[0])
    assert torch.equal(image, before)


@pytest.mark.parametrize("length", [1, 8, 101])
@pytest.mark.parametrize(("window", "overlap"), [(8, 0), (40, 0.95)])
def test_windows_cover_every_pixel_and_overlap_enough(length, window, overlap):
    found = windows(length, window, overlap)
    assert (found[0].start, found[-1].stop) == (0, length)
    assert all(part.stop - part.start == min(window, length) for part in found)
    for part, following in zip(found, found[1:], strict=False):
        assert part.start < following.start
        assert part.stop - following.start >= round(overlap * window) - 1
    assert [part.start for part in windows(2048, 713, 1 / 3)] == [0, 475, 950, 1335]  # PSPNet's published evaluation


def test_sliding_is_the_mean_over_the_windows_of_each_pixel(enet):
    image, seen = make_image(40, 60), []
    total, count = torch.zeros(5, 40, 60), torch.zeros(40, 60)
    for top in (0, 16):
        for left in (0, 16, 32, 36):
            place = (slice(top, top + 24), slice(left, left + 24))
            total[:, *place] += forward(enet, image[:, *place]).softmax(1)[0]
            count[place] += 1
    enet.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    inference = Inference(protocol="sliding", crop_size=24, tile_batch=3)
    assert probabilities(enet, image, inference, "float32") == pytest.approx(total / count, abs=1e-5)
    assert seen == [(3, 3, 24, 24)] * 2 + [(2, 3, 24, 24)]
    assert torch.equal(predict(enet, image, inference, "float32").long(), (total / count).argmax(0))


def test_scales_and_mirror_images_are_averaged_as_probabilities(enet):
    image = make_image(33, 65)
    how = {"mode": "bilinear", "align_corners": False, "antialias": True}
    total = torch.zeros(5, 33, 65)
    for height, width in ((16, 32), (33, 65), (50, 98)):  # halves are rounded to even
        scaled = F.interpolate(normalize(image[None]), (height, width), **how)
        with torch.no_grad():
            both = enet(scaled).softmax(1) + enet(scaled.flip(-1)).softmax(1).flip(-1)
        total += F.interpolate(both, (33, 65), **how)[0]
    result = probabilities(enet, image, Inference(scales=(0.5, 1, 1.5), flip=True), "float32")
    assert result == pytest.approx(total / 6, abs=1e-5)
    assert predict(enet, make_image(1, 3), Inference(scales=(0.1,))).shape == (1, 3)  # never scaled to nothing


def test_every_part_of_the_model_keeps_its_mode(enet):
    enet.train()
    enet.stage1.eval()  # as one freezes a part
    before = [module.training for module in enet.modules()]
    predict(enet, make_image(20, 30), Inference(flip=True))
    with pytest.raises(ValueError, match=r"image \(20, 30\) must be \(3, H, W\)"):
        predict(enet, torch.zeros(20, 30, dtype=torch.uint8))
    assert [module.training for module in enet.modules()] == before


# a split


def test_evaluate_averages_and_says_so(tmp_path):
    write_camvid(tmp_path / "camvid")
    data, experiment, model = CamVid("val", tmp_path), Experiment(precision="float32"), make_enet(11).train()
    inference = Inference(protocol="sliding", crop_size=24, scales=(0.75, 1.0), flip=True)
    weights = np.arange(1, 12)
    result = evaluate(model, experiment, data, "full", CrossEntropy(weights), progress=False, inference=inference)
    matrix, total, weight = ConfusionMatrix(11), 0.0, 0.0
    for image, label in data:
        averaged = probabilities(model, image, inference, "float32")
        matrix.update(averaged.argmax(0), label)
        for number in set(label.unique().tolist()) - {VOID}:  # −log of the true class's averaged probability
            total -= weights[number] * float(averaged[number][label == number].double().log().sum())
            weight += weights[number] * int((label == number).sum())
    expected = matrix.compute()
    assert all(result[name] == pytest.approx(expected[name], abs=1e-6) for name in METRICS)
    assert result["loss"] == pytest.approx(total / weight, rel=1e-5)
    assert Inference(**result["inference"]) == inference and result["images"] == len(data)
    assert all(module.training for module in model.modules())
    with pytest.raises(SettingError, match="'full' only"):
        evaluate(model, experiment, data, "report", None, False, inference)
    model.head.weight.data.zero_()
    model.head.bias.data = torch.arange(11.0) * 200  # class 10 is certain, and wrong: its rivals round to 0
    assert math.isfinite(evaluate(model, experiment, data, "full", None, False, inference)["loss"])


# files


class NearestColour(torch.nn.Module):
    """Takes the class whose mean colour is the nearest; its means are those of a data set."""

    def __init__(self, data: Cityscapes):
        super().__init__()
        pixels = [(normalize(image[None])[0].flatten(1), label.flatten()) for image, label in data]
        colours, labels = (torch.cat(parts, -1) for parts in zip(*pixels, strict=True))
        self.conv = torch.nn.Conv2d(3, data.num_classes, 1)
        with torch.no_grad():
            for number in range(data.num_classes):
                mean = colours[:, labels == number].mean(1).nan_to_num(1e3)  # a class that never occurs is far away
                self.conv.weight[number, :, 0, 0], self.conv.bias[number] = 2 * mean, -mean.square().sum()

    def forward(self, images):
        return self.conv(images)


@pytest.fixture
def city(tmp_path) -> Cityscapes:
    """Two small validation images: patches in their classes' own colours, under much noise; no train anywhere."""
    data = Cityscapes("val", write_cityscapes(tmp_path / "data"))
    colours = np.concatenate([data.palette, np.zeros((256 - data.num_classes, 3), np.uint8)])
    for number, (image, label) in enumerate(data.files):
        random = np.random.default_rng(number)
        patches = random.choice([entry.id for entry in LABELS if entry.id >= 0 and entry.name != "train"], (5, 9))
        save_image(label, np.kron(patches, np.ones((13, 13))).astype(np.uint8)[:, : 110 + number])
        painted = colours[data.read_label(label).numpy()]
        save_image(image, (painted + random.normal(0, 40, painted.shape)).clip(0, 255).astype(np.uint8))
    return data


@pytest.fixture
def segment(city, tmp_path):
    """A function that segments files into a folder and returns the paths written."""
    checkpoint = {"class_names": list(city.class_names), "palette": city.palette.tolist()}
    checkpoint["experiment"], model = {"precision": "float32"}, NearestColour(city)

    def run(images, *options, output=tmp_path / "out", **changes):
        return list(predict_files(model, {**checkpoint, **changes}, images, output, *options, progress=False))

    run.model = model
    return run


@pytest.fixture
def photos(tmp_path):
    for name in ("b.png", "a/z.JPG", "a/b.png", ".hidden.png"):
        save_image(tmp_path / "photos" / name, draw_image("1", (20, 30)))
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path / "photos"


SLIDING = Inference(protocol="sliding", crop_size=16, scales=(0.5, 1.0), flip=True)


@pytest.mark.parametrize("inference", [None, SLIDING], ids=["whole", "sliding"])
def test_the_official_evaluation_finds_our_files_and_agrees(city, segment, tmp_path, monkeypatch, inference):
    written = segment([city.root / "leftImg8bit" / "val"], inference, "cityscapes")
    assert [path.name for path in written] == [f"{name}_pred_labelIds.png" for name in CITYSCAPES["val"]]
    assert sorted((tmp_path / "out").iterdir()) == sorted(written)
    matrix = ConfusionMatrix(city.num_classes)
    for path, (image, label) in zip(written, city, strict=True):
        labels = predict(segment.model, image, inference, "float32")
        matrix.update(labels, label)
        stored = Image.open(path)
        assert (stored.mode, stored.size) == ("L", (image.shape[2], image.shape[1]))
        assert np.array_equal(np.array(stored) == 26, labels.numpy() == city.class_names.index("car"))

    monkeypatch.delenv("CITYSCAPES_EXPORT_DIR", raising=False)
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official

    args = copy.copy(official.args)
    args.quiet, args.JSONOutput, args.evalInstLevelScore = True, False, False
    args.predictionPath, args.predictionWalk = str(tmp_path / "out"), None
    truths = [str(label) for _, label in city.files]
    theirs = official.evaluateImgLists([official.getPrediction(args, truth) for truth in truths], truths, args)
    ours, per_class = matrix.compute(), np.array([theirs["classScores"][name] for name in city.class_names])
    assert ours["iou_per_class"] == pytest.approx(per_class, abs=1e-4, nan_ok=True)
    assert ours["mean_iou"] == pytest.approx(theirs["averageScoreClasses"], abs=1e-4)
    assert np.isnan(per_class[city.class_names.index("train")])  # absent on both sides: left out of both means
    assert sum((per_class > 0.05) & (per_class < 0.95)) >= 5  # neither guessing nor copying would tell anything


def test_what_the_evaluation_could_not_tell_apart_is_refused(city, segment, photos, tmp_path):
    first = city.files[0][0]
    twin = tmp_path / first.name
    shutil.copyfile(first, twin)
    for images, match in (([first, photos / "b.png"], r"b\.png: .*'palette'"), ([first, twin], "are both .* name one")):
        with pytest.raises(DataError, match=match):
            segment(images, None, "cityscapes")
    with pytest.raises(SettingError, match=r"2 classes \(background, person.*'palette'"):
        segment([first], None, "cityscapes", class_names=["background", "person"])
    assert not (tmp_path / "out").exists()
    assert segment([first], None, "cityscapes") == segment([first], None, "cityscapes")  # own results are replaced
    segment([first])
    with pytest.raises(DataError, match=r"_leftImg8bit_labels\.png would be taken for a result of .*--output OTHER"):
        segment([first], None, "cityscapes")


def test_palette_files_hold_class_numbers_and_turned_photos_are_upright(city, segment, tmp_path):
    labels, overlay = (Image.open(path) for path in segment([city.files[0][0]]))
    expected = predict(segment.model, city[0][0], precision="float32").numpy()
    assert np.array_equal(np.array(labels), expected)
    assert np.array_equal(np.array(labels.convert("RGB")), city.palette[expected])
    assert overlay.size == labels.size
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(draw_image("1", (20, 30))).save(tmp_path / "x.jpg", exif=turned)
    assert [Image.open(path).size for path in segment([tmp_path / "x.jpg"])] == [(20, 30)] * 2  # width, height


def test_own_masks_have_the_values_and_colours_that_the_runs_own_masks_have(city, segment):
    values = [3 * number + 1 for number in range(city.num_classes)]
    (written,) = segment([city.files[0][0]], None, "own", label_values=values)
    stored, expected = Image.open(written), predict(segment.model, city[0][0], precision="float32").numpy()
    assert written.name == f"{city.files[0][0].stem}.png"
    assert np.array_equal(np.array(stored), np.array(values)[expected])
    assert np.array_equal(np.array(stored.convert("RGB")), city.palette[expected])
    assert segment([city.files[0][0]], None, "own") == [written]  # a result is replaced, but not when it is corrected
    kept = PngInfo()
    kept.add_text("nnti", Image.open(written).text["nnti"])
    corrected = Image.open(written).point(lambda value: value + 1)
    corrected.save(written, pnginfo=kept)
    with pytest.raises(DataError, match="not replaced"):
        segment([city.files[0][0]], None, "own")


def test_a_file_beside_the_image_that_has_a_results_name_is_kept(segment, photos):
    (photos / "b_labels.png").write_text("mine")
    for image, output in ((photos / "b.png", photos), (photos / "a" / "b.png", photos)):
        with pytest.raises(DataError, match="b_labels.png exists"):
            segment([image], output=output)
    assert (photos / "b_labels.png").read_text() == "mine"


def test_folders_give_every_image_once_keep_their_names_and_results_are_not_read_again(segment, photos, tmp_path):
    names = ["a/b.png", "a/z.JPG", "b.png"]
    assert [path.relative_to(photos).as_posix() for path in find_images([photos])] == names
    assert find_images([photos / "b.png", photos]) == [photos / name for name in ("b.png", "a/b.png", "a/z.JPG")]
    for _ in range(2):
        written = segment([photos], output=photos / "results")
        places = [path.relative_to(photos / "results").as_posix() for path in written[::2]]
        assert places == [f"{name}_labels.png" for name in ("a/b", "a/z", "b")] and len(written) == 6
    shutil.copyfile(photos / "b.png", photos / "a" / "b.bmp")
    for given, names in (
        ([photos / "a" / "b.png"], ["b"]),
        ([photos / "b.png", photos / "a" / "b.png"], ["b", "a/b"]),
        ([photos / "a", photos / "b.png"], ["a/b", "a/b_2", "a/z", "b"]),
    ):
        written = [path.relative_to(tmp_path / "out").as_posix() for path in segment(given)]
        assert written[::2] == [f"{name}_labels.png" for name in names]
    with pytest.raises(DataError, match="--output OTHER"):
        segment([photos], output=photos)


def test_nothing_is_written_before_every_path_is_known_to_be_an_image(segment, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    for path in (photos / "none.png", photos / "notes.txt", tmp_path / "empty"):
        with pytest.raises(DataError, match=path.name):
            segment([photos / "b.png", path])
    assert not (tmp_path / "out").exists()
    damaged = photos / "a" / "z.JPG"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"z\.JPG cannot be read.*half copied"):
        segment([photos])
    assert sorted(path.name for path in (tmp_path / "out").rglob("*.png")) == ["b_labels.png", "b_overlay.png"]


def test_command_segments_and_advises_on_large_photos_only(tmp_path, capsys):
    for name, size in (("large", (40, 1600)), ("small", (40, 960))):
        save_image(tmp_path / f"{name}.jpg", draw_image(name + "1", size))
        assert main(["predict", "enet_camvid", str(tmp_path / f"{name}.jpg"), "--output", str(tmp_path / name)]) == 0
        written = sorted(path.name for path in (tmp_path / name).iterdir())
        assert written == [f"{name}_labels.png", f"{name}_overlay.png"]
        assert ("--scales 0.3 " in capsys.readouterr().err) is (name == "large")


# where a network errs


def example(seed: int = 0, shape=(18, 23)):
    """Blocks of classes with void between some, and a prediction that is wrong here and there."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 11, (4, 5)).repeat(6, 0).repeat(6, 1)[: shape[0], : shape[1]].astype(np.uint8)
    label[random.random(shape) < 0.05] = VOID
    prediction = np.where(random.random(shape) < 0.3, random.integers(0, 11, shape), label)
    prediction[prediction == VOID] = 3
    return prediction.astype(np.uint8), label


@pytest.fixture
def errors(tmp_path) -> ErrorCounts:
    write_camvid(tmp_path / "camvid")
    return ErrorCounts(CamVid("val", tmp_path))


def slow_boundary(label: np.ndarray) -> set[tuple[int, int]]:
    found = set()
    for row, column in np.ndindex(label.shape):
        for other in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if 0 <= other[0] < label.shape[0] and 0 <= other[1] < label.shape[1]:
                pair = (label[row, column], label[other])
                if pair[0] != pair[1] and VOID not in pair:
                    found.add((row, column))
    return found


def test_error_counts_are_those_of_a_loop_over_pixels(errors):
    prediction, label = example()
    errors.add("one", prediction, label)
    summary = errors.summary()
    mask = boundary_mask(label, label == VOID)
    assert {tuple(place) for place in np.argwhere(mask).tolist()} == slow_boundary(label)
    places = {"boundary": slow_boundary(label), "void": {tuple(at) for at in np.argwhere(label == VOID).tolist()}}
    beside, distances = np.zeros((2, 2, 2), int), {}
    for kind, targets in places.items():
        distances[kind] = np.array([min(math.dist(at, place) for place in targets) for at in np.ndindex(label.shape)])
        distances[kind] = distances[kind].reshape(label.shape)
        pixels, wrong = np.zeros(FARTHEST + 1, int), np.zeros(FARTHEST + 1, int)
        for at in set(np.ndindex(label.shape)) - places["void"]:
            pixels[int(min(distances[kind][at], FARTHEST))] += 1
            wrong[int(min(distances[kind][at], FARTHEST))] += prediction[at] != label[at]
        assert (summary[kind]["pixels"], summary[kind]["errors"]) == (pixels.tolist(), wrong.tolist())
        for width, measured in zip(LEFT_OUT, summary[kind]["mean_iou_beyond"], strict=True):
            kept, matrix = label.copy(), ConfusionMatrix(11)
            kept[distances[kind] < (width if kind == "boundary" else width + 1)] = VOID
            matrix.update(prediction, kept)
            assert measured == pytest.approx(matrix.compute()["mean_iou"], nan_ok=True)
    for at in set(np.ndindex(label.shape)) - places["void"]:
        near = int(distances["boundary"][at] < NEAR), int(distances["void"][at] <= NEAR)
        beside[near] += [1, prediction[at] != label[at]]
    assert [[row["pixels"], row["errors"]] for row in summary["beside"]] == beside.reshape(4, 2).tolist()


def test_void_and_images_without_boundary_void_or_label(errors):
    errors.add("all void", np.zeros((5, 5), np.uint8), np.full((5, 5), VOID, np.uint8))
    assert errors.summary()["images"] == []
    label = np.full((6, 9), 2, np.uint8)
    label[:, 5:] = 4
    label[2:4, 0:3] = VOID  # nearest to class 2
    prediction = label.copy()
    prediction[2:4, 0:3] = [[2, 2, 7], [2, 7, 7]]
    errors.add("one", prediction, label)
    void = errors.summary()["in_void"]
    assert void["pixels"] == 6 and void["as_nearest_class"] == 3
    assert {number: count for number, count in enumerate(void["predicted"]) if count} == {2: 3, 7: 3}


def test_the_shipped_network_is_analyzed_as_it_is_evaluated(errors):
    model, checkpoint = load_model(home() / "report" / "runs" / "enet_camvid")
    found = analyze(model, checkpoint, errors.dataset, progress=False)
    measured = evaluate(model, Experiment.from_dict(checkpoint["experiment"]), errors.dataset, "full", progress=False)
    assert found["epoch"] == checkpoint["epoch"] and found["mean_iou"] == pytest.approx(measured["mean_iou"])
    assert np.sum(found["matrix"], axis=1).tolist() == measured["pixels_per_class"].tolist()
    assert [image["image"] for image in found["images"]] == ["0016E5_07959"]
    assert json.loads(json.dumps(found)) == found
