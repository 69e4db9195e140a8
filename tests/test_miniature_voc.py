"""The miniature VOC: its files are what VOC's are, every class occurs, and rendering is deterministic and safe."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nnti.data.miniature.scene import render_scene
from nnti.data.miniature.voc import plan_miniature, write_miniature_voc
from nnti.errors import DataError

TRAIN, VAL = 24, 6
KNOWN_COLOURS = {0: (0, 0, 0), 1: (128, 0, 0), 15: (192, 128, 128), 20: (0, 64, 128), 255: (224, 224, 192)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_miniature_voc(tmp_path_factory.mktemp("root"), train=TRAIN, val=VAL)


def names_of(folder: Path, split: str) -> list[str]:
    return (folder / "ImageSets" / "Segmentation" / f"{split}.txt").read_text().splitlines()


def label_of(folder: Path, name: str) -> np.ndarray:
    return np.asarray(Image.open(folder / "SegmentationClass" / f"{name}.png"))


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_layout(folder):
    assert folder.parts[-2:] == ("VOCdevkit", "VOC2012")
    train, val, both = (names_of(folder, split) for split in ("train", "val", "trainval"))
    assert (len(train), len(val)) == (TRAIN, VAL)
    assert not set(train) & set(val)
    assert both == sorted(train + val)
    for part, ending in (("JPEGImages", ".jpg"), ("SegmentationClass", ".png")):
        assert sorted(path.name for path in (folder / part).iterdir()) == [name + ending for name in both]
    facts = json.loads((folder / "miniature.json").read_text())
    assert (facts["seed"], facts["train"], facts["val"]) == (0, TRAIN, VAL)


def test_images_and_labels_have_the_modes_and_sizes_of_voc(folder):
    sizes = set()
    for name in names_of(folder, "trainval"):
        image = Image.open(folder / "JPEGImages" / f"{name}.jpg")
        label = Image.open(folder / "SegmentationClass" / f"{name}.png")
        assert (image.format, image.mode, label.format, label.mode) == ("JPEG", "RGB", "PNG", "P")
        assert image.size == label.size
        assert max(image.size) == 200 and 130 <= min(image.size) <= 170
        sizes.add(image.size)
    assert any(width > height for width, height in sizes) and any(width < height for width, height in sizes)


def test_palette_is_that_of_voc(folder):
    palette = Image.open(folder / "SegmentationClass" / f"{names_of(folder, 'val')[0]}.png").getpalette()
    colours = [tuple(palette[3 * index : 3 * index + 3]) for index in range(256)]
    for index, colour in enumerate(colours):
        bits = [int(bit) for bit in f"{index:08b}"[::-1]]  # bit 0 first
        channels = tuple(sum(bits[3 * k + c] << (7 - k) for k in range(3) if 3 * k + c < 8) for c in range(3))
        assert colour == channels
    assert {index: colours[index] for index in KNOWN_COLOURS} == KNOWN_COLOURS


def test_labels_hold_classes_and_void_only(folder):
    for name in names_of(folder, "trainval"):
        assert set(np.unique(label_of(folder, name)).tolist()) <= {*range(21), 255}


def test_void_separates_objects_from_everything_else(folder):
    for name in names_of(folder, "trainval"):
        label = label_of(folder, name)
        assert (label == 255).any()
        for here, there in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
            touching = (here != there) & (here != 255) & (there != 255)
            assert not touching.any(), f"{name}: two labels touch without void between them"


def test_most_pixels_are_background(folder):
    counts = sum(np.bincount(label_of(folder, name).ravel(), minlength=256) for name in names_of(folder, "trainval"))
    assert 0.5 < counts[0] / counts.sum() < 0.8
    assert 0.02 < counts[255] / counts.sum() < 0.12


def test_every_image_shows_the_class_it_was_planned_for(folder):
    for split, members in plan_miniature(TRAIN, VAL, seed=0).items():
        assert [name for name, _ in members] == names_of(folder, split)
        for name, number in members:
            assert (label_of(folder, name) == number).sum() > 100


def test_default_plan_covers_every_class():
    plan = plan_miniature(train=240, val=60, seed=0)
    for split, least in (("train", 12), ("val", 3)):
        planned = [number for _, number in plan[split]]
        assert {number: planned.count(number) for number in range(1, 21)} == dict.fromkeys(range(1, 21), least)


@pytest.mark.parametrize("number", range(1, 21))
def test_each_class_can_be_drawn(number):
    image, label = render_scene(number, "test")
    assert image.size == label.shape[::-1]
    assert (label == number).mean() > 0.01
    assert np.asarray(image).std() > 10  # a picture, not a blank


def test_same_arguments_give_the_same_bytes(folder, tmp_path):
    assert digest(write_miniature_voc(tmp_path, train=TRAIN, val=VAL)) == digest(folder)


def test_kept_if_arguments_match_and_rendered_anew_if_not(tmp_path):
    folder = write_miniature_voc(tmp_path, train=2, val=1)
    before = digest(folder)
    image = next((folder / "JPEGImages").iterdir())
    stamp = image.stat().st_mtime_ns
    assert write_miniature_voc(tmp_path, train=2, val=1) == folder
    assert image.stat().st_mtime_ns == stamp
    write_miniature_voc(tmp_path, train=2, val=1, seed=7)
    assert digest(folder) != before
    write_miniature_voc(tmp_path, train=2, val=1)
    assert digest(folder) == before
    assert [path.name for path in folder.parent.iterdir()] == ["VOC2012"]  # no drafts left


def test_killed_rendering_leaves_nothing_that_looks_complete(tmp_path, monkeypatch):
    def killed(number, seed):
        raise KeyboardInterrupt

    monkeypatch.setattr("nnti.data.miniature.scene.render_scene", killed)
    with pytest.raises(KeyboardInterrupt):
        write_miniature_voc(tmp_path, train=1, val=1)
    monkeypatch.undo()
    assert not (tmp_path / "VOCdevkit" / "VOC2012").exists()
    assert (write_miniature_voc(tmp_path, train=1, val=1) / "miniature.json").exists()


def test_what_another_process_rendered_first_is_kept(tmp_path, monkeypatch):
    arguments = {"train": 1, "val": 1}

    def overtaken(number, seed):
        monkeypatch.undo()
        write_miniature_voc(tmp_path, **arguments)
        (tmp_path / "VOCdevkit" / "VOC2012" / "mark").touch()
        return render_scene(number, seed)

    monkeypatch.setattr("nnti.data.miniature.scene.render_scene", overtaken)
    folder = write_miniature_voc(tmp_path, **arguments)
    assert (folder / "mark").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["VOC2012"]


def test_real_data_is_never_replaced(tmp_path):
    folder = tmp_path / "VOCdevkit" / "VOC2012" / "JPEGImages"
    folder.mkdir(parents=True)
    (folder / "2007_000032.jpg").touch()
    with pytest.raises(DataError, match="real data set"):
        write_miniature_voc(tmp_path, train=1, val=1)
    assert (folder / "2007_000032.jpg").exists()


def test_empty_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        write_miniature_voc(tmp_path, train=4, val=0)


def test_torchvision_reads_it(folder):
    datasets = pytest.importorskip("torchvision.datasets")
    data = datasets.VOCSegmentation(folder.parents[1], year="2012", image_set="train", download=False)
    assert len(data) == TRAIN
    image, label = data[0]
    assert (image.mode, label.mode) == ("RGB", "P") and image.size == label.size
