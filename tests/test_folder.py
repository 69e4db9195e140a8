"""Your own data, from its files to a trained network, and `data check`, which names all faults at once."""

import os
import re
import shlex
import shutil
from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pytest
import torch
from layouts import COLOURS, CSV, OWN, ROWS, own_label, write_folder
from PIL import Image

from nnti.__main__ import main
from nnti.data import VOC, DataError, Folder, attach_cache, available, load_dataset
from nnti.data.check import check_dataset
from nnti.data.files import read_photo
from nnti.errors import RunError
from nnti.inference.evaluate import evaluate
from nnti.inference.files import find_images
from nnti.models import build_model
from nnti.models.saved import load_model
from nnti.training.loop import fit


def mask_path(root: Path, name: str) -> Path:
    return root / "masks" / f"{name}.png"


def names(dataset: Folder) -> list[str]:
    return [dataset.image_name(image) for image, _ in dataset.files]


def fault_of(root: Path, **arguments) -> str:
    """The error of opening a folder, or else of reading all of it."""
    with pytest.raises(DataError) as error:
        list(Folder(root, **arguments))
    return str(error.value)


# what is read


@pytest.mark.parametrize("kind", ["values", "palette", "colours"])
def test_images_and_labels_come_back(tmp_path, kind):
    root = write_folder(tmp_path / "my data", kind)
    both = [Folder(root, split) for split in ("train", "val")]
    assert [len(dataset) for dataset in both] == [8, 2] and sorted(names(both[0]) + names(both[1])) == OWN
    for dataset in both:
        assert (dataset.title, dataset.class_names) == ("my data", ("ground", "tree", "car"))
        for name, (image, label) in zip(names(dataset), dataset, strict=True):
            np.testing.assert_array_equal(image.permute(1, 2, 0), layouts.draw_image(name))
            np.testing.assert_array_equal(label, own_label(name))
    table = COLOURS if kind == "colours" else np.array(layouts.voc_palette()).reshape(-1, 3)
    np.testing.assert_array_equal(both[0].palette, table[:3])
    assert both[0].void_color == ((255, 255, 255) if kind == "colours" else (224, 224, 192))


def test_values_may_have_void_among_the_names_or_as_arguments(tmp_path):
    root = write_folder(tmp_path)
    (root / "classes.txt").write_text("ground\nVoid\ncar\n")
    dataset = Folder(root)
    raw = own_label(names(dataset)[0])
    assert dataset.class_names == ("ground", "car")
    np.testing.assert_array_equal(dataset[0][1], np.array([0, 255, 1])[np.where(raw == 255, 1, raw)])
    two = Folder(root, classes=["ground", "tree"], void=[2, 255])
    np.testing.assert_array_equal(two[0][1], np.where(raw >= 2, 255, raw))


def test_a_colour_table_has_many_forms(tmp_path):
    root = write_folder(tmp_path, "colours")
    expected = Folder(root)
    tables = [
        [list(row) for row in ROWS],  # as JSON has it
        {name: colour for name, *colour in ROWS},
        pd.DataFrame(ROWS, columns=["name", "red", "green", "blue"]),
        None,  # the file, as Excel writes it in some countries
    ]
    (root / "colours.csv").write_bytes(("\ufeff" + CSV.replace(",", ";") + ";;;\n").replace("\n", "\r\n").encode())
    for table in tables:
        dataset = Folder(root, colours=table)
        assert dataset.encoding == expected.encoding and torch.equal(dataset[0][1], expected[0][1])


def test_colours_are_read_whatever_mode_shows_them(tmp_path):
    root = write_folder(tmp_path, "colours")
    for name, mode in zip(OWN, ("P", "RGBA"), strict=False):
        Image.open(mask_path(root, name)).convert(mode, palette=Image.Palette.ADAPTIVE).save(mask_path(root, name))
    for dataset in (Folder(root), Folder(root, "val")):
        for name, (_, label) in zip(names(dataset), dataset, strict=True):
            np.testing.assert_array_equal(label, own_label(name))


def test_black_and_white_masks_are_colours_or_values_but_never_void_by_chance(tmp_path):
    root = write_folder(tmp_path)
    (root / "classes.txt").write_text("ground\ntree\n")
    for white, advice in ((1, None), (255, "other masks have as 1"), (255, "ground,0,0,0 and tree,255,255,255")):
        changed = OWN[-1:] if advice == "other masks have as 1" else OWN
        for name in changed:
            layouts.save_image(mask_path(root, name), np.where(own_label(name) == 1, white, 0).astype(np.uint8))
        found = " ".join(check_dataset("folder", root, progress=False).faults)
        assert advice in found if advice else not found
        assert ("void=255" in found) == (advice == "other masks have as 1")  # else one class alone would remain
    assert 255 in Folder(root, void=[255])[0][1]
    (root / "classes.txt").unlink()
    dataset = Folder(root, colours={"ground": (0, 0, 0), "tree": (255, 255, 255)})
    np.testing.assert_array_equal(dataset[0][1], own_label(names(dataset)[0]) == 1)


