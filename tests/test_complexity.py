"""What networks cost: counts against hand-made ones, bytes against files, memory against arithmetic; the table."""

import copy
import json
import math

import pandas as pd
import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nnti.__main__ import main
from nnti.data import DATASETS
from nnti.errors import RunError, SettingError
from nnti.experiment import Experiment
from nnti.figures import complexity_markdown, complexity_notes, save_complexity
from nnti.figures.complexity import (
    complexity_frame,
    dataset_class,
    measure_complexity,
    read_complexity,
    write_complexity,
)
from nnti.inference.speed import FORMS
from nnti.models import Block, ENet, R2UNet, count_parameters
from nnti.models.cost import TRACKED, checkpoint_bytes, count_operations, measure_training_memory, sgd, weight_bytes
from nnti.published import ABSTRACT_MEAN_IOU, COSTS, ENET_PAPER_COSTS, LITERATURE, SCORES
from nnti.report.tables import frames_table
from nnti.training.run_folder import RunFolder

HEIGHT, WIDTH = 6, 10


class Chain(nn.Module):
    """A 1×1 convolution and `depth` units of a convolution and three sigmoids, which can be computed again."""

    def __init__(self, depth: int, recompute: bool = False):
        super().__init__()
        self.first, self.recompute = nn.Conv2d(3, 8, 1), recompute
        sigmoids = [nn.Sigmoid() for _ in range(3)]
        self.units = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), *sigmoids) for _ in range(depth))

    def forward(self, x):
        x = self.first(x)
        for unit in self.units:
            x = checkpoint(unit, x, use_reentrant=False) if self.recompute else unit(x)
        return x


class Twice(nn.Module):
    """One convolution that is applied two times, and a block row for each part."""

    def __init__(self):
        super().__init__()
        self.enter, self.norm, self.again = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 3, padding=1)
        self.unused = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        return self.again(self.again(self.norm(self.enter(x))))

    def blocks(self):
        yield Block("", "enter", "", self.norm, (), (self.enter,))
        yield Block("", "again", "", self.again)
        yield Block("", "unused", "", self.unused)


def memory(model, size=(32, 32), batch_size=2, **options) -> int:
    return measure_training_memory(model, size, batch_size, "cpu", precision="float32", **options).peak


@pytest.fixture(scope="module")
def experiment() -> Experiment:
    """A small network's experiment on a data set that is not there."""
    return Experiment(
        name="small", model="r2unet", model_arguments={"widths": [4, 8]}, dataset="cityscapes", crop_size=(48, 64),
        base_size=64, batch_size=2, precision="float32",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def runs(tmp_path, monkeypatch):
    """An empty folder of runs and one of data."""
    monkeypatch.setenv("NNTI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("NNTI_DATA", str(tmp_path / "none"))
    return tmp_path / "runs"


@pytest.fixture(scope="module")
def measured(experiment) -> dict:
    return measure_complexity([experiment], (64, 96), device="cpu", timing=False, progress=False)


# operations


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), HEIGHT * WIDTH * 8 * 3 * 9),
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), 3 * 5 * 8 * 3 * 9),
        (nn.Conv2d(3, 6, (5, 1), padding=(2, 0), groups=3), HEIGHT * WIDTH * 6 * 1 * 5),
        (nn.Conv2d(3, 4, 3, padding=2, dilation=2), HEIGHT * WIDTH * 4 * 3 * 9),
        (nn.ConvTranspose2d(3, 5, 2, stride=2), HEIGHT * WIDTH * 3 * 5 * 4),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * HEIGHT * WIDTH, 7)), 3 * HEIGHT * WIDTH * 7),
        (nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 3, 1)), HEIGHT * WIDTH * (6 + 6)),
    ],
)
def test_multiply_adds_are_those_counted_by_hand(model, expected):
    assert count_operations(model, (HEIGHT, WIDTH)).multiply_adds == expected


def test_blocks_are_counted_as_often_as_they_run():
    counted = count_operations(Twice(), (HEIGHT, WIDTH))
    pixels = HEIGHT * WIDTH
    assert counted.per_block == {"enter": pixels * 12, "again": 2 * pixels * 4 * 4 * 9, "unused": 0}
    assert counted.multiply_adds == sum(counted.per_block.values())


def test_operators_without_a_formula_are_named_with_calls_and_elements():
    counted = count_operations(ENet(21), (64, 96))
    assert counted.uncounted["max_unpool2d"] == (2, 64 * 16 * 24 + 16 * 32 * 48)
    normalised = sum(found[0] for name, found in counted.uncounted.items() if "batch_norm" in name)
    assert normalised == sum(isinstance(module, nn.BatchNorm2d) for module in ENet(21).modules())
    assert not {"convolution", "view", "cat", "empty", "constant_pad_nd"} & set(counted.uncounted)
    in_place = count_operations(nn.Sequential(nn.ReLU(inplace=True), nn.ReLU()), (2, 2))
    assert in_place.uncounted == {"relu": (2, 24)}
    assert in_place.multiply_adds == 0


