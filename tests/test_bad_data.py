"""Files that are damaged, foreign or forbidden: each error names the file and the fix; all at once in `data check`."""

import os
import shlex
import shutil
import tempfile
import warnings
import zlib
from contextlib import contextmanager
from pathlib import Path

import layouts
import numpy as np
import pytest
import torch
from PIL import Image

from nnti.__main__ import main
from nnti.data import VOC, CamVid, Cityscapes, DataError, available, load_dataset
from nnti.data.check import check_dataset
from nnti.data.images import read_image, read_photo
from nnti.data.voc import read_sbd_label
from nnti.experiment import Experiment
from nnti.inference.files import find_images
from nnti.inference.image import predict
from nnti.models import build_model
from nnti.training.loop import fit

NAME = layouts.VOC_TRAIN[0]
TURNED = Image.Exif()
TURNED[274] = 6


@pytest.fixture
def voc(tmp_path, monkeypatch) -> Path:
    """VOC2012 in the data folder, which is empty otherwise."""
    for name in ("data", "runs", "cache"):
        monkeypatch.setenv(f"NNTI_{name.upper()}", str(tmp_path / name))
    return layouts.write_voc(tmp_path / "data")


def picture(mode: str) -> Image.Image:
    """A picture of the size that NAME's label has, in some mode."""
    pixels = layouts.draw_image(NAME)
    if mode == "I;16":
        return Image.fromarray(pixels[..., 0].astype(np.uint16) * 257)
    return Image.fromarray(pixels).convert(mode)


# images


@pytest.mark.parametrize(
    ("mode", "ending"),
    [("L", "jpg"), ("L", "png"), ("CMYK", "jpg"), ("RGBA", "png"), ("LA", "png"), ("P", "png"), ("I;16", "png")],
)
def test_images_of_other_modes_are_named_with_the_way_to_convert_them(voc, mode, ending):
    path = voc / "JPEGImages" / f"{NAME}.jpg"
    picture(mode).save(path, format={"jpg": "JPEG", "png": "PNG"}[ending])
    with pytest.raises(DataError, match=rf"{NAME}\.jpg has mode {mode}.*not 8-bit RGB.*convert it: python -c"):
        VOC("train")[0]


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "I;16"])
@pytest.mark.parametrize("folder", ["plain", "it's $HOME; `ü`"])
def test_the_offered_repair_gives_what_a_viewer_shows(tmp_path, monkeypatch, mode, folder):
    path = tmp_path / folder / "x.png"
    path.parent.mkdir()
    picture(mode).save(path, **({"exif": TURNED} if mode == "RGB" else {}))
    shown = read_photo(path)
    with pytest.raises(DataError) as raised:
        read_image(path)
    _, found, command = str(raised.value).partition("python -c ")
    code, *arguments = shlex.split(command)
    assert found and arguments == [str(path)]
    monkeypatch.setattr("sys.argv", ["-c", *arguments])
    exec(code, {})
    assert torch.equal(read_image(path), shown)
    assert len(shown.unique()) > 100  # not clipped


def test_sixteen_bit_colours_lose_their_low_bytes_alone(tmp_path):
    """Pillow opens them so; the high byte is the same colour."""
    height, width = 2, 3
    values = (np.arange(height * width * 3).reshape(height, width * 3) * 3000).astype(">u2")
    rows = b"".join(b"\0" + row.tobytes() for row in values)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([16, 2, 0, 0, 0])
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "x.png").write_bytes(png)
    found = read_photo(tmp_path / "x.png").permute(1, 2, 0).reshape(height, -1)
    assert found.tolist() == (values // 256).tolist()


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_an_image_that_viewers_turn_is_named(voc, ending):
    path = voc / "JPEGImages" / f"{NAME}.jpg"
    picture("RGB").save(path, format={"jpg": "JPEG", "png": "PNG"}[ending], exif=TURNED)
    with pytest.raises(DataError, match=rf"{NAME}\.jpg has the EXIF orientation 6.*Save it upright.*python -c"):
        VOC("train")[0]


@pytest.mark.parametrize("ending", ["JPEG", "PNG"])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_truncated_images_are_named(voc, ending, share):
    path = voc / "JPEGImages" / f"{NAME}.jpg"
    picture("RGB").save(path, format=ending)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=rf"{NAME}\.jpg cannot be read.*half copied\? Copy or download it again"):
        VOC("train")[0]