def test_greys_of_three_classes_are_read_by_a_colour_table_and_255_is_not_lost(tmp_path):
    root = write_folder(tmp_path)
    (root / "classes.txt").write_text("ground\ntree\ncar\n")
    truth = {name: own_label(name) % 3 for name in OWN}
    for greys, advice in (
        ((0, 1, 255), "such as car, which no mask holds, save it as 2"),
        ((0, 128, 255), "write a colours.csv"),
    ):
        for name in OWN:
            layouts.save_image(mask_path(root, name), np.array(greys, np.uint8)[truth[name]])
        found = check_dataset("folder", root, progress=False)
        assert advice in " ".join([*found.notes, *found.faults])
    rows = "ground,0,0,0\ntree,128,128,128\ncar,255,255,255\n"  # what the advice says
    (root / "colours.csv").write_text(f"{HEAD}{rows}")
    (root / "classes.txt").unlink()
    assert check_dataset("folder", root, progress=False).faults == []
    np.testing.assert_array_equal(Folder(root)[0][1], truth[names(Folder(root))[0]])


def test_the_files_own_values_are_known(tmp_path):
    root = write_folder(tmp_path)
    dataset = Folder(root, classes=["void", "tree", "car"], void=[255, 0])
    assert dataset.label_values == [1, 2]
    raw = torch.from_numpy(own_label(names(dataset)[0]))
    table = torch.full((256,), 0, dtype=torch.uint8)
    table[:2] = torch.tensor(dataset.label_values)
    assert torch.equal(table[dataset[0][1].long()], raw.where(raw != 255, 0))


def test_sixteen_bits_of_a_mask_are_read_where_they_hold_small_numbers(tmp_path):
    root = write_folder(tmp_path)
    for name in OWN:
        layouts.save_image(mask_path(root, name), own_label(name).astype(np.uint16))
    np.testing.assert_array_equal(Folder(root)[0][1], own_label(names(Folder(root))[0]))
    layouts.save_image(mask_path(root, OWN[0]), own_label(OWN[0]).astype(np.uint16) * 257)
    assert "holds values up to 65535" in "".join(check_dataset("folder", root, progress=False).faults)


def repainted(root: Path, name: str, old: int, new: int) -> None:
    """Give one mask other values, and its palette the colours to match."""
    mask = Image.open(mask_path(root, name))
    palette, values = np.array(mask.getpalette()).reshape(-1, 3), np.array(mask)
    palette[[old, new]] = palette[[new, old]]
    swapped = Image.fromarray(np.where(values == old, new, np.where(values == new, old, values)).astype(np.uint8))
    swapped.putpalette(palette.flatten().tolist())
    swapped.save(mask_path(root, name))


def degenerate(root: Path, kind: str) -> str:
    """Make a data set whose files are right one by one; return what is said of them together."""
    val = names(Folder(root, "val"))
    for name in OWN:
        label = own_label(name)
        if kind == "white":  # nothing painted in the masks that are read first
            label = np.where(label == 1, 255, 0) if name in OWN[4:] else np.zeros_like(label)
        elif kind == "void" and name in val:
            label[:] = 255
        layouts.save_palette(mask_path(root, name), label.astype(np.uint8))
    if kind == "palette":
        repainted(root, OWN[7], 1, 2)
    elif kind == "grey":  # of two tools that number their greys in another order
        for name in OWN:
            mask, greys = Image.open(mask_path(root, name)), [0, 2, 1] if name == OWN[7] else [0, 1, 2]
            mask.putpalette([grey for grey in [*greys, *range(3, 256)] for _ in range(3)])
            mask.save(mask_path(root, name))
    return {"white": "If white is a class, write a colours.csv", "void": "all labels of 'val' .* are void",
            "grey": r"shows the value 1 in the colour \(2, 2, 2\), and .* in \(1, 1, 1\)",
            "palette": r"photo2.png shows the value \d in the colour .*colours=false"}[kind]  # fmt: skip