def test_counting_leaves_the_model_as_it_was():
    model = ENet(3).train()
    before = copy.deepcopy(model.state_dict())
    count_operations(model, (32, 32))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_enet_costs_what_its_paper_says():
    counted = count_operations(ENet(19), (ENET_PAPER_COSTS["height"], ENET_PAPER_COSTS["width"]))
    assert 2 * counted.multiply_adds == pytest.approx(ENET_PAPER_COSTS["operations"], rel=0.1)
    assert sum(counted.per_block.values()) == counted.multiply_adds


def test_operations_grow_with_the_image():
    model = ENet(21)
    small, large = (count_operations(model, (side, side)).multiply_adds for side in (256, 512))
    assert large == 4 * small


# bytes


def test_weight_bytes_are_those_of_the_file(tmp_path):
    model = ENet(5)
    torch.save(model.state_dict(), tmp_path / "archive.pt")  # the file's stem is written into it as well
    assert weight_bytes(model) == (tmp_path / "archive.pt").stat().st_size


@pytest.mark.parametrize("optimizer", [sgd, lambda model: torch.optim.Adam(model.parameters())])
def test_checkpoint_bytes_are_those_of_the_file_after_a_training_step(tmp_path, optimizer):
    model = ENet(5)
    before = copy.deepcopy(model.state_dict())
    counted = checkpoint_bytes(model, optimizer)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    stepped = optimizer(model)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    stepped.step()
    torch.save({"model": model.state_dict(), "optimizer": stepped.state_dict()}, tmp_path / "archive.pt")
    assert counted == (tmp_path / "archive.pt").stat().st_size


def test_a_checkpoint_has_eight_bytes_a_parameter():
    model = nn.Sequential(nn.Conv2d(3, 500, 15), nn.Conv2d(500, 50, 3))
    assert checkpoint_bytes(model) == pytest.approx(8 * count_parameters(model), rel=0.01)
    assert weight_bytes(model) == pytest.approx(4 * count_parameters(model), rel=0.01)


# memory


def test_weights_gradients_and_momentum_take_twelve_bytes_a_parameter():
    model = nn.Sequential(nn.Conv2d(3, 400, 15, padding=7), nn.Conv2d(400, 2, 15, padding=7))
    parameters = count_parameters(model)
    plain = memory(model, (1, 1), optimizer=lambda model: torch.optim.SGD(model.parameters(), 0.1))
    assert memory(model, (1, 1)) == pytest.approx(12 * parameters, rel=0.02)
    assert memory(model, (1, 1)) - plain == pytest.approx(4 * parameters, rel=0.001)


@pytest.mark.parametrize(("recompute", "kept"), [(False, 3), (True, 1)])
def test_each_map_that_is_kept_for_the_backward_pass_counts(recompute, kept):
    """A sigmoid's output is kept for its own backward pass; a unit that is computed again keeps its input alone."""
    one_map = 2 * 8 * 32 * 32 * 4  # (2, 8, 32, 32) in float32
    weights_and_momentum = 2 * 4 * (8 * 8 * 9 + 8)  # the peak is where the backward pass begins: no gradients yet
    grown = memory(Chain(9, recompute)) - memory(Chain(5, recompute))
    assert grown == 4 * (kept * one_map + weights_and_momentum)


def test_checkpointing_saves_memory():
    assert memory(Chain(8, recompute=True)) < 0.6 * memory(Chain(8))


def test_lower_precision_saves_memory_and_is_named():
    half = measure_training_memory(Chain(8), (32, 32), 2, "cpu", precision="bfloat16")
    assert half.peak < memory(Chain(8))
    assert (half.precision, half.method, half.size, half.batch_size) == ("bfloat16", TRACKED, (32, 32), 2)


def test_measuring_memory_leaves_the_model_as_it_was():
    model = R2UNet(3, (4, 8)).eval()
    before = copy.deepcopy(model.state_dict())
    assert memory(model) == memory(model)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())


# the table


def test_the_table_has_measured_and_published_columns(measured, experiment):
    row, model = complexity_frame(measured).iloc[0], R2UNet(19, (4, 8))
    assert row["parameters"] == count_parameters(model)
    assert row["weights, MB"] == weight_bytes(model) / 1e6
    assert row["multiply-adds, G"] == count_operations(model, (64, 96)).multiply_adds / 1e9
    assert row["multiply-adds of a crop, G"] == count_operations(model, (48, 64)).multiply_adds / 1e9
    assert (row["image size"], row["crop size"]) == ("64 × 96", "48 × 64")
    assert row["training memory, MB"] > row["checkpoint, MB"] > row["weights, MB"]
    published = row[["published parameters", "published checkpoint, MB", "published s/epoch"]]
    assert list(published) == [30.00e6, 240.3, 20 * 60 + 36]


