"""Results as files: what is read, what they are called, and what Cityscapes' own evaluation makes of them."""

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from cityscapesscripts.helpers.labels import labels as LABELS
from layouts import CITYSCAPES, draw_image, save_image, write_cityscapes
from PIL import Image

from nnti.__main__ import main
from nnti.augment import normalize
from nnti.data import Cityscapes, DataError
from nnti.data.miniature.cityscapes import write_miniature_cityscapes
from nnti.errors import SettingError
from nnti.inference.deploy import deploy
from nnti.inference.files import find_images, fitting_scale, predict_files
from nnti.inference.image import Inference, predict
from nnti.metrics import ConfusionMatrix


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


def checkpoint_of(data) -> dict:
    names, palette = list(data.class_names), data.palette.tolist()
    return {"class_names": names, "palette": palette, "experiment": {"precision": "float32"}}


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
def model(city) -> NearestColour:
    return NearestColour(city).eval()


@pytest.fixture
def photos(tmp_path) -> Path:
    for name in ("b.png", "a/z.JPG", "a/x.png", ".hidden.png"):
        save_image(tmp_path / "photos" / name, draw_image("1", (20, 30)))
    (tmp_path / "photos" / "notes.txt").write_text("no picture")
    return tmp_path / "photos"


# Cityscapes' own evaluation


def official_scores(data: Cityscapes, results: Path, monkeypatch) -> dict:
    """Run the authors' evaluation on label ids, finding the results as they do; no settings of theirs are touched."""
    monkeypatch.delenv("CITYSCAPES_EXPORT_DIR", raising=False)
    from cityscapesscripts.evaluation import evalPixelLevelSemanticLabeling as official

    args = copy.copy(official.args)
    args.quiet, args.JSONOutput, args.evalInstLevelScore = True, False, False
    args.predictionPath, args.predictionWalk = str(results), None
    truths = [str(label) for _, label in data.files]
    return official.evaluateImgLists([official.getPrediction(args, truth) for truth in truths], truths, args)


SLIDING = Inference(protocol="sliding", crop_size=16, scales=(0.5, 1.0), flip=True)


def assert_agreement(data: Cityscapes, model, out: Path, monkeypatch, inference: Inference | None) -> np.ndarray:
    """Compare our scores with the official ones of the files that we write; return the official IoU per class."""
    images, checkpoint = [data.root / "leftImg8bit" / "val"], checkpoint_of(data)
    written = list(predict_files(model, checkpoint, images, out, inference, "cityscapes", progress=False))
    assert len(written) == len(data)
    matrix = ConfusionMatrix(data.num_classes)
    for image, label in data:
        matrix.update(predict(model, image, inference, "float32"), label)
    ours, theirs = matrix.compute(), official_scores(data, out, monkeypatch)
    per_class = np.array([theirs["classScores"][name] for name in data.class_names])
    assert ours["iou_per_class"] == pytest.approx(per_class, abs=1e-4, nan_ok=True)
    assert ours["mean_iou"] == pytest.approx(theirs["averageScoreClasses"], abs=1e-4)
    counts = np.array(theirs["confMatrix"], dtype=float)
    counted = [theirs["labels"][name] for name in data.class_names]
    right = counts[counted, counted].sum() / counts[counted].sum()
    assert ours["pixel_accuracy"] == pytest.approx(right, abs=1e-4)
    assert sum((per_class > 0.05) & (per_class < 0.95)) >= 5  # neither guessing nor copying would tell anything
    return per_class


@pytest.mark.parametrize("inference", [None, SLIDING], ids=["whole", "sliding"])
def test_the_official_evaluation_finds_our_files_and_agrees(city, model, tmp_path, monkeypatch, inference):
    per_class = assert_agreement(city, model, tmp_path / "out", monkeypatch, inference)
    assert np.isnan(per_class[city.class_names.index("train")])  # absent on both sides: left out of both means