@pytest.mark.parametrize("kind", ["white", "void", "palette", "grey"])
@pytest.mark.parametrize("cache", ["none", "disk"])
def test_labels_that_mean_nothing_together_are_refused_before_time_is_spent(places, tiny, kind, cache):
    root = write_folder(places / "mine")
    said = degenerate(root, kind)
    (fault,) = check_dataset("folder", root, progress=False).faults
    assert re.search(said, fault)
    experiment = tiny.replace(
        dataset="folder", dataset_arguments={"root": "mine"}, train_split="train", epochs=1, cache=cache
    )
    with pytest.raises(DataError, match=said):
        fit(experiment, progress=False)
    model = build_model("r2unet", 3, {"widths": [4, 6]})
    with pytest.raises(DataError, match=said):
        evaluate(model, experiment, Folder(root, "val"), progress=False)
    if kind == "palette":  # both ways out
        assert check_dataset("folder", root, progress=False, arguments={"colours": False}).faults == []
        table = {name: tuple(layouts.voc_palette()[3 * at :][:3]) for at, name in enumerate(("ground", "tree", "car"))}
        table["void"] = tuple(layouts.voc_palette()[-3:])
        for split in ("train", "val"):
            dataset = Folder(root, split, colours=table)
            for name, (_, label) in zip(names(dataset), dataset, strict=True):
                np.testing.assert_array_equal(label, own_label(name))


def test_what_may_be_meant_otherwise_is_noted(places, tiny):
    root = write_folder(places / "mine")
    first, second, third, fourth, *rest = OWN
    layouts.save_image(mask_path(root, first), np.where(own_label(first) == 255, 255, 0).astype(np.uint8))
    layouts.save_palette(mask_path(root, second), own_label(second))
    for part in ("images", "masks"):
        shutil.copy(root / part / f"{third}.png", root / part / f"{fourth}.png")
    layouts.save_image(mask_path(root, rest[0]), np.full_like(own_label(rest[0]), 255))
    (root / "train.txt").write_text("\n".join([*OWN[:8], first]))
    (root / "val.txt").write_text("\n".join(OWN[8:]))
    (root / "test.txt").touch()
    Image.fromarray(own_label(rest[1]) == 1).save(mask_path(root, rest[1]))
    for other in ("splits/train.txt", "images/.old/photo9.png", "images/._photo8.png"):
        (root / other).parent.mkdir(exist_ok=True)
        (root / other).touch()
    found = check_dataset("folder", root, progress=False)
    said = "\n".join(found.notes)
    assert found.faults == [] and "1 of 10 masks hold 0 and 255 alone" in said
    assert "which other masks have as a number, save it with that number" in said
    assert f"white is read as 1: {mask_path(root, rest[1])} (1 in all)" in said
    assert f"1 masks have a palette and 9 have none ({mask_path(root, second)} is" in said
    assert f"again in train: {root}/images/{fourth}.png (as {root}/images/{third}.png) (1 in all)" in said
    assert "1 labels of train are void everywhere" in said
    assert "are the splits: splits/train.txt, test.txt (2 in all)" in said
    assert "hidden in" in said and ": .old/photo9.png (1 in all)" in said
    assert f"train.txt: {first} (1 in all)" in said
    changes = {"dataset": "folder", "dataset_arguments": {"root": "mine"}, "train_split": "train", "val_split": "train"}
    with pytest.warns(UserWarning, match="8 of the 8 images of 'train' are in 'train' too"):
        fit(tiny.replace(**changes), progress=False)


def test_palettes_may_differ_where_it_shows_nowhere(tmp_path):
    root = write_folder(tmp_path, "palette")
    mask = Image.open(mask_path(root, OWN[0]))
    colours = np.array(mask.getpalette()).reshape(-1, 3)
    colours[100] = colours[1]
    mask.putpalette(colours.flatten().tolist())
    mask.save(mask_path(root, OWN[0]))
    assert check_dataset("folder", root, progress=False).faults == []


def test_a_class_that_only_val_has_is_named_when_a_training_begins(places, tiny):
    root = write_folder(places / "mine")
    for name in set(OWN) - set(names(Folder(root, "val"))):
        layouts.save_image(mask_path(root, name), np.minimum(own_label(name), 1))
    (root / "images" / "notes.txt").touch()
    experiment = tiny.replace(dataset="folder", dataset_arguments={"root": "mine"}, train_split="train", epochs=1)
    with pytest.warns(UserWarning) as caught:
        fit(experiment, progress=False)
    said = [str(warning.message) for warning in caught]
    assert any("never in the labels of 'train', but in 'val': car" in text for text in said)
    assert any("passed over, no images in" in text and "notes.txt (1 in all)" in text for text in said)


