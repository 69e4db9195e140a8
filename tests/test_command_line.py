"""The command line, called as a user calls it."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from layouts import CITYSCAPES, write_cityscapes, write_folder, write_voc
from PIL import Image

from nnti.__main__ import main
from nnti.data import Folder

TOP = Path(__file__).resolve().parent.parent
SETTINGS = [
    "model=r2unet", 'model_arguments={"widths": [4, 6]}', "train_split=train", "batch_size=2", "epochs=1",
    "val_every=1", "base_size=64", "crop_size=48", "val_size=32", "precision=float32",
]  # fmt: skip
SHIPPED = str(TOP / "report" / "runs" / "enet_camvid")


@pytest.fixture
def data(places) -> Path:
    return write_voc(places / "data")


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["train", "enet_vco"], "did you mean 'enet_voc'"),
        (["train", "enet_voc", "--set", "epoch=3"], "did you mean 'epochs'"),
        (["train", "enet_voc", "--set", "epochs"], "key=value"),
        (["evaluate", "nothing"], "no run 'nothing'"),
        (["predict", "nothing", "x.jpg"], "enet_camvid"),  # usable at once: the report's, with its weights
        (["complexity", "enet_vco"], "did you mean 'enet_voc'"),
        (["predict", SHIPPED, "x.jpg", "--crop-size", "24"], "give --sliding as well"),
        (["predict", SHIPPED, "x.jpg", "--scales", "0"], "scales=(0.0,)"),
        (["evaluate", SHIPPED, "--sliding", "--crop-size", "2"], "crop_size=2"),
        (["evaluate", SHIPPED, "--flip", "--protocol", "both"], "--protocol both"),
        (["data", "voc", "--coarse"], "cityscapes only"),
        (["data", "check"], "data check voc"),
        (["data", "camvid", "--set", "void=1"], "check only"),
        (["trian"], "invalid choice"),
        (["experiments"], "enet_voc_plain"),
        (["experiments", "enet_voc"], "probability of a horizontal flip"),
        (["--help"], "evaluate"),
        (["train", "--help"], "--restart"),
    ],
)
def test_what_needs_no_model_is_answered_without_pytorch(command, message):
    """In a process of its own: nothing heavy is imported, and a user sees one message, not a traceback."""
    code = f"""
import sys
from nnti.__main__ import main
try:
    status = main({command!r})
except SystemExit as stop:
    status = stop.code
print("imported:", *(name for name in ("torch", "pandas", "matplotlib", "timm") if name in sys.modules))
sys.exit(status)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    shown = command[0] == "experiments" or "--help" in command
    assert message in (done.stdout if shown else done.stderr)
    assert done.returncode == (0 if shown else 2 if message == "invalid choice" else 1)
    assert "Traceback" not in done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"


def test_a_training_that_fails_ends_with_a_status(data, capsys):
    changes = ["learning_rate=10", "weight_decay=1", "batch_size=1", "epochs=30", "val_every=30"]  # weights explode
    assert main(["train", "enet_voc", "--quiet", "--set", *SETTINGS, *changes]) == 1
    assert "not finite in epoch" in capsys.readouterr().err


def test_train_evaluate_predict_figures(places, data, capsys):
    assert main(["train", "enet_voc", "--quiet", "--set", *SETTINGS]) == 0
    trained, out = places / "runs" / "enet_voc", capsys.readouterr().out
    assert "epoch 1/1  train loss" in out and "full   protocol: loss" in out
    record = json.loads((trained / "record.json").read_text())
    for _ in range(2):  # an earlier result is replaced
        assert main(["evaluate", "enet_voc", "--quiet", "--json", "results/both.json"]) == 0
    assert f"mean IoU {record['validation']['full']['mean_iou']:.4f}" in capsys.readouterr().out
    assert main(["evaluate", "enet_voc", "--quiet", "--json", str(trained / "record.json")]) == 1
    assert "runs have files of that name" in capsys.readouterr().err
    Path("mine.json").write_text('{"notes": 1}')
    assert main(["evaluate", "enet_voc", "--quiet", "--json", "mine.json"]) == 1
    assert Path("mine.json").read_text() == '{"notes": 1}'
    written = json.loads(Path("results/both.json").read_text(encoding="utf-8"))
    assert (written["run"], written["epoch"], written["split"]) == ("enet_voc", record["best_epoch"], "val")
    for protocol in ("report", "full"):
        measured = record["validation"][protocol]["mean_iou"]
        assert written["validation"][protocol]["mean_iou"] == pytest.approx(measured, abs=1e-4)
        assert None in written["validation"][protocol]["iou_per_class"]  # a class that does not occur; JSON has no NaN

    photo = places / "my photo é.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (45, 61, 4), dtype=np.uint8)).save(photo)
    assert main(["predict", str(trained), str(photo), "--output", "out"]) == 0
    labels, overlay = Image.open("out/my photo é_labels.png"), Image.open("out/my photo é_overlay.png")
    assert (labels.mode, labels.size, overlay.mode, overlay.size) == ("P", (61, 45), "RGB", (61, 45))
    assert np.array(labels).max() < 21 and labels.getpalette()[15 * 3 : 16 * 3] == [192, 128, 128]
    for name, message in (("none.jpg", "no such file"), (__file__, "not an image")):
        assert main(["predict", "enet_voc", name]) == 1
        assert message in capsys.readouterr().err

    trained.rename(trained.with_name("mine"))
    assert main(["figures", "mine", "--quiet"]) == 0
    made = [Path(line) for line in capsys.readouterr().out.split("\n") if line]
    assert {path.suffix for path in made} == {".png", ".pdf"} and any("triptychs" in path.name for path in made)
    assert all(path.name.startswith("mine_") and path.parent == places / "figures" for path in made)