def test_the_official_evaluation_agrees_on_the_miniature(tmp_path, monkeypatch):
    write_miniature_cityscapes(tmp_path / "data", train=1, val=4)
    data = Cityscapes("val", tmp_path / "data")
    assert_agreement(data, NearestColour(data).eval(), tmp_path / "out", monkeypatch, None)


def test_label_id_files_are_what_the_server_takes(city, model, tmp_path):
    paths = [image for image, _ in city.files]
    written = list(predict_files(model, checkpoint_of(city), paths, tmp_path / "out", None, "cityscapes"))
    assert [path.name for path in written] == [f"{name}_pred_labelIds.png" for name in CITYSCAPES["val"]]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(path.name for path in written)
    road, car = 7, 26
    for path, (image, _) in zip(written, city, strict=True):
        with Image.open(path) as result:
            assert (result.mode, result.size) == ("L", (image.shape[2], image.shape[1]))
            stored = np.array(result)
        labels = predict(model, image, precision="float32").numpy()
        assert np.array_equal(stored == road, labels == 0)
        assert np.array_equal(stored == car, labels == 13)


def test_cityscapes_format_needs_cityscapes_classes(city, model, tmp_path):
    checkpoint = {**checkpoint_of(city), "class_names": ["background", "person"]}
    with pytest.raises(SettingError, match=r"2 classes \(background, person.*not Cityscapes' 19.*format='palette'"):
        list(predict_files(model, checkpoint, [city.files[0][0]], tmp_path / "out", None, "cityscapes"))
    with pytest.raises(SettingError, match="format='png'.*palette, cityscapes"):
        list(predict_files(model, checkpoint, [city.files[0][0]], tmp_path / "out", None, "png"))
    assert not (tmp_path / "out").exists()


def test_what_the_evaluation_could_not_tell_apart_is_refused(city, model, photos, tmp_path):
    def run(*images):
        return list(predict_files(model, checkpoint_of(city), images, tmp_path / "out", None, "cityscapes"))

    first = city.files[0][0]
    with pytest.raises(DataError, match=r"b\.png: .*aachen_000000_000019_leftImg8bit\.png.*format 'palette'"):
        run(first, photos / "b.png")
    twin = save_copy(first, tmp_path / "else" / first.name)
    with pytest.raises(DataError, match=rf"both {CITYSCAPES['val'][0]} "):
        run(first, twin)
    assert not (tmp_path / "out").exists()
    assert run(first) == run(first)  # one's own results are replaced
    list(predict_files(model, checkpoint_of(city), [first], tmp_path / "out"))
    with pytest.raises(DataError, match=r"_leftImg8bit_labels\.png would be taken for a result of .*--output OTHER"):
        run(first)