def test_no_score_comes_from_crops_without_a_label(places, tiny, capsys):
    root = write_folder(places / "mine")
    for name in OWN:  # labelled at one side only, out of reach of the crop
        label = own_label(name)
        label[:] = 255
        label[:, -2:] = 0, 1
        layouts.save_image(mask_path(root, name), label)
    experiment = tiny.replace(
        dataset="folder", dataset_arguments={"root": "mine"}, train_split="train", epochs=1, crop_size=8, val_size=8
    )
    with pytest.raises(DataError, match="no labelled pixel of 'val' lies in the crop .* protocol=full"):
        list(fit(experiment, progress=False))
    with pytest.warns(UserWarning, match="nothing was learned in epoch 1"):
        list(fit(experiment.replace(protocol="full"), places / "run", progress=False))
    assert main(["evaluate", str(places / "run"), "--quiet"]) == 0
    said = capsys.readouterr().out
    assert "report protocol: nothing was measured" in said and "this rests on " in said


def test_a_score_that_rests_on_one_class_is_said_to(places, tiny):
    root = write_folder(places / "mine")
    for name in names(Folder(root, "val")):  # another class at one side only, out of reach of the crop
        label = np.zeros_like(own_label(name))
        label[:, -2:] = 1
        layouts.save_image(mask_path(root, name), label)
    experiment = tiny.replace(
        dataset="folder", dataset_arguments={"root": "mine"}, train_split="train", epochs=1, val_size=8
    )
    said = "'val' shows one class only by the report protocol, ground: "
    cut = "not in the crop of the report protocol, .*: tree. .*--protocol full in evaluate"
    with pytest.warns(UserWarning, match=said), pytest.warns(UserWarning, match=cut):
        run = fit(experiment, progress=False)
        list(run)
    with pytest.warns(UserWarning, match=said), pytest.warns(UserWarning, match=cut):
        evaluate(run.model, experiment, Folder(root, "val"), "report", progress=False)


# splits


def test_an_export_of_cvat_brings_its_own_colours_and_lists(tmp_path):
    root = layouts.write_cvat(tmp_path)
    train, val = (Folder(root, split, images="JPEGImages", masks="SegmentationClass") for split in ("train", "val"))
    assert (names(train), names(val), train.class_names) == (["f0", "f 1"], ["f3"], ("ground", "tree", "car"))
    np.testing.assert_array_equal(train[1][1], own_label("f 1 1"))
    assert "passed over, in neither list: f2 (1 in all)" in train.notes
    for name in ("Train", "Validation"):
        (root / "ImageSets" / "Segmentation" / f"{name}.txt").unlink()
    (root / "test.txt").touch()
    for part in ("JPEGImages", "SegmentationClass"):
        shutil.copytree(root / part, root / part / "valid")
    (root / "classes.txt").touch()
    drawn = Folder(root, images="JPEGImages", masks="SegmentationClass", classes=["a", "b", "c"], colours=False)
    said = " ".join(drawn.notes)
    assert len(drawn) == 6 and "passed over, as the split is drawn" in said
    assert "test.txt, valid, ImageSets/Segmentation (3 in all)" in said
    assert "as classes has the classes: classes.txt, labelmap.txt (2 in all)" in said


def test_linked_folders_belong_to_it_and_no_file_is_left_out_in_silence(tmp_path):
    big, root = write_folder(tmp_path / "big"), write_folder(tmp_path / "mine", names=["a1", "a2"])
    for part in ("images", "masks"):
        (root / part / "city").symlink_to(big / part, target_is_directory=True)
        (root / part / "city" / "back").symlink_to(root / part, target_is_directory=True)  # no way out of this circle
    assert sorted(names(Folder(root)) + names(Folder(root, "val"))) == sorted(["a1", "a2", *(f"city/{x}" for x in OWN)])
    assert len(find_images([root / "images"])) == 12
    (root / "masks" / "a1.png").rename(root / "masks" / "a1.npy")
    (root / "masks" / "a2.json").touch()
    (root / "masks" / "a2.PNG").write_bytes((root / "masks" / "a2.png").read_bytes())
    found = check_dataset("folder", root, progress=False)
    assert len(found.faults) == 2 and "a1.npy: masks are read from PNG only" in found.faults[1]
    assert "masks of one name" in found.faults[0] and "a2.json (1 in all)" in found.notes[0]
    (root / "images" / "city" / "b.heic").touch()
    with pytest.warns(UserWarning, match="b.heic .1 in all"):
        find_images([root / "images"])


def test_the_split_depends_on_names_and_seed_alone(tmp_path):
    root = write_folder(tmp_path / "one")
    val = names(Folder(root, "val"))
    assert val == ["park/photo4", "town/photo1"]  # the same on every machine
    assert sorted(val + names(Folder(root))) == OWN
    assert names(Folder(write_folder(tmp_path / "two", names=OWN[::-1]), "val")) == val  # files lie in any order
    assert len(Folder(root, "val", val_share=0.5)) == 5
    assert len({tuple(names(Folder(root, "val", seed=seed))) for seed in range(8)}) > 3
    assert len(Folder(root, "val", val_share=0.001)) == len(Folder(root, "train", val_share=0.999)) == 1