def test_a_folder_in_the_place_of_an_image_is_named(voc):
    path = voc / "JPEGImages" / f"{NAME}.jpg"
    path.unlink()
    path.mkdir()
    with pytest.raises(DataError, match=rf"{NAME}\.jpg cannot be read"):
        VOC("train")[0]


@pytest.mark.parametrize("model", ["enet", "r2unet", "pspnet"])
@pytest.mark.parametrize("augment", [True, False])
def test_an_image_of_one_pixel_is_learned_from_and_measured(voc, tmp_path, model, augment):
    layouts.save_image(voc / "JPEGImages" / "2007_000001.jpg", np.zeros((1, 1, 3), dtype=np.uint8))
    layouts.save_palette(voc / "SegmentationClass" / "2007_000001.png", np.zeros((1, 1), dtype=np.uint8))
    for split in ("train", "val"):
        layouts.write_list(voc / f"ImageSets/Segmentation/{split}.txt", ["2007_000001", NAME])
    small = {
        "enet": {}, "r2unet": {"widths": [4, 8]}, "pspnet": {"backbone": "resnet18", "pretrained": False},
    }[model]  # fmt: skip
    experiment = Experiment(
        name="one", model=model, model_arguments=small, train_split="train", batch_size=2, epochs=1, val_every=1,
        augment=augment, base_size=48, crop_size=48, val_size=32, precision="float32", device="cpu", cache="none",
    )  # fmt: skip
    run = fit(experiment, progress=False)
    (row,) = run
    assert np.isfinite([row["train_loss"], row["val_loss"]]).all()
    assert run.run.record()["validation"]["full"]["images"] == 2
    network = build_model(model, 21, small, pretrained=False)
    assert predict(network, torch.zeros(3, 1, 1, dtype=torch.uint8)).shape == (1, 1)


# people's own photos


@pytest.mark.parametrize("mode", ["RGB", "L", "LA", "RGBA", "P", "CMYK", "I;16", "1"])
def test_photos_of_any_mode_become_rgb(tmp_path, mode):
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    picture(mode).save(path)
    photo, expected = read_photo(path), picture(mode)
    assert photo.dtype == torch.uint8
    assert photo.shape == (3, *layouts.size_of(NAME))
    if mode == "I;16":
        assert torch.equal(photo[0], torch.from_numpy(layouts.draw_image(NAME)[..., 0].copy()))
    elif mode != "CMYK":
        assert torch.equal(photo.permute(1, 2, 0), torch.from_numpy(np.array(expected.convert("RGB"))))