def save_copy(source: Path, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
    return target


# files and folders


def test_folders_give_every_image_below_them_once_and_in_order(photos):
    names = ["a/x.png", "a/z.JPG", "b.png"]
    assert [path.relative_to(photos).as_posix() for path in find_images([photos])] == names
    assert find_images([photos / "b.png", photos]) == [photos / "b.png", photos / "a/x.png", photos / "a/z.JPG"]


def test_results_below_the_folder_of_images_are_not_read_again(city, model, photos):
    for _ in range(2):
        written = list(predict_files(model, checkpoint_of(city), [photos], photos / "results", progress=False))
        assert len(written) == 6
    with pytest.raises(DataError, match="results would mix with the images"):
        list(predict_files(model, checkpoint_of(city), [photos], photos))
    assert len(list(predict_files(model, checkpoint_of(city), [photos / "a"], photos, progress=False))) == 4


def test_nothing_is_written_before_every_path_is_known_to_be_an_image(city, model, photos, tmp_path):
    (tmp_path / "empty").mkdir()
    for path, message in (
        (photos / "none.png", "no such file"),
        (photos / "notes.txt", "not an image"),
        (tmp_path / "empty", "holds no image"),
    ):
        with pytest.raises(DataError, match=f"{path.name}.*{message}"):
            list(predict_files(model, checkpoint_of(city), [photos / "b.png", path], tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_image_damaged_inside_is_named_and_what_came_before_stays(city, model, photos, tmp_path):
    damaged = photos / "a" / "z.JPG"
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(DataError, match=r"z\.JPG cannot be read.*half copied"):
        list(predict_files(model, checkpoint_of(city), [photos], tmp_path / "out", progress=False))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["x_labels.png", "x_overlay.png"]


@pytest.mark.parametrize(("given", "bars"), [(["b.png"], 0), (["b.png", "a/x.png"], 1)])
def test_a_bar_from_two_images_on(city, model, photos, tmp_path, capsys, given, bars):
    list(predict_files(model, checkpoint_of(city), [photos / name for name in given], tmp_path / "out"))
    assert ("segmenting, whole" in capsys.readouterr().err) == bool(bars)


def test_palette_files_hold_class_numbers(city, model, tmp_path):
    path, _ = city.files[0]
    labels, overlay = (Image.open(file) for file in predict_files(model, checkpoint_of(city), [path], tmp_path / "out"))
    expected = predict(model, city[0][0], precision="float32").numpy()
    assert np.array_equal(np.array(labels), expected)
    assert np.array_equal(np.array(labels.convert("RGB")), city.palette[expected])
    assert overlay.size == labels.size


def test_files_of_a_turned_photo_are_upright(city, model, tmp_path):
    turned = Image.Exif()
    turned[274] = 6
    Image.fromarray(draw_image("1", (20, 30))).save(tmp_path / "x.jpg", exif=turned)
    for path in predict_files(model, checkpoint_of(city), [tmp_path / "x.jpg"], tmp_path / "out"):
        with Image.open(path) as written:
            assert written.size == (20, 30)  # width, height


def test_the_network_is_deployed_once_and_compiled_if_asked(city, model, tmp_path, monkeypatch):
    calls = []

    def noting(model, precision, *, compile):
        calls.append((precision, compile))
        return deploy(model, precision)

    monkeypatch.setattr("nnti.inference.deploy.deploy", noting)
    paths = [image for image, _ in city.files]
    list(predict_files(model, checkpoint_of(city), paths, tmp_path / "out", progress=False, compile=True))
    assert calls == [("float32", True)]


@pytest.mark.parametrize(
    "size, augment, scale",
    [
        ((480, 360), True, None),
        ((960, 720), True, None),
        ((3000, 4000), True, 0.12),
        ((600, 360), False, None),
        ((360, 1000), False, 0.48),
    ],
)
def test_scale_that_fits_a_large_photo(size, augment, scale):
    experiment = {"augment": augment, "base_size": 480, "crop_size": [360, 480], "scale": [0.5, 2.0]}
    assert fitting_scale(size, experiment) == scale


def test_command_advises_on_large_photos_only(tmp_path, capsys):
    for name, size in (("large", (1200, 1600)), ("small", (72, 96))):
        save_image(tmp_path / f"{name}.jpg", draw_image(name + "1", size))
        assert main(["predict", "enet_camvid", str(tmp_path / f"{name}.jpg"), "--output", str(tmp_path / name)]) == 0
        written = sorted(path.name for path in (tmp_path / name).iterdir())
        assert written == [f"{name}_labels.png", f"{name}_overlay.png"]
        assert ("--scales 0.3 " in capsys.readouterr().err) is (name == "large")


def test_command_advises_before_the_work(tmp_path, capsys, monkeypatch):
    save_image(tmp_path / "large.jpg", draw_image("large", (1200, 1600)))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("nnti.inference.files.predict_files", interrupted)
    assert main(["predict", "enet_camvid", str(tmp_path / "large.jpg"), "--output", str(tmp_path / "out")]) == 130
    assert "--scales 0.3 " in capsys.readouterr().err
