"""Tables of results, of normalisation and of costs: every cell comes from a record or is counted on the model."""

import copy
import json

import numpy as np
import pandas as pd
import pytest

from nnti import figures
from nnti.__main__ import main
from nnti.data import DATASETS
from nnti.errors import RunError, SettingError
from nnti.experiment import Experiment
from nnti.figures.complexity import complexity_frame, measure_complexity, read_complexity, with_times
from nnti.inference.speed import Timing
from nnti.metrics import METRICS
from nnti.models import R2UNet, count_parameters
from nnti.models.cost import count_operations, weight_bytes
from nnti.published import ABSTRACT_MEAN_IOU, COSTS, LITERATURE, SCORES
from nnti.training.run_folder import RunFolder


def record(**changes) -> dict:
    result = {**dict.fromkeys(METRICS, 0.25), "loss": 1.5, "images": 4}
    return {
        "name": "try",
        "experiment": Experiment(crop_size=(360, 480), protocol="full", seed=3).to_dict(),
        "data": {"title": "CamVid", "train_images": 9, "val_images": 4},
        "seed": 3,
        "epochs": 7,
        "best_epoch": 5,
        "seconds_per_epoch": 12.4,
        "validation": {protocol: {**result, "protocol": protocol} for protocol in ("report", "full")},
        "health": {"images": 32, "train_mode_mean_iou": 0.5, "eval_mode_mean_iou": 0.375},
        **changes,
    }