def test_transparent_parts_are_shown_on_white(tmp_path):
    pixels = np.zeros((2, 2, 4), dtype=np.uint8)
    pixels[0, :, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png")
    assert read_photo(tmp_path / "x.png")[0].tolist() == [[0, 0], [255, 255]]


def test_a_photo_is_segmented_upright(tmp_path):
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[0] = 255
    Image.fromarray(pixels).save(tmp_path / "x.png", exif=TURNED)
    photo = read_photo(tmp_path / "x.png")
    assert photo.shape == (3, 6, 4)
    assert photo[0, :, -1].tolist() == [255] * 6


@pytest.mark.parametrize("text", [b"P6\n4x 4\n255\n", b"P6\n4 4\n255\nshort", b"P6\n99999 99999\n255\n"])
def test_damage_that_is_no_error_of_the_system_is_named(tmp_path, text):
    (tmp_path / "x.ppm").write_bytes(text)
    with pytest.raises(DataError, match=r"x\.ppm cannot be read"):
        read_photo(tmp_path / "x.ppm")
    if not text.endswith(b"short"):
        with pytest.raises(DataError, match=r"x\.ppm is not an image that can be read"):
            find_images([tmp_path / "x.ppm"])


# labels, lists, folders


@pytest.mark.parametrize("value", [256, -1, 1.5, np.nan])
def test_labels_of_sbd_that_are_no_bytes_are_named(tmp_path, value):
    layouts.save_mat(tmp_path / "x.mat", np.full((4, 5), value))
    with warnings.catch_warnings(), pytest.raises(DataError, match=r"x\.mat holds other label values"):
        warnings.simplefilter("ignore")
        read_sbd_label(tmp_path / "x.mat")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_truncated_labels_of_sbd_are_named(tmp_path, share):
    layouts.save_mat(tmp_path / "x.mat", layouts.sbd_label(NAME))
    whole = (tmp_path / "x.mat").read_bytes()
    (tmp_path / "x.mat").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(DataError, match=r"x\.mat is not a label file of SBD.*copy or download it again"):
        read_sbd_label(tmp_path / "x.mat")


def test_labels_that_cannot_be_meant_are_named(voc):
    mask, (height, width) = voc / "SegmentationClass" / f"{NAME}.png", layouts.size_of(NAME)
    for array, message in (
        (np.zeros((height, width, 3), dtype=np.uint8), "has mode RGB; a label file is a palette"),
        (np.zeros((height, width), dtype=np.uint16), r"has mode I;16.*; a label file"),
        (np.full((height, width), 21, dtype=np.uint8), r"holds label values \[21\]"),
        (np.zeros((height, width + 1), dtype=np.uint8), "one of them was resized"),
    ):
        layouts.save_image(mask, array)
        with pytest.raises(DataError, match=rf"{NAME}\.png.*{message}|{NAME}\.png .*: {message}"):
            VOC("train")[0]
    mask.unlink()
    with pytest.raises(DataError, match=rf"{NAME}\.png is missing; unpack the data set again, or remove the name"):
        VOC("train")[0]


@pytest.mark.parametrize("text", ["\n{0}\n\n{1}\n", "{0}\r\n{1}\r\n", "\ufeff{0}\n{1}", "  {0}  \n\t{1}\n \n"])
def test_untidy_lists_mean_what_they_say(voc, text):
    (voc / "ImageSets/Segmentation/train.txt").write_bytes(text.format(*layouts.VOC_TRAIN).encode())
    assert [image.stem for image, _ in VOC("train").files] == layouts.VOC_TRAIN[:2]


@pytest.mark.parametrize("folder", ["with a space", "Städte und Straßen", "数据集", "semi;colon & 'quote'"])
def test_any_path_will_do(tmp_path, folder):
    root = tmp_path / folder
    layouts.write_voc(root)
    layouts.write_camvid(root / "camvid")
    layouts.write_cityscapes(root / "cityscapes")
    for dataset in (VOC("train", root), CamVid("train", root), Cityscapes("train", root)):
        image, label = dataset[0]
        assert image.shape[1:] == label.shape


def test_names_of_files_may_hold_any_letter(voc):
    name = "Straße im März"
    for folder, ending in (("JPEGImages", "jpg"), ("SegmentationClass", "png")):
        (voc / folder / f"{NAME}.{ending}").rename(voc / folder / f"{name}.{ending}")
    layouts.write_list(voc / "ImageSets/Segmentation/train.txt", [name])
    assert VOC("train")[0][1].shape == layouts.size_of(NAME)


# what may not be read


@pytest.fixture
def open_folder():
    """A folder that every user may enter, unlike tmp_path."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@contextmanager
def as_nobody():
    """Give up root's right to read everything meanwhile."""
    if not hasattr(os, "geteuid"):
        pytest.skip("this system has no such users")
    mine = os.geteuid()
    if mine == 0:
        os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(mine)


@pytest.mark.parametrize(
    "place",
    [
        "",
        "JPEGImages",
        "JPEGImages/{0}.jpg",
        "SegmentationClass/{0}.png",
        "ImageSets/Segmentation/train.txt",
        "ImageSets",
    ],
)
def test_what_may_not_be_read_is_named(open_folder, place):
    voc = layouts.write_voc(open_folder)
    path = voc / place.format(NAME)
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        with as_nobody(), pytest.raises(DataError, match=r"permission denied.*chmod -R a\+rX") as raised:
            load_dataset("voc", "train", open_folder)[0]
        assert str(path) in str(raised.value)
    finally:
        path.chmod(mode)


@pytest.mark.parametrize("place", ["leftImg8bit/train", "leftImg8bit/train/aachen", "gtFine/train/aachen"])
def test_folders_of_cityscapes_that_may_not_be_read_are_named(open_folder, place):
    layouts.write_cityscapes(open_folder)
    (open_folder / place).chmod(0)
    try:
        with as_nobody(), pytest.raises(DataError, match=f"{place} may not be read: permission denied"):
            load_dataset("cityscapes", "train", open_folder)[0]
    finally:
        (open_folder / place).chmod(0o755)


@pytest.mark.parametrize("place", ["train", "trainannot", "train.txt"])
def test_parts_of_camvid_that_may_not_be_read_are_named(open_folder, place):
    layouts.write_camvid(open_folder)
    mode = (open_folder / place).stat().st_mode
    (open_folder / place).chmod(0)
    try:
        with as_nobody(), pytest.raises(DataError, match=f"{place}.* may not be read: permission denied"):
            CamVid("train", open_folder)[0]
    finally:
        (open_folder / place).chmod(mode)


@pytest.mark.parametrize("mode", [0, 0o444])
@pytest.mark.parametrize("place", ["sbd/cls", "sbd/cls/x.mat"])
def test_labels_of_sbd_that_may_not_be_read_are_named(open_folder, place, mode):
    label = open_folder / "sbd/cls/x.mat"
    layouts.save_mat(label, layouts.sbd_label(NAME))
    (open_folder / place).chmod(0 if place.endswith(".mat") else mode)
    try:
        with as_nobody(), pytest.raises(DataError, match=r"x\.mat may not be read: permission denied"):
            read_sbd_label(label)
    finally:
        (open_folder / place).chmod(0o755)


@pytest.mark.parametrize(("place", "mode"), [("a", 0), ("a", 0o444), ("a/x.png", 0)])
@pytest.mark.parametrize("given", ["", "a", "a/x.png"])
def test_photos_that_may_not_be_read_are_named(open_folder, place, mode, given):
    layouts.save_image(open_folder / "a/x.png", draw := layouts.draw_image(NAME))
    layouts.save_image(open_folder / "y.png", draw)
    (open_folder / place).chmod(mode)
    try:
        with as_nobody(), pytest.raises(DataError, match=rf"{open_folder}/a.* may not be read: permission denied"):
            find_images([open_folder / given])
    finally:
        (open_folder / place).chmod(0o755)


def test_a_root_that_may_not_be_entered_does_not_hide_another(open_folder, monkeypatch):
    closed, good = open_folder / "closed", open_folder / "good"
    closed.mkdir(mode=0)
    layouts.write_camvid(good / "camvid")
    monkeypatch.setenv("NNTI_DATA", f"{closed}{os.pathsep}{good}")
    with as_nobody():
        assert available("camvid")


# all at once


def test_a_whole_data_set_without_faults(voc, capsys):
    assert main(["data", "check", "voc", "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "PASCAL VOC 2012: images in train 3, val 2, trainval 5; no faults" in said
    assert "train_aug: not checked (SBD, which the split 'train_aug' needs, was not found)" in said
    assert "never in the labels of train: " in said


def test_all_faults_are_told_at_once(voc, capsys):
    images, labels = voc / "JPEGImages", voc / "SegmentationClass"
    first, second, third = layouts.VOC_TRAIN
    picture("L").save(images / f"{first}.jpg")
    (labels / f"{first}.png").write_bytes(b"PNG?")  # both faults of one sample
    (labels / f"{second}.png").unlink()
    layouts.save_palette(labels / f"{third}.png", np.full((5, 5), 99, dtype=np.uint8))  # two faults again
    layouts.write_list(voc / "ImageSets/Segmentation/val.txt", [*layouts.VOC_VAL, first])
    found = check_dataset("voc", progress=False)
    assert len(found.faults) == 6
    for part in (f"{first}.jpg has mode L", f"{first}.png cannot be read", f"{second}.png is missing",
                 "label values [99]", "one of them was resized",
                 f"{first}.jpg is in the split 'val' and in 'train' as well"):  # fmt: skip
        assert sum(part in fault for fault in found.faults) == 1, part
    assert main(["data", "check", "voc", "--quiet"]) == 1
    captured = capsys.readouterr()
    assert all(fault in captured.out for fault in found.faults)
    assert "6 fault" in captured.err


def test_a_broken_list_is_a_fault_and_the_other_splits_are_checked(voc):
    (voc / "ImageSets/Segmentation/val.txt").write_text("\n")
    found = check_dataset("voc", progress=False)
    assert [fault.partition(" is empty")[0][:40] for fault in found.faults] == [
        "PASCAL VOC 2012: split 'val' in " + str(voc)[:8]
    ]
    assert found.samples == {"train": 3, "trainval": 5}


def test_other_data_sets_are_checked_in_their_own_encoding(tmp_path):
    layouts.write_cityscapes(tmp_path)
    layouts.write_camvid(tmp_path / "camvid", splits=("train", "val"))
    assert check_dataset("cityscapes", tmp_path, progress=False).faults == []
    found = check_dataset("camvid", tmp_path, progress=False)
    assert (found.faults, list(found.absent)) == ([], ["test"])
    label = next((tmp_path / "gtFine").rglob("*_labelIds.png"))
    layouts.save_image(label, np.full(np.array(Image.open(label)).shape, 77, dtype=np.uint8))
    (fault,) = check_dataset("cityscapes", tmp_path, progress=False).faults
    assert label.name in fault


def test_an_image_in_the_folders_of_two_splits_is_a_fault(tmp_path):
    folder, name = layouts.write_camvid(tmp_path), layouts.CAMVID["train"][0]
    for ending in ("", "annot"):
        shutil.copy(folder / f"train{ending}" / f"{name}.png", folder / f"val{ending}" / f"{name}.png")
    layouts.write_list(folder / "val.txt", [f"/x/val/{name}.png /x/valannot/{name}.png"])
    (fault,) = check_dataset("camvid", tmp_path, progress=False).faults
    assert f"val/{name}.png is in the split 'val' and in 'train' as well" in fault


def test_a_split_that_is_half_there_says_what_it_lacks(voc):
    layouts.write_sbd(voc.parent / "sbd")
    (voc.parent / "sbd/val.txt").unlink()
    assert check_dataset("voc", voc.parent, progress=False).absent["train_aug"].endswith("lacks val.txt")


def test_unseen_classes_are_those_without_a_pixel(voc):
    labels = torch.cat([label.flatten() for _, label in VOC("train")])
    expected = [name for number, name in enumerate(VOC.class_names) if number not in labels]
    assert check_dataset("voc", progress=False).unseen == expected


@pytest.mark.parametrize("arguments", [["check"], ["voc", "camvid"], ["check", "voc", "--coarse"]])
def test_half_a_command_is_refused(arguments, capsys):
    assert main(["data", *arguments]) == 1
    assert "--coarse goes with" in (said := capsys.readouterr().err) or "data check voc" in said


def test_nothing_to_check_says_how_to_get_it(tmp_path, capsys):
    assert main(["data", "check", "camvid", "--root", str(tmp_path)]) == 1
    assert "python -m nnti data camvid" in capsys.readouterr().err


def test_a_miniature_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"cannot be written into .*file.*make room there"):
        load_dataset("voc_miniature", "train", tmp_path / "file")


def test_a_huge_picture_is_named(voc, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with warnings.catch_warnings(), pytest.raises(DataError, match="cannot be read"):
        warnings.simplefilter("ignore")
        VOC("train")[0]
