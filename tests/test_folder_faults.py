"""Mistakes in a folder of one's own: each error names the file and the fix, all of pairing at once."""

import shutil

import layouts
import numpy as np
import pandas as pd
import pytest
from own_folder import CSV, NAMES, ROWS, fault_of, mask_path, write_folder
from PIL import Image

from nnti.__main__ import main
from nnti.data import DataError, Folder
from nnti.data.check import check_dataset


def test_all_faults_of_pairing_are_told_at_once(tmp_path, capsys):
    root = write_folder(tmp_path / "mine")
    a, b, c, d, e, f, *_ = NAMES
    mask_path(root, a).unlink()
    mask_path(root, b).rename(mask_path(root, f"{b}_mask"))
    shutil.copy(root / "images" / f"{c}.png", root / "images" / f"{c}.JPG")
    Image.open(mask_path(root, d)).save(mask_path(root, d).with_suffix(".jpg"))
    mask_path(root, d).unlink()
    (root / "images" / f"{e}.png").rename(root / "images" / f"{e}.heic")
    layouts.save_image(mask_path(root, f), np.full((9, 9), 7, np.uint8))  # two more, for who reads files
    parts = [f"{a}.png is an image without mask; add the mask", f"{b}.png is an image without mask; was '{b}_mask'",
             f"{b}_mask.png is a mask without image; was '{b}'", f"{c}.JPG and ", "are images of one name",
             f"{d}.jpg is a JPG mask: its compression invents values",
             f"{e}.png is a mask without image; photo4.heic is not read"]  # fmt: skip
    fault = fault_of(root)
    assert all(part in fault for part in parts), fault
    assert len(fault.splitlines()) == len(parts) - 1
    assert main(["data", "check", "folder", "--root", str(root), "--quiet"]) == 1
    said = capsys.readouterr().out
    more = ["holds values beyond the classes: 7 (81 pixels)", "images in train 5, val 1; 7 faults"]
    assert all(said.count(part) == 1 for part in (*parts, *more)), said


def test_size_and_damage_are_found_with_the_rest(tmp_path):
    root = write_folder(tmp_path)
    layouts.save_image(mask_path(root, NAMES[0]), np.zeros((5, 5), np.uint8))
    (root / "images" / f"{NAMES[1]}.png").write_bytes(b"PNG?")
    faults = check_dataset("folder", root, progress=False).faults
    assert len(faults) == 2 and "one of them was resized" in "".join(faults) and "half copied" in "".join(faults)


def test_the_same_picture_in_train_and_val_is_found_by_its_content(tmp_path):
    root = write_folder(tmp_path)
    train, val = (Folder(root, split).files[0] for split in ("train", "val"))
    for source, target in zip(train, val, strict=True):
        shutil.copy(source, target)
    (fault,) = check_dataset("folder", root, progress=False).faults
    assert f"{val[0]} of the split 'val' has the same pixels as {train[0]} of 'train'" in fault
    for name in ("park/same7", "town/same7"):  # one file name in two folders is no fault
        write_folder(root, names=[name])
    assert len(check_dataset("folder", root, progress=False).faults) == 1


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("red,green\n", "its first line is 'red,green', and must be name,red,green,blue"),
        ("", "must be name,red,green,blue"),
        (CSV + "bus,1,2\n", "line 6 has 3 cells"),
        (CSV + "bus,1,2,256\n", r"line 6 is \['bus', '1', '2', '256'\].*0 … 255"),
        (CSV + "bus,1,2,blue\n", "line 6 is .*whole numbers"),
        (CSV + ",1,2,3\n", "line 6: the name is ''"),
        (CSV + "car,1,2,3\n", "classes 2 and 3 are both called 'car'"),
        (CSV + "bus,0,128,0\n", r"'tree' and 'bus' have the same colour \(0, 128, 0\)"),
        ("name,red,green,blue\nvoid,0,0,0\n", "names no class"),
        (
            "name,red,green,blue\n" + "".join(f"c{i},{i % 256},{i // 256},0\n" for i in range(256)),
            "has 256 classes; 255",
        ),
    ],
)
def test_wrong_colour_tables_are_named(tmp_path, text, message):
    root = write_folder(tmp_path, "colours")
    (root / "colours.csv").write_text(text)
    with pytest.raises(DataError, match=rf"colours\.csv.*{message}"):
        Folder(root)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "names no class"),
        ("ground\n\ncar\n", "line 2 is empty"),
        ("ground\ntree\ntree\n", "classes 1 and 2 are both called 'tree'"),
        ("".join(f"c{number}\n" for number in range(256)), "has 256 classes; 255 are the most"),
        ("void\n" * 2 + "".join(f"c{number}\n" for number in range(255)), "has 257 lines"),
        ("ground\ntree\n", r"values beyond the classes: 2 \(\d+ pixels\).*values 0 to 1, void is \[255\]"),
    ],
)
def test_wrong_names_are_named(tmp_path, text, message):
    root = write_folder(tmp_path)
    (root / "classes.txt").write_text(text)
    with pytest.raises(DataError, match=rf"classes\.txt.*{message}|{message}"):
        list(Folder(root))