@pytest.fixture(scope="module")
def small() -> Experiment:
    """A small network's experiment on a data set that is not there."""
    return Experiment(
        name="small", model="r2unet", model_arguments={"widths": [4, 8]}, dataset="cityscapes", crop_size=(48, 64),
        base_size=64, batch_size=2, precision="float32",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    """An empty folder of runs, and no data."""
    monkeypatch.setenv("NNTI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("NNTI_DATA", str(tmp_path / "none"))
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def costs(small) -> dict:
    return measure_complexity([small], (64, 96), device="cpu", timing=False, progress=False)


def rows_of(costs: dict) -> dict[str, str]:
    """Quantity → what the Markdown table says of the only experiment."""
    lines = figures.complexity_markdown(complexity_frame(costs)).splitlines()[2:]
    return dict(line.strip("| ").split(" | ") for line in lines)


def test_markdown_has_a_line_per_row_and_blanks_for_what_is_unknown():
    table = pd.DataFrame([{"run": "a|b", "value": "0.50"}, {"run": None, "value": np.nan}])
    assert figures.as_markdown(table) == "| run | value |\n| --- | --- |\n| a\\|b | 0.50 |\n|  |  |\n"


def test_results_have_a_row_per_run_and_protocol():
    square = record(name="square", experiment=Experiment(crop_size=96).to_dict(), seconds_per_epoch=None)
    unknown = record(validation={"full": {"protocol": "full", "mean_iou": None}})
    table = figures.results_table([record(), {"name": "unfinished"}, square, unknown])
    assert table["protocol"].tolist() == ["report", "full", "report", "full", "full"]
    assert table["crop"].tolist() == ["360 × 480"] * 2 + ["96 × 96"] * 2 + ["360 × 480"]
    first = table.iloc[0]
    assert (first["data set"], first["train images"], first["val images"]) == ("CamVid", 9, 4)
    assert (first["mean IoU"], first["loss"], first["best epoch"], first["s/epoch"]) == (0.25, 1.5, 5, 12.4)
    assert table["mean IoU"].isna().tolist() == [False] * 4 + [True] and table["s/epoch"].isna().sum() == 2
    assert list(figures.results_table([]).columns) == list(table.columns)


def test_health_shows_both_kinds_of_statistics_and_their_difference():
    table = figures.health_table([record(), record(health=None), record(name="other")])
    assert table["run"].tolist() == ["try", "other"]  # what was not measured has no row
    first = table.iloc[0].to_dict()
    assert (first["seed"], first["images"], first["batch − running"]) == (3, 32, pytest.approx(0.125))
    assert (first["validation protocol"], first["validation mean IoU"]) == ("full", 0.25)
    assert list(figures.health_table([]).columns) == list(table.columns)


def test_costs_are_those_of_the_model_beside_the_published_ones(costs):
    row, model = complexity_frame(costs).iloc[0], R2UNet(19, (4, 8))
    assert row["parameters"] == count_parameters(model)
    assert row["weights, MB"] == weight_bytes(model) / 1e6
    assert row["multiply-adds, G"] == count_operations(model, (64, 96)).multiply_adds / 1e9
    assert row["multiply-adds of a crop, G"] == count_operations(model, (48, 64)).multiply_adds / 1e9
    assert (row["image size"], row["crop size"]) == ("64 × 96", "48 × 64")
    assert row["training memory, MB"] > row["checkpoint, MB"] > row["weights, MB"]
    published = row[["published parameters", "published checkpoint, MB", "published s/epoch"]]
    assert list(published) == [30.00e6, 240.3, 20 * 60 + 36]


def test_what_nobody_measured_or_published_is_said(costs, small):
    rows = rows_of(costs)
    assert rows["time per epoch"] == rows["latency, ms"] == rows["frames/s, ONNX Runtime"] == "not measured"
    assert rows["published time per epoch"] == "20:36 min" and "nan" not in rows.values()
    camvid = small.replace(dataset="camvid")
    other = measure_complexity([camvid], (32, 32), device="cpu", timing=False, progress=False)
    assert rows_of(other)["published parameters"] == "not published" and rows_of(other)["classes"] == "11"


def test_each_form_of_a_network_has_its_frames_per_second(small, monkeypatch):
    def measure(model, size, device, **options):
        seconds = {"eager": 0.5, "deployed": 0.25}  # ONNX Runtime is not installed
        return {form: Timing(time, time, time, 7) for form, time in seconds.items()}

    monkeypatch.setattr("nnti.figures.complexity.measure_latency", measure)
    rows = rows_of(measure_complexity([small], (32, 32), device="cpu", progress=False))
    speeds = {name: value for name, value in rows.items() if name.startswith("frames/s")}
    assert speeds == {"frames/s": "2", "frames/s, deployed": "4", "frames/s, ONNX Runtime": "not measured"}
    assert rows["latency measured on"].endswith(", float32; 7 times")


@pytest.mark.parametrize(("changes", "known"), [({}, True), ({"epochs": 3}, True), ({"crop_size": 32}, False)])
def test_time_per_epoch_comes_from_a_run_that_did_the_same_work(small, costs, runs, changes, known):
    run, trained = RunFolder(runs / "small"), small.replace(**changes)
    measured = {"experiment": trained.to_dict(), "seconds_per_epoch": 125.4, "device": "abacus", "precision": "float32"}
    run.write_experiment(trained)
    run.write_record({**measured, "data": {"title": "CamVid", "train_images": 7}})
    found = measure_complexity([small], (32, 32), device="cpu", timing=False, progress=False)
    assert rows_of(found)["time per epoch"] == ("2:05 min" if known else "not measured")
    assert ("abacus, float32; CamVid, 7 images" in rows_of(found).values()) == known
    assert rows_of(with_times(found, {}))["time per epoch"] == "not measured"
    camvid = copy.deepcopy(costs)
    camvid["rows"][0]["experiment"] = "enet_camvid"  # one of the package's, so that its settings are known
    assert "seconds_per_epoch" not in with_times(camvid, {"enet_camvid": run.record()})["rows"][0]


def test_records_are_written_and_read(costs, tmp_path):
    json_file, text = figures.save_complexity(costs, tmp_path / "here")
    assert read_complexity(json_file) == read_complexity(tmp_path / "here") == costs
    assert {"device", "versions", "commit", "size"} <= set(costs)
    written = text.read_text(encoding="utf-8")
    assert figures.complexity_markdown(complexity_frame(costs)) in written
    assert costs["rows"][0]["memory_method"] in written and f"PyTorch {costs['versions']['torch']}" in written
    with pytest.raises(RunError, match="python -m nnti complexity"):
        read_complexity(tmp_path / "nowhere.json")
    json_file.write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="measure again"):
        read_complexity(json_file)


def test_older_records_are_readable(costs):
    old = copy.deepcopy(costs)
    del old["versions"]["onnxruntime"]
    old["rows"][0] |= {"latency": 0.5, "frames_per_second": 2.0, "program_frames_per_second": 3.0, "uncounted": {}}
    assert rows_of(old)["frames/s"] == "2" and rows_of(old)["latency, ms"] == "500.0"
    assert "ONNX Runtime 1" not in figures.complexity_notes(old)


def test_classes_are_known_without_data():
    classes = {name: len(DATASETS[name].class_names) for name in DATASETS}
    assert classes["voc"] == classes["voc_miniature"] == 21 and classes["camvid"] == 11
    assert all(count == 19 for name, count in classes.items() if name.startswith("cityscapes"))


def test_impossible_sizes_are_refused(small):
    with pytest.raises(SettingError, match="at least 1 pixel"):
        measure_complexity([small], (0, 64))


def test_the_command_prints_and_writes(runs, tmp_path, capsys):
    settings = {"name": "tiny", "model": "r2unet", "model_arguments": {"widths": [4, 8]}, "crop_size": 64}
    (tmp_path / "tiny.json").write_text(json.dumps(settings), encoding="utf-8")
    assert main(["complexity", str(tmp_path / "tiny.json"), "--no-timing", "--quiet", "--size", "64", "96"]) == 0
    out = capsys.readouterr().out
    assert "| image size | 64 × 96 |" in out
    written = sorted(path.name for path in (runs / "complexity").iterdir())
    assert written == ["complexity.json", "complexity.md"]
    assert all(str(runs / "complexity" / name) in out for name in written)


def test_published_values_fit_together():
    for cost in COSTS.values():
        assert cost.checkpoint_bytes == pytest.approx(8 * cost.parameters, rel=0.08)  # 0.36 M is a rounded number
    for splits in SCORES.values():
        for scores in splits.values():
            assert all(0 < value < 1 for value in scores.values())
            assert scores["mean_iou"] < scores["dice"]  # of any class IoU = Dice / (2 − Dice)
    assert ABSTRACT_MEAN_IOU["pspnet"] == SCORES["pspnet"]["train"]["mean_iou"]
    assert all(ABSTRACT_MEAN_IOU[model] != SCORES[model]["val"]["mean_iou"] for model in SCORES)
    assert all(0 < score.mean_iou < 1 and score.source for score in LITERATURE)
