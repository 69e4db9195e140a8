"""The miniatures: files exactly as those of VOC and Cityscapes, every class of theirs, the same bytes each time."""

import hashlib
import json
from pathlib import Path

import layouts
import numpy as np
import pytest
import torchvision
from cityscapesscripts.helpers.csHelpers import getCsFileInfo
from cityscapesscripts.helpers.labels import id2label, labels, name2label
from PIL import Image

from nnti.data import VOC, Cityscapes
from nnti.data.miniature import write_miniature_cityscapes, write_miniature_voc
from nnti.errors import DataError

WRITERS = {"voc": write_miniature_voc, "cityscapes": write_miniature_cityscapes}
READERS = {"voc": VOC, "cityscapes": Cityscapes}
COUNTS = {"voc": {"train": 20, "val": 10}, "cityscapes": {"train": 16, "val": 16}}
DRAWN = ["aeroplane", "bird", "boat", "bus", "car", "cat", "motorbike", "person", "pottedplant", "sheep"]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp("root"), **COUNTS[name]) for name, write in WRITERS.items()}


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", WRITERS)
def test_splits_are_read_like_the_real_data_and_share_no_image(folders, name):
    train, val, both = (READERS[name](split, folders[name]) for split in ("train", "val", "trainval"))
    assert {"train": len(train), "val": len(val)} == COUNTS[name] and "miniature (drawn)" in train.title
    listed = [{image.name for image, _ in dataset.files} for dataset in (train, val, both)]
    assert not listed[0] & listed[1] and listed[0] | listed[1] == listed[2]
    for image, label in both:
        assert 255 in label and image.float().std() > 10  # a picture, not a blank


def test_classes_that_are_promised_occur(folders):
    val = VOC("val", folders["voc"])
    seen = {
        val.class_names[number] for index in range(len(val)) for number in np.unique(val.label(index)) if number < 21
    }
    assert seen == {"background", *DRAWN}
    seen = [Cityscapes(split, folders["cityscapes"]) for split in ("train", "val")]
    seen = [{number for index in range(len(split)) for number in np.unique(split.label(index))} for split in seen]
    assert seen[0] | seen[1] == {*range(19), 255} and len(seen[1] - {255}) >= 15


@pytest.mark.parametrize("name", WRITERS)
def test_bytes_are_the_same_each_time_and_what_others_drew_is_drawn_anew(name, tmp_path):
    folder, other = (WRITERS[name](tmp_path / place, train=2, val=1) for place in "ab")
    drawn, marker, image = digest(folder), folder / "miniature.json", next(folder.rglob("*_0*.[jp][pn]g"))
    assert digest(other) == drawn
    stamp = image.stat().st_mtime_ns
    assert WRITERS[name](tmp_path / "a", train=2, val=1) == folder and image.stat().st_mtime_ns == stamp  # kept
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "version": 0}))
    image.write_bytes(b"of another version")
    WRITERS[name](tmp_path / "a", train=2, val=1)
    assert digest(folder) == drawn
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]  # no drafts left


@pytest.mark.parametrize("name", WRITERS)
def test_real_data_is_never_replaced(name, tmp_path):
    real = tmp_path / {"voc": "VOCdevkit/VOC2012/JPEGImages", "cityscapes": "cityscapes/leftImg8bit/train"}[name]
    real.mkdir(parents=True)
    (real / "x.jpg").touch()
    with pytest.raises(DataError, match="real data set"):
        WRITERS[name](tmp_path, train=1, val=1)
    assert (real / "x.jpg").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot be written into .*file.*make room there"):
        write_miniature_voc(tmp_path / "file")


def test_voc_has_the_modes_palette_and_contours_of_the_original(folders):
    folder = folders["voc"]
    assert folder.parts[-2:] == ("VOCdevkit", "VOC2012")
    counts = np.zeros(256, dtype=int)
    for image, label in torchvision.datasets.VOCSegmentation(folder.parents[1], year="2012", image_set="trainval"):
        assert (image.mode, label.mode, image.size) == ("RGB", "P", label.size) and max(image.size) == 200
        assert label.getpalette() == layouts.voc_palette()
        numbers = np.asarray(label)
        for here, there in ((numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1])):
            assert not ((here != there) & (here != 255) & (there != 255)).any()  # void lies between any two labels
        counts += np.bincount(numbers.ravel(), minlength=256)
    assert 0.6 < counts[0] / counts.sum() < 0.85 and 0.03 < counts[255] / counts.sum() < 0.12


def test_cityscapes_has_the_names_modes_ids_and_colours_of_the_original(folders):
    folder, counts, cities = folders["cityscapes"], np.zeros(64, dtype=int), {}
    for path in sorted((folder / "leftImg8bit").rglob("*.png")):
        info = getCsFileInfo(path.name)
        assert (info.city, info.type) == (path.parent.name, "leftImg8bit")
        assert len(info.sequenceNb) == len(info.frameNb) == 6
        cities.setdefault(path.parts[-3], set()).add(info.city)
        place = folder / "gtFine" / path.relative_to(folder / "leftImg8bit").parent
        kinds = ("labelIds", "instanceIds", "color")
        truth = [Image.open(place / path.name.replace("leftImg8bit", f"gtFine_{kind}")) for kind in kinds]
        assert [file.mode for file in (Image.open(path), *truth)] == ["RGB", "L", "I;16", "RGBA"]
        assert {file.size for file in truth} == {Image.open(path).size}
        label, instance, colour = (np.asarray(file).astype(int) for file in truth)
        for number in np.unique(label).tolist():
            assert (colour[label == number] == (*id2label[number].color, 255)).all()
        single = instance >= 1000
        assert (np.where(single, instance // 1000, instance) == label).all() and single.any()
        assert all(id2label[number].hasInstances for number in np.unique(label[single]))
        counts += np.bincount(label.ravel(), minlength=64)
    assert not cities["train"] & cities["val"] and min(map(len, cities.values())) > 1
    for name in ("ego vehicle", "out of roi", "static", "dynamic", "rail track"):
        assert counts[name2label[name].id] > 0, name
    ignored = sum(counts[label.id] for label in labels if label.id >= 0 and label.ignoreInEval)
    assert 0.03 < ignored / counts.sum() < 0.25