def test_lists_say_what_is_in_a_split(tmp_path):
    root = write_folder(tmp_path)
    layouts.write_list(root / "train.txt", ["town/photo1", "park/photo0.png", "park\\photo2"])
    layouts.write_list(root / "val.txt", ["town/photo3"])
    assert names(Folder(root)) == ["town/photo1", "park/photo0", "park/photo2"]
    assert "leave out val_share and seed" in fault_of(root, seed=1)
    layouts.write_list(root / "val.txt", ["town/photo1", "town/foto4"])
    assert "town/foto4, which is no image with a mask (did you mean town/photo4" in fault_of(root, split="val")
    faults = check_dataset("folder", root, progress=False).faults
    assert len(faults) == 2 and "in the split 'val' and in 'train' as well" in faults[1]
    (root / "val.txt").unlink()
    assert "has train.txt alone" in fault_of(root)


# as an experiment


def test_relative_roots_are_looked_for_here_and_then_in_the_data_roots(places):
    there = write_folder(places / "data" / "mine")
    assert load_dataset("folder", "val", arguments={"root": "mine", "val_share": 0.5}).root == there
    here = write_folder(places / "mine")
    assert Folder("mine").root == here and available("folder", {"root": "mine"})
    assert all(str(root / "mien") in fault_of("mien") for root in (places, places / "data"))
    with pytest.raises(DataError, match="needs to know where it lies.*--root PATH"):
        load_dataset("folder", "train")
    with pytest.raises(DataError, match="did you mean 'val_share'"):
        load_dataset("folder", "train", arguments={"root": "mine", "val_shar": 0.1})


def test_a_decoded_copy_is_made_anew_when_the_colours_or_the_split_change(places):
    root = write_folder(places / "mine", "colours")
    first = Folder(root)
    assert attach_cache(first, "disk", progress=False) == "disk"
    again = Folder(root)
    assert attach_cache(again, "disk", build=False) == "disk" and torch.equal(again[0][1], first.read(0)[1])
    swapped = [("ground", 0, 128, 0), ("tree", 0, 0, 0), *ROWS[2:]]  # the same names, other colours
    for other in (Folder(root, colours=swapped), Folder(root, seed=1), Folder(root, "val")):
        assert attach_cache(other, "disk", build=False) == "none"
    mask, times = mask_path(root, names(first)[0]), (root / "masks").stat()
    for _ in range(2):  # as from an archive, whose files all have the size and the time that they had before
        mask.write_bytes(mask.read_bytes())
        os.utime(mask, ns=(times.st_atime_ns, times.st_mtime_ns))
        assert attach_cache(Folder(root), "disk", build=False) == "none"
        assert attach_cache(Folder(root), "disk", progress=False) == "disk"


def test_any_experiment_trains_on_a_folder_remembers_its_classes_and_writes_nothing_there(places, tiny):
    root = write_folder(places / "mine", "colours")
    before = {path: path.stat().st_mtime_ns for path in (root, *root.rglob("*"))}
    experiment = tiny.replace(
        dataset="folder", dataset_arguments={"root": "mine"}, train_split="train", epochs=1, cache="disk"
    )
    run = fit(experiment, progress=False)
    assert len(list(run)) == 1 and run.run.record()["data"]["title"] == "mine" and run.train_data.cache == "disk"
    assert {path: path.stat().st_mtime_ns for path in (root, *root.rglob("*"))} == before
    _, checkpoint = load_model(run.run.best)
    assert checkpoint["class_names"] == ["ground", "tree", "car"] and checkpoint["palette"] == COLOURS[:3].tolist()
    (root / "colours.csv").write_text(CSV.replace("tree,", "bush,"))
    with pytest.raises(RunError, match="was trained with 3 classes"):
        fit(experiment, progress=False)


# faults


