"""The miniature Cityscapes: its files are what Cityscapes' are, all classes occur, rendering is repeatable and safe."""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from cityscapesscripts.helpers.csHelpers import getCsFileInfo
from cityscapesscripts.helpers.labels import id2label, labels, name2label
from PIL import Image

from nnti.data.miniature.cityscapes import CITIES, plan_miniature_cityscapes, write_miniature_cityscapes
from nnti.data.miniature.streets_life import FEATURES
from nnti.data.miniature.streets_scene import render_street
from nnti.errors import DataError

COUNTS = {"train": 20, "val": 6}
CLASSES = {label.id for label in labels if 0 <= label.trainId < 255}
LABEL, INSTANCE, COLOUR = "labelIds", "instanceIds", "color"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_miniature_cityscapes(tmp_path_factory.mktemp("root"), **COUNTS)


def images_of(folder: Path, split: str) -> list[Path]:
    return sorted((folder / "leftImg8bit" / split).rglob("*.png"))


def truth_of(folder: Path, image: Path, kind: str) -> Image.Image:
    place = image.relative_to(folder / "leftImg8bit")
    return Image.open(folder / "gtFine" / place.with_name(place.name.replace("leftImg8bit", f"gtFine_{kind}")))


def label_of(folder: Path, image: Path) -> np.ndarray:
    return np.asarray(truth_of(folder, image, LABEL))


def both_splits(folder: Path) -> list[Path]:
    return images_of(folder, "train") + images_of(folder, "val")


