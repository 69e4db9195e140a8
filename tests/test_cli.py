"""The command line, called as a user calls it: `main([...])` in-process, and once as a real process."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from layouts import CITYSCAPES, write_cityscapes, write_voc
from PIL import Image

from nnti.__main__ import main

SETTINGS = [
    "train_split=train", "batch_size=2", "epochs=1", "val_every=1", "base_size=64", "crop_size=48", "val_size=32",
]  # fmt: skip


@pytest.fixture
def places(tmp_path, monkeypatch) -> Path:
    write_voc(tmp_path / "data")
    for name in ("DATA", "RUNS", "FIGURES"):
        monkeypatch.setenv(f"NNTI_{name}", str(tmp_path / name.lower()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_evaluate_predict_figures(places, capsys):
    assert main(["train", "enet_voc", "--quiet", "--set", *SETTINGS]) == 0
    trained, out = places / "runs" / "enet_voc", capsys.readouterr().out
    assert "epoch 1/1  train loss" in out
    assert "full   protocol: loss" in out
    record = json.loads((trained / "record.json").read_text())
    assert main(["evaluate", "enet_voc", "--quiet", "--protocol", "full"]) == 0
    assert f"mean IoU {record['validation']['full']['mean_iou']:.4f}" in capsys.readouterr().out
    assert main(["evaluate", "enet_voc", "--quiet", "--json", "results/both.json"]) == 0
    written = json.loads(Path("results/both.json").read_text(encoding="utf-8"))
    assert (written["run"], written["epoch"], written["split"]) == ("enet_voc", record["best_epoch"], "val")
    assert (written["device"], written["precision"]) == (record["device"], record["precision"])
    for protocol in ("report", "full"):
        measured = record["validation"][protocol]["mean_iou"]
        assert written["validation"][protocol]["mean_iou"] == pytest.approx(measured, abs=1e-4)

    photo = places / "my photo é.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (45, 61, 4), dtype=np.uint8)).save(photo)
    assert main(["predict", str(trained), str(photo), "--output", "out"]) == 0
    labels, overlay = Image.open("out/my photo é_labels.png"), Image.open("out/my photo é_overlay.png")
    assert (labels.mode, labels.size, overlay.mode, overlay.size) == ("P", (61, 45), "RGB", (61, 45))
    assert np.array(labels).max() < 21
    assert labels.getpalette()[15 * 3 : 16 * 3] == [192, 128, 128]

    Image.open(photo).convert("RGB").save(photo.with_suffix(".jpg"))
    assert main(["predict", "enet_voc", str(photo), str(photo.with_suffix(".jpg")), "--output", "two"]) == 0
    assert len(list(Path("two").iterdir())) == 4  # equal stems do not overwrite each other
    for name, message in (("none.jpg", "no such file"), (__file__, "not an image")):
        assert main(["predict", "enet_voc", name]) == 1
        assert message in capsys.readouterr().err

    trained.rename(trained.with_name("mine"))
    capsys.readouterr()
    assert main(["figures", "mine", "--quiet"]) == 0
    made = [Path(line) for line in capsys.readouterr().out.split("\n") if line]
    assert {path.suffix for path in made} == {".png", ".pdf"}
    assert all(path.name.startswith("mine_") for path in made)
    assert all(path.parent == places / "figures" and path.stat().st_size > 1000 for path in made)
    assert any("triptychs" in path.name for path in made)


def test_windows_scales_and_flip(places, capsys):
    """From training to files that Cityscapes' evaluation takes; numbers always with how they came about."""
    write_cityscapes(places / "data")
    assert main(["train", "enet_voc", "--quiet", "--run-dir", "city", "--set", "dataset=cityscapes", *SETTINGS]) == 0
    capsys.readouterr()
    assert main(["evaluate", "city", "--quiet", "--sliding", "--scales", "0.75", "1", "--flip"]) == 0
    shown = capsys.readouterr().out
    assert "full   protocol, sliding 48 × 48, overlap 0.33, scales 0.75 1, flip: loss" in shown
    assert "report" not in shown
    assert main(["evaluate", "city", "--flip", "--protocol", "both"]) == 1
    assert "--protocol both" in capsys.readouterr().err

    command = ["predict", "city", str(places / "data" / "leftImg8bit"), "--quiet", "--format", "cityscapes"]
    assert main([*command, "--output", "results", "--sliding", "--crop-size", "24", "--scales", "1", "2"]) == 0
    names = [f"{name}_pred_labelIds.png" for split in ("train", "val", "test") for name in CITYSCAPES[split]]
    assert sorted(path.name for path in Path("results").iterdir()) == sorted(names)
    assert sorted(Path(line).name for line in capsys.readouterr().out.split()) == sorted(names)
    for wrong, message in (
        (["--crop-size", "24"], "give --sliding as well"),
        (["--scales", "0"], "scales=(0.0,)"),
        (["--sliding", "--crop-size", "2"], "crop_size=2"),
    ):
        assert main([*command, *wrong]) == 1
        assert message in capsys.readouterr().err