def test_a_command_converts_all_images_and_keeps_originals_and_their_range(places, capsys, monkeypatch):
    root = write_folder(places / "my data")
    for name in OWN[1:]:  # 12 bits in 16
        deep = layouts.draw_image(name)[..., 0].astype(np.uint16) * 16
        layouts.save_image(root / "images" / f"{name}.tif", deep)
        (root / "images" / f"{name}.png").unlink()
    before = {path: path.read_bytes() for path in root.rglob("*.tif")}
    assert main(["data", "check", "folder", "--root", str(root), "--quiet"]) == 1
    (line,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("python "))
    assert main([*shlex.split(line)[3:], "--quiet"]) == 0 and "--bits 12" in capsys.readouterr().out
    assert before == {path: path.read_bytes() for path in root.rglob("*.tif")}
    command = ["data", "check", "folder", "--root", str(root), "--quiet", "--set", "images=images_rgb"]
    assert main(command) == 0, capsys.readouterr().out
    for dataset in (Folder(root, split, images="images_rgb") for split in ("train", "val")):
        for name, (image, _) in zip(names(dataset), dataset, strict=True):
            drawn = torch.from_numpy(layouts.draw_image(name)).permute(2, 0, 1).int()
            assert (image.int() - (drawn if name == OWN[0] else drawn[:1])).abs().max() <= 1
    assert main(shlex.split(line)[3:]) == 1 and "name a new folder" in capsys.readouterr().err
    shutil.copy(root / "images" / f"{OWN[1]}.tif", root / "images" / f"{OWN[0]}.tif")  # beside a PNG of that name
    images, new = str(root / "images"), root / "new"
    assert main(["convert", images, str(new)]) == 1 and "would both become" in capsys.readouterr().err
    (root / "images" / f"{OWN[0]}.tif").unlink()
    for source, target, fault in ((images, root / "images" / "new", "hold every image twice"),
                                  (str(root / "imges"), new, "there is no folder")):  # fmt: skip
        assert main(["convert", source, str(target)]) == 1 and fault in capsys.readouterr().err
    (root / "images" / "more.jp2").touch()
    layouts.save_image(root / "images" / "hot.tif", np.array([[0, 65535]], np.uint16))
    turned = Image.Exif()
    turned[274] = 3
    Image.new("RGB", (4, 6)).save(root / "images" / "turned.jpg", exif=turned)
    layouts.save_tiff(root / "images" / "infrared.tif", np.full((6, 4, 4), 9, np.uint8))
    with monkeypatch.context() as patched:  # stopped in the middle
        patched.setattr(
            "nnti.data.convert._convert", lambda path, place, bits: 1 / (path.stem != OWN[3].split("/")[-1])
        )
        with pytest.raises(ZeroDivisionError):
            main(["convert", images, str(new)])
    assert sorted(path.name for path in root.iterdir()) == ["classes.txt", "images", "images_rgb", "masks"]
    assert main(["convert", images, str(new)]) == 0
    said = capsys.readouterr().out
    assert "no images: more.jp2 (1 in all)" in said and "masks may not fit: turned.jpg (1 in all)" in said
    assert "become dark; " in said and "hot.tif has 65535" in said
    assert "bands beyond red, green, blue and opacity left out: infrared.tif (1 in all)" in said
    assert main(["convert", images, str(root / "other"), "--bits", "12"]) == 1
    assert "hot.tif holds 65535, which needs 16 bits, more than 12" in capsys.readouterr().err
    assert main(["predict", "enet_camvid", str(next(iter(before)))]) == 1  # in the dark
    assert "python -m nnti convert" in capsys.readouterr().err


@pytest.mark.parametrize("bands", [3, 2, 4])  # colours; grey and opacity; colours and opacity
def test_sixteen_bits_a_band_that_hold_fewer_are_refused(tmp_path, bands):
    """Pillow reads the upper eight bits of them, in which a camera's 10 bits are four levels."""
    pixels = np.full((6, 5, bands), 1023, ">u2")
    if bands != 3:
        pixels[..., -1] = 65535
    lines = b"".join(b"\0" + row.tobytes() for row in pixels)
    layouts.save_png(tmp_path / "deep.png", (6, 5), 16, {3: 2, 2: 4, 4: 6}[bands], lines)
    with pytest.raises(DataError, match="deep.png has 16 bits a colour .* nearly black"):
        read_photo(tmp_path / "deep.png")


def test_masks_of_colours_with_a_list_of_names_are_told_to_have_a_table(tmp_path):
    root = write_folder(tmp_path, "colours")
    (root / "classes.txt").write_text("ground\ntree\ncar\n")
    (root / "colours.csv").rename(root / "kept")
    faults = check_dataset("folder", root, progress=False).faults
    assert all("the colours (0, 0, 0), " in fault and "write a colours.csv instead of" in fault for fault in faults)
    (root / "kept").rename(root / "colours.csv")
    assert len(faults) == len(OWN) and check_dataset("folder", root, progress=False).faults == []


def test_grey_masks_of_few_bits_are_read_as_they_are_stored(tmp_path):
    root = write_folder(tmp_path)
    for name, bits in zip(OWN, (2, 4, 1), strict=False):
        label = np.minimum(own_label(name), 1 if bits == 1 else 2)
        layouts.save_grey_png(mask_path(root, name), label, bits)
        data = next(data for data in (Folder(root), Folder(root, "val")) if name in names(data))
        np.testing.assert_array_equal(data.label(names(data).index(name)), label)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252"])