def digest(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_layout(folder):
    assert folder.name == "cityscapes"
    expected = {"miniature.json"}
    for split, members in plan_miniature_cityscapes(**COUNTS, seed=0).items():
        assert len({name for name, _ in members}) == COUNTS[split]
        for name, _ in members:
            city = name.split("_")[0]
            assert city in CITIES[split]
            expected.add(f"leftImg8bit/{split}/{city}/{name}_leftImg8bit.png")
            expected |= {f"gtFine/{split}/{city}/{name}_gtFine_{kind}.png" for kind in (LABEL, INSTANCE, COLOUR)}
    assert set(digest(folder)) == expected
    facts = json.loads((folder / "miniature.json").read_text())
    assert facts == {"renderer_version": facts["renderer_version"], "seed": 0, **COUNTS}


def test_no_city_is_in_both_splits(folder):
    train, val = ({path.parent.name for path in images_of(folder, split)} for split in COUNTS)
    assert len(train) > 2 and len(val) > 2 and not train & val


def test_names_are_parsed_by_the_authors_scripts(folder):
    for path in both_splits(folder):
        info = getCsFileInfo(path.name)
        assert (info.city, info.type, info.ext) == (path.parent.name, "leftImg8bit", "png")
        assert len(info.sequenceNb) == len(info.frameNb) == 6 and (info.sequenceNb + info.frameNb).isdigit()


def test_modes_and_sizes(folder):
    for path in both_splits(folder):
        files = [Image.open(path), *(truth_of(folder, path, kind) for kind in (LABEL, INSTANCE, COLOUR))]
        assert [file.mode for file in files] == ["RGB", "L", "I;16", "RGBA"]
        assert {file.size for file in files} == {(256, 128)}
        assert np.asarray(files[0]).std() > 10  # a picture, not a blank


def test_labels_are_ids_of_the_table_and_the_colours_are_its_own(folder):
    for path in both_splits(folder):
        label, colour = label_of(folder, path), np.asarray(truth_of(folder, path, COLOUR))
        for number in np.unique(label).tolist():
            assert id2label[number].name != "unlabeled"
            there = label == number
            assert (colour[there] == (*id2label[number].color, 255)).all()


def test_instances_agree_with_labels(folder):
    countable = {label.id for label in labels if label.hasInstances}
    for path in both_splits(folder):
        label, instance = label_of(folder, path), np.asarray(truth_of(folder, path, INSTANCE)).astype(int)
        single = instance >= 1000
        assert (np.where(single, instance // 1000, instance) == label).all()
        assert {int(number) for number in np.unique(label[single])} <= countable
        assert single.any()


def test_every_class_is_in_twenty_streets(folder):
    seen = set().union(*(np.unique(label_of(folder, path)).tolist() for path in images_of(folder, "train")))
    assert seen >= CLASSES, f"missing: {[id2label[number].name for number in CLASSES - seen]}"


def test_ignored_labels_occur(folder):
    counts = sum(np.bincount(label_of(folder, path).ravel(), minlength=64) for path in both_splits(folder))
    for name in ("ego vehicle", "out of roi", "static", "dynamic", "parking", "rail track"):
        assert counts[name2label[name].id] > 0, name
    ignored = sum(counts[label.id] for label in labels if label.id >= 0 and label.ignoreInEval)
    assert 0.05 < ignored / counts.sum() < 0.25


def test_most_of_a_street_is_road_houses_and_trees(folder):
    counts = sum(np.bincount(label_of(folder, path).ravel(), minlength=64) for path in both_splits(folder))
    largest = {id2label[int(number)].name for number in np.argsort(counts)[-3:]}
    assert largest == {"road", "building", "vegetation"}


def test_default_plan_shows_every_rare_kind_often():
    plan = plan_miniature_cityscapes(train=160, val=40, seed=0)
    for split, least in (("train", 16), ("val", 4)):
        planned = [feature for _, feature in plan[split]]
        assert {feature: planned.count(feature) for feature in FEATURES} == dict.fromkeys(FEATURES, least)


def test_a_picture_shows_the_kind_it_was_planned_for(folder):
    for split, members in plan_miniature_cityscapes(**COUNTS, seed=0).items():
        paths = {path.name: path for path in images_of(folder, split)}
        for name, feature in members:
            label = label_of(folder, paths[f"{name}_leftImg8bit.png"])
            assert (label == name2label[feature].id).sum() >= 30, f"{name}: no {feature}"


def test_same_arguments_give_the_same_bytes(tmp_path):
    first, second = (write_miniature_cityscapes(tmp_path / name, train=2, val=1) for name in "ab")
    assert digest(first) == digest(second)


def test_a_picture_does_not_depend_on_how_many_others_there_are(folder, tmp_path):
    other = write_miniature_cityscapes(tmp_path, train=3, val=1)
    first = images_of(other, "train")[0].relative_to(other)
    assert (other / first).read_bytes() == (folder / first).read_bytes()


def test_kept_if_arguments_match_and_rendered_anew_if_not(tmp_path):
    folder = write_miniature_cityscapes(tmp_path, train=1, val=1)
    before = digest(folder)
    image = images_of(folder, "train")[0]
    stamp = image.stat().st_mtime_ns
    assert write_miniature_cityscapes(tmp_path, train=1, val=1) == folder
    assert image.stat().st_mtime_ns == stamp
    write_miniature_cityscapes(tmp_path, train=1, val=1, seed=7)
    assert digest(folder) != before
    assert [path.name for path in tmp_path.iterdir()] == ["cityscapes"]  # no drafts left


def test_killed_rendering_leaves_nothing_that_looks_complete(tmp_path, monkeypatch):
    def killed(feature, seed):
        raise KeyboardInterrupt

    monkeypatch.setattr("nnti.data.miniature.streets_scene.render_street", killed)
    with pytest.raises(KeyboardInterrupt):
        write_miniature_cityscapes(tmp_path, train=1, val=1)
    assert list(tmp_path.iterdir()) == []


def test_what_another_process_rendered_first_is_kept(tmp_path, monkeypatch):
    arguments = {"train": 1, "val": 1}

    def overtaken(feature, seed):
        monkeypatch.undo()
        write_miniature_cityscapes(tmp_path, **arguments)
        (tmp_path / "cityscapes" / "mark").touch()
        return render_street(feature, seed)

    monkeypatch.setattr("nnti.data.miniature.streets_scene.render_street", overtaken)
    folder = write_miniature_cityscapes(tmp_path, **arguments)
    assert (folder / "mark").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["cityscapes"]


def test_real_data_is_never_replaced(tmp_path):
    city = tmp_path / "cityscapes" / "leftImg8bit" / "train" / "aachen"
    city.mkdir(parents=True)
    (city / "aachen_000000_000019_leftImg8bit.png").touch()
    with pytest.raises(DataError, match="real data set"):
        write_miniature_cityscapes(tmp_path, train=1, val=1)
    assert (city / "aachen_000000_000019_leftImg8bit.png").exists()


def test_empty_split_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least 1"):
        write_miniature_cityscapes(tmp_path, train=4, val=0)