def test_what_was_not_measured_is_said_to_be(measured):
    table = complexity_frame(measured)
    assert table[["latency, ms", "frames/s", "s/epoch", "s/epoch measured on"]].isna().all(axis=None)
    text = complexity_markdown(table)
    assert "| time per epoch | not measured |" in text
    assert "| latency, ms | not measured |" in text
    assert "| published time per epoch | 20:36 min |" in text
    assert "nan" not in text


def test_records_of_before_the_exports_are_readable(measured, tmp_path):
    """They have neither the new keys nor the version of ONNX Runtime."""
    old = copy.deepcopy(measured)
    del old["versions"]["onnxruntime"]
    old["rows"][0] |= {"latency": 0.5, "frames_per_second": 2.0}
    table = complexity_frame(read_complexity(write_complexity(old, tmp_path)))
    text = complexity_markdown(table)
    assert "| frames/s | 2 |" in text
    assert all(f"| frames/s, {form} | not measured |" in text for form in FORMS[1:])
    assert not any(words in complexity_notes(old) for words in ("ONNX Runtime", "took turns"))
    assert "ONNX Runtime 1.99" in complexity_notes({**old, "versions": {"torch": "2", "onnxruntime": "1.99"}})
    assert frames_table(old).iloc[0].tolist() == ["small", "64 × 96", "2", *["not measured"] * 3]


def test_what_nobody_published_is_said_to_be(experiment):
    record = measure_complexity(
        [experiment.replace(dataset="camvid")], (32, 32), device="cpu", timing=False, progress=False
    )
    text = complexity_markdown(complexity_frame(record))
    assert "| published parameters | not published |" in text
    assert record["rows"][0]["classes"] == 11


@pytest.mark.parametrize(("changes", "known"), [({}, True), ({"epochs": 3}, True), ({"crop_size": 32}, False)])
def test_time_per_epoch_comes_from_a_run_that_did_the_same_work(experiment, runs, changes, known):
    run = RunFolder(runs / "small")
    trained = experiment.replace(**changes)
    run.write_experiment(trained)
    run.write_record(
        {
            "experiment": trained.to_dict(),
            "seconds_per_epoch": 125.4,
            "device": "abacus",
            "precision": "float32",
            "data": {"title": "CamVid", "train_images": 7},
        }
    )
    row = complexity_frame(measure_complexity([experiment], (32, 32), device="cpu", timing=False, progress=False)).iloc[
        0
    ]
    if known:
        assert (row["s/epoch"], row["s/epoch measured on"]) == (125.4, "abacus, float32; CamVid, 7 images")
        assert "| time per epoch | 2:05 min |" in complexity_markdown(pd.DataFrame([row]))
    else:
        assert math.isnan(row["s/epoch"])


def test_records_survive_json(measured, tmp_path):
    path = write_complexity(measured, tmp_path / "here")
    assert read_complexity(path) == read_complexity(path.parent) == measured
    assert {"device", "versions", "commit", "size"} <= set(json.loads(path.read_text(encoding="utf-8")))
    with pytest.raises(RunError, match="python -m nnti complexity"):
        read_complexity(tmp_path / "nowhere.json")
    path.write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match="measure again"):
        read_complexity(path)


def test_csv_and_markdown_are_written_with_notes(measured, tmp_path):
    csv, text = save_complexity(measured, tmp_path)
    pd.testing.assert_frame_equal(pd.read_csv(csv)[["parameters"]], complexity_frame(measured)[["parameters"]])
    written = text.read_text(encoding="utf-8")
    assert complexity_markdown(complexity_frame(measured)) in written
    assert complexity_notes(measured) in written
    assert "upsample_nearest2d (1)" in written
    assert TRACKED in written


def test_classes_are_known_without_data():
    classes = {name: len(dataset_class(name).class_names) for name in DATASETS}
    assert classes["voc"] == classes["voc_miniature"] == 21
    assert classes["camvid"] == 11
    assert all(count == 19 for name, count in classes.items() if name.startswith("cityscapes"))


def test_impossible_sizes_are_refused(experiment):
    with pytest.raises(SettingError, match="at least 1 pixel"):
        measure_complexity([experiment], (0, 64))


def test_command_prints_and_writes(runs, tmp_path, capsys):
    settings = {"name": "tiny", "model": "r2unet", "model_arguments": {"widths": [4, 8]}, "crop_size": 64}
    (tmp_path / "tiny.json").write_text(json.dumps(settings), encoding="utf-8")
    command = ["complexity", str(tmp_path / "tiny.json"), "--no-timing", "--quiet", "--size", "64", "96"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "| image size | 64 × 96 |" in out
    files = {"complexity.json", "complexity.csv", "complexity.md"}
    assert {path.name for path in (runs / "complexity").iterdir()} == files
    assert all(str(runs / "complexity" / name) in out for name in files)
    assert main(["complexity", "enet_vco"]) == 1
    assert "did you mean 'enet_voc'" in capsys.readouterr().err


# what others published


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