def test_names_of_classes_are_read_or_refused_in_any_encoding(tmp_path, encoding):
    root = write_folder(tmp_path)
    (root / "classes.txt").write_bytes("Straße\r\nBäume\r\nAuto\r\n".encode(encoding))
    if encoding in ("cp1252", "utf-16-le"):
        assert "classes.txt is not UTF-8 text" in fault_of(root) and "Save it as UTF-8" in fault_of(root)
    else:
        assert Folder(root).class_names == ("Straße", "Bäume", "Auto")


def test_all_faults_of_pairing_are_told_at_once(tmp_path):
    root = write_folder(tmp_path / "mine")
    a, b, c, d, e, f, *_ = OWN
    mask_path(root, a).unlink()
    mask_path(root, b).rename(mask_path(root, f"{b}_mask"))
    shutil.copy(root / "images" / f"{c}.png", root / "images" / f"{c}.JPG")
    Image.open(mask_path(root, d)).save(mask_path(root, d).with_suffix(".jpg"))
    mask_path(root, d).unlink()
    (root / "images" / f"{e}.png").rename(root / "images" / f"{e}.heic")
    layouts.save_image(mask_path(root, f), np.full((9, 9), 7, np.uint8))  # two more, found by reading
    parts = [f"{a}.png is an image without mask; add", "photo2.png are images of one name",
             f"{b}.png is an image without mask (did you mean {mask_path(root, f'{b}_mask')}?",
             f"{b}_mask.png is a mask without image (did you mean {root}/images/{b}.png?",
             f"{d}.jpg: masks are read from PNG only", f"{e}.heic as JPEG or PNG"]  # fmt: skip
    fault = fault_of(root)
    assert all(part in fault for part in parts) and len(fault.splitlines()) == len(parts), fault
    found = check_dataset("folder", root, progress=False)
    more = ["holds values beyond the classes: 7 (81 pixels)", "photo0.png is an image without mask"]
    assert all("\n".join(found.faults).count(part) == 1 for part in (*parts, *more))
    assert len(found.faults) == 7 and found.samples == {"train": 5, "val": 1}


HEAD = "name,red,green,blue\n"


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("colours.csv", "red,green\n", "its first line is 'red,green', and must be name,red,green,blue"),
        ("colours.csv", f"{HEAD}bus,1,2\n", r"row 1 is \['bus', '1', '2', None\].*0 … 255"),
        ("colours.csv", f"{HEAD}car,1,2,3\nbus,1,2,256\n", "row 2 is .*0 … 255"),
        ("colours.csv", f"{HEAD}car,9,2,3\ncar,1,2,3\n", "classes 0 and 1 are both called 'car'"),
        ("colours.csv", f"{HEAD}car,1,2,3\nbus,1,2,3\n", r"'car' and 'bus' have the same colour \(1, 2, 3\)"),
        ("colours.csv", f"{HEAD}void,0,0,0\n", "names 0 classes"),
        ("classes.txt", "__ignore__\nground\ntree\n", "has the line '__ignore__': remove it"),
        ("classes.txt", "1 leaf\n2 stem\n0 background\n", "has numbers, as in '1 leaf'"),
        ("classes.txt", "ground\t0\ntree\t1\ncar\t2\n", "has numbers, as in 'ground\t0'"),
        ("classes.txt", "", "names 0 classes"),
        ("classes.txt", "ground\n\ntree\ncar\n", "is blank, and each line names a value"),
        ("classes.txt", "ground\ntree\ntree\n", "classes 1 and 2 are both called 'tree'"),
        ("classes.txt", "ground\ntree\n", "has 2 classes, void is"),
    ],
)
def test_wrong_tables_of_classes_are_named(tmp_path, file, text, message):
    root = write_folder(tmp_path, "colours" if file == "colours.csv" else "values")
    (root / file).write_text(text)
    with pytest.raises(DataError, match=rf"{file}.*{message}"):
        list(Folder(root))


@pytest.mark.parametrize(("kind", "held"), [("values", "holds the values 0, "), ("colours", "the colours (0, 0, 0), ")])
def test_without_a_table_of_classes_the_error_says_what_the_masks_hold(tmp_path, kind, held):
    root = write_folder(tmp_path, kind)
    os.remove(root / ("colours.csv" if kind == "colours" else "classes.txt"))
    fault = fault_of(root)
    assert "lacks classes.txt" in fault and "name,red,green,blue" in fault and held in fault


