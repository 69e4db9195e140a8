"""The miniatures: files exactly as those of VOC and Cityscapes, every class, the same bytes on every machine."""

import hashlib
from pathlib import Path

import layouts
import numpy as np
import pytest
import torchvision
from cityscapesscripts.helpers.csHelpers import getCsFileInfo
from cityscapesscripts.helpers.labels import id2label, labels, name2label
from PIL import Image

from nnti.data import VOC, Cityscapes
from nnti.data.miniature.cityscapes import write_miniature_cityscapes
from nnti.data.miniature.voc import write_miniature_voc
from nnti.errors import DataError

WRITERS = {"voc": write_miniature_voc, "cityscapes": write_miniature_cityscapes}
COUNTS = {"voc": {"train": 24, "val": 6}, "cityscapes": {"train": 20, "val": 6}}
READERS = {"voc": VOC, "cityscapes": Cityscapes}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    return {name: write(tmp_path_factory.mktemp("root"), **COUNTS[name]) for name, write in WRITERS.items()}


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.parametrize("name", WRITERS)
def test_splits_are_read_like_the_real_data_and_share_no_image(folders, name):
    train, val = (READERS[name](split, folders[name]) for split in ("train", "val"))
    assert {"train": len(train), "val": len(val)} == COUNTS[name] and "miniature" in train.title
    listed = [{image.name for image, _ in dataset.files} for dataset in (train, val)]
    assert not listed[0] & listed[1]
    for image, label in [*train, *val]:
        assert 255 in label and image.float().std() > 10  # a picture, not a blank
    seen = np.unique(np.concatenate([label.flatten() for _, label in [*train, *val]]))
    assert seen.tolist() == [*range(train.num_classes), 255]


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_arguments_give_the_same_bytes_and_others_are_rendered_anew(name, tmp_path):
    write = WRITERS[name]
    folder, other = (write(tmp_path / place, train=2, val=1) for place in "ab")
    before, image = digest(folder), next(folder.rglob("*_0*.[jp][pn]g"))
    assert digest(other) == before
    stamp = image.stat().st_mtime_ns
    assert write(tmp_path / "a", train=2, val=1) == folder and image.stat().st_mtime_ns == stamp  # kept
    write(tmp_path / "a", train=2, val=1, seed=7)
    assert digest(folder) != before
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


def test_voc_has_the_lists_modes_palette_and_contours_of_the_original(folders):
    folder = folders["voc"]
    assert folder.parts[-2:] == ("VOCdevkit", "VOC2012")
    train, val, both = (
        (folder / "ImageSets/Segmentation" / f"{split}.txt").read_text().split()
        for split in ("train", "val", "trainval")
    )
    assert both == sorted(train + val)
    reference = torchvision.datasets.VOCSegmentation(folder.parents[1], year="2012", image_set="trainval")
    for image, label in reference:
        assert (image.mode, label.mode, image.size) == ("RGB", "P", label.size) and max(image.size) == 200
        assert label.getpalette() == layouts.voc_palette()
        numbers = np.asarray(label)
        for here, there in ((numbers[1:], numbers[:-1]), (numbers[:, 1:], numbers[:, :-1])):
            assert not ((here != there) & (here != 255) & (there != 255)).any()  # void lies between any two labels
    counts = np.bincount(np.concatenate([np.asarray(label).ravel() for _, label in reference]), minlength=256)
    assert 0.5 < counts[0] / counts.sum() < 0.8 and 0.02 < counts[255] / counts.sum() < 0.12


def test_cityscapes_has_the_names_modes_ids_and_colours_of_the_original(folders):
    folder = folders["cityscapes"]
    countable = [label.id for label in labels if label.hasInstances]
    counts, cities = np.zeros(64, dtype=int), {}
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
        assert set(np.unique(label[single]).tolist()) <= set(countable)
        counts += np.bincount(label.ravel(), minlength=64)
    assert not cities["train"] & cities["val"]
    for name in ("ego vehicle", "out of roi", "static", "dynamic", "parking", "rail track"):
        assert counts[name2label[name].id] > 0, name
    assert (
        0.05 < sum(counts[label.id] for label in labels if label.id >= 0 and label.ignoreInEval) / counts.sum() < 0.25
    )