def test_windows_scales_and_flip_are_named_beside_the_numbers(places, capsys):
    """From training to files that Cityscapes' evaluation takes, of a run named like a preset."""
    write_cityscapes(places / "data")
    command = ["train", "enet_voc", "--quiet", "--run-dir", "enet_voc", "--set", "dataset=cityscapes", *SETTINGS]
    assert main(command) == 0
    capsys.readouterr()
    assert main(["evaluate", "enet_voc", "--quiet", "--sliding", "--scales", "0.75", "1", "--flip"]) == 0
    shown = capsys.readouterr().out
    assert "full   protocol, sliding 48 × 48, overlap 0.33, scales 0.75 1, flip: loss" in shown
    assert "report" not in shown

    command = ["predict", "enet_voc", str(places / "data" / "leftImg8bit"), "--quiet", "--format", "cityscapes"]
    assert main([*command, "--output", "results", "--sliding", "--crop-size", "24", "--scales", "1", "2"]) == 0
    names = [f"{name}_pred_labelIds.png" for split in ("train", "val", "test") for name in CITYSCAPES[split]]
    assert sorted(path.name for path in Path("results").iterdir()) == sorted(names)
    assert sorted(Path(line).name for line in capsys.readouterr().out.split()) == sorted(names)


def test_a_run_whose_data_has_moved_goes_on_by_the_advice_of_the_message(places, capsys):
    root = write_folder(places / "old data" / "own")
    train = ["train", "enet_folder", "--quiet", "--run-dir", "mine", "--set", *SETTINGS]
    assert main([*train, f"dataset_arguments.root={root}"]) == 0
    (places / "old data").rename(places / "new data")
    capsys.readouterr()
    assert main(["evaluate", "mine", "--quiet"]) == 1
    option, value = re.search(r"(--set) (\S+)PATH", capsys.readouterr().err).groups()
    advice = [option, f"{value}{places / 'new data' / 'own'}"]
    for command in ("evaluate", "analyze", "figures"):
        assert main([command, "mine", "--quiet", *advice]) == 0
    assert (places / "figures" / "mine_best_and_worst.png").exists()
    assert main(["analyze", "mine", *advice, "val_size=64"]) == 1
    assert "only dataset_arguments may differ" in capsys.readouterr().err
    assert main([*train, advice[1]]) == 0
    assert "is complete" in capsys.readouterr().out
    assert main(["evaluate", "mine", "--quiet"]) == 0  # the run has noted where its data lies now
    assert capsys.readouterr().err == ""

    gone = Folder(places / "new data" / "own", "val").files[0]
    for path in gone:
        path.unlink()
    assert main(["evaluate", "mine", "--quiet"]) == 0  # perhaps on purpose
    assert re.search(rf"measured on in training: .* 1 gone \(\w+/{gone[0].stem}\)", capsys.readouterr().err)
    assert main([*train, advice[1]]) == 1
    assert "mine was trained with other images in its train_split" in capsys.readouterr().err


def test_a_run_goes_on_refuses_other_settings_and_starts_over(data, capsys):
    command = ["train", "enet_voc", "--quiet", "--run-dir", "mine", "--set", *SETTINGS]
    assert main(command) == 0
    assert main(command) == 0
    assert "is complete" in capsys.readouterr().out
    assert main([*command, "power=0.9"]) == 1
    assert "power: 1.0 → 0.9" in capsys.readouterr().err
    assert main([*command, "power=0.9", "--restart"]) == 0