def test_run_dir_resume_and_restart(places, capsys):
    command = ["train", "enet_voc", "--quiet", "--run-dir", "mine", "--set", *SETTINGS]
    assert main(command) == 0
    assert main(command) == 0
    assert "is complete" in capsys.readouterr().out
    assert main([*command, "power=0.9"]) == 1
    assert "power: 1.0 → 0.9" in capsys.readouterr().err
    assert main([*command, "power=0.9", "--restart"]) == 0


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train", "enet_vco"], "did you mean 'enet_voc'"),
        (["train", "enet_voc", "--set", "epoch=3"], "did you mean 'epochs'"),
        (["train", "enet_voc"], "python -m nnti data sbd"),
        (["train", "enet_camvid"], "python -m nnti data camvid"),
        (["evaluate", "nothing"], "no run 'nothing'"),
        (["predict", "nothing", "x.jpg"], "there are: enet_camvid"),  # usable at once: the report's, with its weights
    ],
)
def test_errors_are_one_message_and_exit_code_1(places, capsys, command, message):
    assert main(command) == 1
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_data_cityscapes_without_an_account_explains_it(places, monkeypatch, capsys):
    monkeypatch.setattr("cityscapesscripts.download.downloader.appdirs.user_data_dir", lambda *names: "appdir")
    monkeypatch.setattr("sys.stdin", io.StringIO())  # no terminal, even where the tests have one
    monkeypatch.setattr("nnti.data.download.shutil.disk_usage", lambda path: SimpleNamespace(free=10**12))
    for option in ([], ["--coarse"], ["--root", "other"]):
        assert main(["data", "cityscapes", *option]) == 1
        error = capsys.readouterr().err
        for part in ("cityscapes-dataset.com/register", "credentials.json", "gtFine_trainvaltest.zip"):
            assert part in error
        assert ("leftImg8bit_trainextra.zip" in error) == (option == ["--coarse"])
    assert main(["data", "voc", "--coarse"]) == 1
    assert "--coarse goes with cityscapes only" in capsys.readouterr().err


def test_data_renders_one_or_both_miniatures(places, monkeypatch, capsys):
    def cityscapes(root):
        folder = write_cityscapes(root / "cityscapes")
        (folder / "miniature.json").write_text("{}")
        return folder

    monkeypatch.setattr("nnti.data.miniature.voc.write_miniature_voc", lambda root: write_voc(root, marker=True))
    monkeypatch.setattr("nnti.data.miniature.cityscapes.write_miniature_cityscapes", cityscapes, raising=False)
    assert main(["data", "cityscapes_miniature", "--root", "one"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(Path("one/cityscapes"))
    assert [path.name for path in Path("one").iterdir()] == ["cityscapes"]
    assert main(["data", "miniature", "--root", "both"]) == 0
    printed = capsys.readouterr().out.splitlines()
    assert {str(Path("both/VOCdevkit/VOC2012")), str(Path("both/cityscapes"))} <= set(printed)


def test_wrong_usage_is_exit_code_2(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["trian"])
    assert stop.value.code == 2


def test_experiments_lists_and_explains(capsys):
    assert main(["experiments"]) == 0
    assert "enet_voc_plain" in capsys.readouterr().out
    assert main(["experiments", "enet_voc"]) == 0
    assert "probability of a horizontal flip" in capsys.readouterr().out


def test_as_a_process_from_another_directory(tmp_path):
    top = Path(__file__).resolve().parent.parent
    environment = {**os.environ, "PYTHONPATH": str(top)}
    options = {"cwd": tmp_path, "env": environment, "capture_output": True, "text": True}
    shown = subprocess.run([sys.executable, "-m", "nnti", "--help"], **options)
    assert shown.returncode == 0
    for command in ("train", "evaluate", "predict", "figures", "data", "experiments"):
        assert command in shown.stdout
    failed = subprocess.run([sys.executable, "-m", "nnti", "train", "no_such"], **options)
    assert failed.returncode == 1
    assert failed.stderr.startswith("error: no experiment 'no_such'")