def test_what_masks_hold_is_told_to_who_has_yet_to_write_it_down(tmp_path):
    for kind, held in (("values", "holds the values 0, "), ("colours", "holds the colours (0, 0, 0), ")):
        root = write_folder(tmp_path / kind, kind)
        for name in ("classes.txt", "colours.csv"):
            (root / name).unlink(missing_ok=True)
        fault = fault_of(root)
        assert "lacks classes.txt" in fault and "name,red,green,blue" in fault and held in fault


def test_foreign_colours_are_named_with_their_pixels_and_the_nearest_known(tmp_path):
    root = write_folder(tmp_path, "colours")
    path = Folder(root).files[0][1]
    mask = np.array(Image.open(path))
    mask[:2, :3] = (127, 1, 0)
    layouts.save_image(path, mask)
    assert "(127, 1, 0) in 6 pixels (nearest: car (128, 0, 0))" in fault_of(root)
    size = mask.shape[1::-1]
    Image.fromarray(mask).resize((20, 20)).resize(size, Image.Resampling.BILINEAR).save(path)
    assert "JPEG compression or from smoothed edges (anti-aliasing)" in fault_of(root)
    Image.fromarray(mask).save(path, format="JPEG")
    assert "is a JPEG inside, whatever its name" in fault_of(root)
    Image.fromarray(mask).convert("RGBA").resize(size).save(path)
    faded = Image.open(path)
    faded.putalpha(100)
    faded.save(path)
    assert "is transparent in" in fault_of(root)
    layouts.save_image(path, np.ones(mask.shape[:2], np.uint8))
    assert "If the masks hold class numbers, remove" in fault_of(root)


def test_other_mistakes_say_what_to_do(tmp_path):
    root = write_folder(tmp_path / "mine")
    for arguments, message in (
        ({"split": "train_aug"}, "set train_split=train"),
        ({"masks": "labels"}, "lacks the folder labels (it holds images, masks); rename them, or say"),
        ({"images": "."}, "two folders beside each other"),
        ({"images": 3}, "images=3"),
        ({"val_share": 1}, "val_share=1: it must be a number between 0 and 1"),
        ({"seed": "a"}, "seed='a'"),
        ({"void": 256}, "void=256: it must be a value from 0 to 255"),
        ({"void": 1}, "the value 1 is 'tree' and in void=[1]"),
        ({"classes": "abc"}, "classes='abc': it must be a list"),
        ({"colours": "abc"}, "colours='abc': it must be a list"),
        ({"colours": [("a", 0, 0)]}, "colours, row 1 is ('a', 0, 0)"),
        ({"colours": pd.DataFrame({"name": ["a"]})}, "lacks red, green, blue"),
        ({"colours": ROWS}, "name other classes, or in another order; the colour table suffices"),
    ):
        if "colours" in arguments and arguments["colours"] is ROWS:
            (root / "classes.txt").write_text("tree\nground\ncar\n")
        assert message in fault_of(root, **arguments), arguments
    assert "void=0 is for masks of values" in fault_of(write_folder(tmp_path / "two", "colours"), void=0)
    for path in (root / "images").rglob("*.png"):
        path.unlink()
    assert "holds no image (.bmp" in fault_of(root)
    assert "1 image with a mask; it takes two" in fault_of(write_folder(tmp_path / "one", names=NAMES[:1]))