def test_foreign_colours_are_named_with_their_pixels_and_the_nearest_known(tmp_path):
    root = write_folder(tmp_path, "colours")
    path = Folder(root).files[0][1]
    mask = np.array(Image.open(path))
    mask[:2, :3] = (127, 1, 0)
    layouts.save_image(path, mask)
    found = fault_of(root)
    assert "(127, 1, 0) in 6 pixels (nearest: car (128, 0, 0))" in found and "correct its row" in found
    layouts.save_image(path, np.where(mask == 127, 250, mask))
    assert "If only this mask holds them, save it as the others are" in fault_of(root)
    Image.fromarray(mask).resize((20, 20)).resize(mask.shape[1::-1], Image.Resampling.BILINEAR).save(path)
    assert "smoothed edges (anti-aliasing)" in fault_of(root)
    layouts.save_image(path, np.dstack([mask, np.full(mask.shape[:2], 100, np.uint8)]))
    assert "is transparent in" in fault_of(root)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"split": "train_aug"}, "name one of these (--split in evaluate"),
        ({"masks": "images"}, "are one folder: move the masks"),
        ({"masks": "labels"}, "lacks the folder labels (it holds images, masks); rename them, or say"),
        ({"val_share": 1.5}, "val_share=1.5: it must be a number between 0 and 1"),
        ({"classes": "ground"}, "classes='ground': it must be a list of names"),
        ({"void": 256}, "void=256: it must be a value from 0 to 255"),
        ({"colours": [("a", 0, 0)]}, "colours, row 1 is ('a', 0, 0)"),
        ({"colours": ROWS, "void": 0}, "leave out classes= and void="),
    ],
)
def test_other_mistakes_say_what_to_do(tmp_path, arguments, message):
    assert message in fault_of(write_folder(tmp_path), **arguments)


# data check


def test_all_faults_of_a_published_data_set_are_told_at_once(tmp_path):
    voc = layouts.write_voc(tmp_path)
    first, second, third = layouts.VOC_TRAIN
    Image.open(voc / "JPEGImages" / f"{first}.jpg").convert("L").save(voc / "JPEGImages" / f"{first}.jpg")
    (voc / "SegmentationClass" / f"{first}.png").write_bytes(b"PNG?")  # both faults of one sample
    (voc / "SegmentationClass" / f"{second}.png").unlink()
    layouts.save_palette(voc / "SegmentationClass" / f"{third}.png", np.full((5, 5), 99, dtype=np.uint8))  # two again
    found = check_dataset("voc", tmp_path, progress=False)
    parts = (f"{first}.jpg has mode L", f"{first}.png cannot be read", f"{second}.png is missing", "label values [99]",
             "one of them was resized")  # fmt: skip
    assert len(found.faults) == len(parts)
    assert all(sum(part in fault for fault in found.faults) == 1 for part in parts), found.faults


def test_a_whole_data_set_has_no_faults_and_tells_what_is_not_there(tmp_path):
    layouts.write_voc(tmp_path)
    layouts.write_cityscapes(tmp_path)
    found = check_dataset("voc", tmp_path, progress=False)
    assert (found.faults, found.samples) == ([], {"train": 3, "val": 2, "trainval": 5})
    assert found.absent["train_aug"].startswith("SBD, which the split 'train_aug' needs, was not found")
    seen = torch.cat([label.flatten() for _, label in VOC("train", tmp_path)])
    assert found.unseen["train"] == [name for number, name in enumerate(VOC.class_names) if number not in seen]
    assert check_dataset("cityscapes", tmp_path, progress=False).faults == []
    with pytest.raises(DataError, match="python -m nnti data camvid"):
        check_dataset("camvid", tmp_path, progress=False)


def test_an_image_of_train_among_those_of_val_is_found_by_its_name_or_its_pixels(tmp_path):
    camvid, name = layouts.write_camvid(tmp_path / "camvid"), layouts.CAMVID["train"][0]
    for ending in ("", "annot"):
        shutil.copy(camvid / f"train{ending}" / f"{name}.png", camvid / f"val{ending}" / f"{name}.png")
    layouts.write_list(camvid / "val.txt", [f"/x/val/{name}.png /x/valannot/{name}.png"])
    (fault,) = check_dataset("camvid", tmp_path, progress=False).faults
    assert f"val/{name}.png is in the split 'val' and in 'train' as well" in fault
    root = write_folder(tmp_path / "mine", names=[*OWN, "park/same7", "town/same7"])  # of one file name: no fault
    train, val = (Folder(root, split).files[0] for split in ("train", "val"))
    for source, target in zip(train, val, strict=True):
        shutil.copy(source, target)
    (fault,) = check_dataset("folder", root, progress=False).faults
    assert f"{val[0]} of the split 'val' has the same pixels as {train[0]} of 'train'" in fault
