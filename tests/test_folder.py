"""One's own data: a folder of images and masks, from its files to a trained network and back."""

import json
import os
import shutil
from pathlib import Path

import layouts
import numpy as np
import pandas as pd
import pytest
import torch
from own_folder import CSV, NAMES, ROWS, TABLE, fault_of, label_of, mask_path, write_folder
from PIL import Image

from nnti.__main__ import main
from nnti.data import CamVid, DataError, Folder, attach_cache, available, load_dataset
from nnti.data.masks import distinct_colours
from nnti.errors import RunError, SettingError
from nnti.experiment import Experiment
from nnti.figures import best_and_worst
from nnti.folders import data_roots
from nnti.loaders import load_split
from nnti.models.saved import load_model
from nnti.training.loop import fit
from nnti.training.run_folder import RunFolder

SETTINGS = ["epochs=1", "val_every=1", "base_size=48", "crop_size=32", "val_size=32", "batch_size=2"]


@pytest.fixture
def places(tmp_path, monkeypatch) -> Path:
    for name in ("data", "runs", "figures", "cache"):
        monkeypatch.setenv(f"NNTI_{name.upper()}", str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    return tmp_path


# what is read


@pytest.mark.parametrize("kind", ["values", "palette", "colours"])
def test_images_and_labels_come_back(tmp_path, kind):
    root = write_folder(tmp_path / "my data", kind)
    both = [Folder(root, split) for split in ("train", "val")]
    found = [dataset.image_name(image) for dataset in both for image, _ in dataset.files]
    assert sorted(found) == NAMES and [len(dataset) for dataset in both] == [8, 2]
    for dataset in both:
        assert (dataset.title, dataset.class_names) == ("my data", ("ground", "tree", "car"))
        for index, (image, _) in enumerate(dataset.files):
            name = dataset.image_name(image)
            pixels, label = dataset[index]
            np.testing.assert_array_equal(pixels.permute(1, 2, 0), layouts.draw_image(name))
            np.testing.assert_array_equal(label, label_of(name))
    own = np.array(layouts.voc_palette()).reshape(-1, 3)[:3]
    colours = {"values": distinct_colours(3), "palette": own, "colours": TABLE[:3]}[kind]
    np.testing.assert_array_equal(both[0].palette, colours)
    assert both[0].void_color == {"colours": (255, 255, 255)}.get(kind, (224, 224, 192))


def test_values_may_have_void_among_the_names_or_as_arguments(tmp_path):
    root = write_folder(tmp_path)
    (root / "classes.txt").write_text("ground\nVoid\ncar\n")
    dataset = Folder(root)
    expected = np.array([0, 255, 1], dtype=np.uint8)
    name = dataset.image_name(dataset.files[0][0])
    raw = label_of(name)
    np.testing.assert_array_equal(dataset[0][1], np.where(raw == 255, 255, expected[np.minimum(raw, 2)]))
    assert dataset.class_names == ("ground", "car")
    two = Folder(root, classes=["ground", "tree"], void=[2, 255])
    np.testing.assert_array_equal(two[0][1], np.where(raw >= 2, 255, raw))


@pytest.mark.parametrize("form", ["list", "dict", "frame", "json", "semicolons"])
def test_a_colour_table_has_many_forms(tmp_path, form):
    root = write_folder(tmp_path, "colours")
    expected = Folder(root)
    table = {
        "list": ROWS,
        "dict": {name: colour for name, *colour in ROWS},
        "frame": pd.DataFrame(ROWS, columns=["name", "red", "green", "blue"]),
        "json": json.loads(json.dumps(ROWS)),
    }.get(form)
    if form == "semicolons":  # as Excel writes it in some countries
        (root / "colours.csv").write_text("\ufeff" + CSV.replace(",", ";").replace("\n", "\r\n"), encoding="utf-8")
    else:
        (root / "colours.csv").unlink()
    dataset = Folder(root, colours=table)
    assert dataset.encoding == expected.encoding
    assert torch.equal(dataset[0][1], expected[0][1])


def test_colours_are_read_whatever_mode_shows_them(tmp_path):
    root = write_folder(tmp_path, "colours")
    for name, mode in zip(NAMES, ("P", "RGBA"), strict=False):
        Image.open(mask_path(root, name)).convert(mode, palette=Image.Palette.ADAPTIVE).save(mask_path(root, name))
    for split in ("train", "val"):
        dataset = Folder(root, split)
        for index, (image, _) in enumerate(dataset.files):
            np.testing.assert_array_equal(dataset[index][1], label_of(dataset.image_name(image)))


def test_black_and_white_masks_are_colours_or_values_but_never_void_by_chance(tmp_path):
    root = write_folder(tmp_path)
    for name in NAMES:
        layouts.save_image(mask_path(root, name), np.where(label_of(name) == 1, 255, 0).astype(np.uint8))
    (root / "classes.txt").write_text("ground\ntree\n")
    assert "white is a class, write a colours.csv" in fault_of(root)
    assert 255 in Folder(root, void=[255])[0][1]
    (root / "classes.txt").unlink()
    dataset = Folder(root, colours={"ground": (0, 0, 0), "tree": (255, 255, 255)})
    np.testing.assert_array_equal(dataset[0][1], label_of(dataset.image_name(dataset.files[0][0])) == 1)
    for name in NAMES:
        Image.open(mask_path(root, name)).convert("1").save(mask_path(root, name))
    assert torch.equal(Folder(root, classes=["ground", "tree"])[0][1], dataset[0][1])


def test_generated_colours_are_far_apart_from_each_other_and_from_void():
    colours = distinct_colours(255).astype(int)
    for count, distance in ((5, 150), (20, 80), (255, 35)):
        some = np.concatenate([colours[:count], [Folder.void_color]])
        apart = np.linalg.norm(some[:, None] - some, axis=-1) + 1000 * np.eye(count + 1)
        assert apart.min() > distance
    np.testing.assert_array_equal(distinct_colours(7), colours[:7])


def test_a_palette_of_greys_is_nobodys_choice(tmp_path):
    root = write_folder(tmp_path, "palette")
    for name in NAMES:
        mask = Image.open(mask_path(root, name))
        mask.putpalette([grey for grey in range(256) for _ in range(3)])
        mask.save(mask_path(root, name))
    np.testing.assert_array_equal(Folder(root).palette, distinct_colours(3))


# splits


def test_the_split_depends_on_names_and_seed_alone(tmp_path, monkeypatch):
    root = write_folder(tmp_path / "one")
    walk = os.walk

    def backwards(*arguments, **options):
        for place, folders, names in walk(*arguments, **options):
            folders.sort(reverse=True)
            yield place, folders, names[::-1]
            folders.sort(reverse=True)

    def names(root, split, **arguments):
        dataset = Folder(root, split, **arguments)
        return [dataset.image_name(image) for image, _ in dataset.files]

    val = names(root, "val")
    assert val == ["park/photo4", "town/photo1"]  # the same on every machine
    monkeypatch.setattr(os, "walk", backwards)
    shutil.copytree(root, tmp_path / "two")
    assert names(tmp_path / "two", "val") == val
    assert sorted(val + names(root, "train")) == NAMES
    assert names(root, "val", val_share=0.5)[:] != val and len(names(root, "val", val_share=0.5)) == 5
    assert len({tuple(names(root, "val", seed=seed)) for seed in range(8)}) > 3
    assert len(names(root, "val", val_share=0.001)) == len(names(root, "train", val_share=0.999)) == 1


def test_lists_say_what_is_in_a_split(tmp_path):
    root = write_folder(tmp_path)
    layouts.write_list(root / "train.txt", ["town/photo1", "park/photo0.png", "park\\photo2"])
    layouts.write_list(root / "val.txt", ["town/photo3"])
    dataset = Folder(root)
    assert [dataset.image_name(image) for image, _ in dataset.files] == ["town/photo1", "park/photo0", "park/photo2"]
    assert "leave out val_share and seed" in fault_of(root, seed=1)
    layouts.write_list(root / "val.txt", ["town/photo1", "town/foto4"])
    fault = fault_of(root)
    assert "'town/photo1', which is in train.txt already" in fault
    assert "'town/foto4', which is no image with a mask; did you mean 'town/photo4'" in fault
    (root / "val.txt").unlink()
    assert "train.txt but no val.txt" in fault_of(root)


def test_relative_roots_are_looked_for_here_and_then_in_the_data_roots(places):
    there = write_folder(places / "data" / "mine")
    assert Folder("mine").root == there
    here = write_folder(places / "mine")
    assert Folder("mine").root == here
    fault = fault_of("mien")
    assert all(str(root / "mien") in fault for root in (places, *data_roots())) and "root=" in fault


# as an experiment


def test_dataset_arguments_are_checked(places):
    write_folder(places / "mine")
    tiny = Experiment.load("enet_folder")
    assert len(load_split(tiny.replace(dataset_arguments={"root": "mine", "val_share": 0.5}), "val")) == 5
    assert available("folder", {"root": "mine"}) and not available("folder", {"root": "yours"})
    assert not available("folder")
    for arguments, message in (
        ({}, "needs to know where it lies"),
        ({"root": "mine", "val_shar": 0.1}, "'val_shar' is not one of root, .*did you mean 'val_share'"),
    ):
        with pytest.raises(DataError, match=message):
            load_split(tiny.replace(dataset_arguments=arguments), "train")
    with pytest.raises(DataError, match="'camvid' takes none.*set dataset to folder"):
        load_dataset("camvid", "train", arguments={"root": "mine"})
    with pytest.raises(SettingError, match="dataset_arguments must hold plain JSON"):
        tiny.replace(dataset_arguments={"colours": pd.DataFrame()})
    before = {key: value for key, value in tiny.to_dict().items() if key != "dataset_arguments"}
    assert Experiment.from_dict(before) == tiny  # as written before there was this setting


def test_a_decoded_copy_is_made_anew_when_the_classes_change(places):
    root = write_folder(places / "mine", "colours")
    first = Folder(root)
    assert attach_cache(first, "disk", progress=False) == "disk"
    again = Folder(root)
    assert attach_cache(again, "disk", build=False) == "disk" and torch.equal(again[0][1], first.read(0)[1])
    swapped = [("ground", 0, 128, 0), ("tree", 0, 0, 0), *ROWS[2:]]  # the same names, other colours
    for other in (Folder(root, colours=swapped), Folder(root, seed=1), Folder(root, "val")):
        assert attach_cache(other, "disk", build=False) == "none"


def test_from_a_folder_to_a_trained_network_and_back(places, capsys):
    write_folder(places / "my_data", "colours")
    command = ["train", "enet_folder", "--quiet", "--set", 'dataset_arguments={"root": "my_data"}', *SETTINGS]
    assert main(command) == 0
    assert "epoch 1/1  train loss" in capsys.readouterr().out
    run = RunFolder(places / "runs" / "enet_folder")
    _, checkpoint = load_model(run.best)
    assert checkpoint["class_names"] == ["ground", "tree", "car"] and checkpoint["palette"] == TABLE[:3].tolist()
    assert checkpoint["experiment"]["dataset_arguments"] == {"root": "my_data"}
    assert run.record()["data"]["title"] == "my_data"

    assert main(["evaluate", "enet_folder", "--quiet"]) == 0
    score = run.record()["validation"]["full"]["mean_iou"]
    assert f"mean IoU {score:.4f}" in capsys.readouterr().out
    Image.fromarray(layouts.draw_image("photo7")).save("photo.jpg")
    assert main(["predict", "enet_folder", "photo.jpg", "--output", "out"]) == 0
    assert Image.open("out/photo_labels.png").getpalette()[:9] == TABLE[:3].flatten().tolist()
    assert main(["analyze", "enet_folder", "--quiet", "--output", "figures"]) == 0
    analysis = run.analysis()
    assert [image["image"] for image in analysis["images"]] == ["park/photo4", "town/photo1"]
    shown = best_and_worst(run, analysis).texts
    assert any("enet_folder: ENet on my_data (8 train / 2 val images)" in text.get_text() for text in shown)

    assert main([*command[: -len(SETTINGS)], *SETTINGS, "epochs=2", "--extend"]) == 0
    assert "goes on after epoch 1" in capsys.readouterr().out
    (places / "my_data/colours.csv").write_text(CSV.replace("tree,", "bush,"))
    for refused in (["evaluate", "enet_folder"], ["analyze", "enet_folder"], command):
        assert main([*refused, "--quiet"] if refused is not command else [*refused, "epochs=2"]) == 1
        assert "was trained with 3 classes (ground, tree, car)" in capsys.readouterr().err


def test_from_python_and_from_any_base(places):
    root = write_folder(places / "mine", "palette")
    tiny = {"epochs": 1, "base_size": 48, "crop_size": 32, "val_size": 32, "batch_size": 2}
    experiment = Experiment.load("r2unet_cityscapes_miniature").replace(
        name="mine", dataset="folder", dataset_arguments={"root": str(root), "void": 255}, **tiny
    )
    run = fit(experiment, progress=False)
    assert len(list(run)) == 1
    assert load_model(run.run.best)[1]["palette"] == run.train_data.palette.tolist()
    (root / "classes.txt").write_text("tree\nground\ncar\n")
    with pytest.raises(RunError, match="was trained with 3 classes"):
        fit(experiment, progress=False)


def test_check_takes_the_arguments_of_a_folder(places, capsys):
    write_folder(places / "mine")
    (places / "mine/images").rename(places / "mine/photos")
    command = ["data", "check", "folder", "--root", "mine", "--quiet"]
    assert main(command) == 1
    assert "lacks the folder images (it holds masks, photos)" in capsys.readouterr().err
    assert main([*command, "--set", "images=photos", "val_share=0.5"]) == 0
    assert "mine: images in train 5, val 5; no faults" in capsys.readouterr().out
    assert main(["data", "check", "folder"]) == 1
    assert "--root PATH" in capsys.readouterr().err
    assert main(["data", "camvid", "--set", "void=1"]) == 1
    assert "--set goes with check only" in capsys.readouterr().err


def test_real_labels_come_back_through_their_colours(tmp_path):
    if not available("camvid"):
        pytest.skip("CamVid is not here: python -m nnti data camvid")
    camvid = CamVid("val")
    colours = np.zeros((256, 3), dtype=np.uint8)
    colours[: camvid.num_classes] = camvid.palette
    for index in range(0, 100, 20):
        image, label = camvid[index]
        name = camvid.files[index][0].stem
        layouts.save_image(tmp_path / "images" / f"{name}.png", image.permute(1, 2, 0).numpy())
        layouts.save_image(tmp_path / "masks" / f"{name}.png", colours[label.numpy()])
    table = dict(zip(camvid.class_names, camvid.palette.tolist(), strict=True)) | {"void": camvid.void_color}
    by_name = {image.stem: index for index, (image, _) in enumerate(camvid.files)}
    seen = 0
    for split in ("train", "val"):
        folder = Folder(tmp_path, split, colours=table)
        assert folder.class_names == camvid.class_names
        for index, (image, _) in enumerate(folder.files):
            assert torch.equal(folder[index][1], camvid[by_name[image.stem]][1])
            seen += 1
    assert seen == 5
