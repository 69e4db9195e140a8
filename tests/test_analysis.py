"""Error analysis: counts against slow, obvious ones, and the whole way from a checkpoint to analysis.json."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import write_camvid

from nnti.__main__ import main
from nnti.data import CamVid, load_dataset
from nnti.inference.errors import FARTHEST, LEFT_OUT, NEAR, ErrorCounts, boundary_mask
from nnti.inference.evaluate import evaluate
from nnti.metrics import ConfusionMatrix
from nnti.models.saved import load_model
from nnti.training.run_folder import RunFolder

TOP = Path(__file__).resolve().parent.parent
VOID = 255


def example(seed: int = 0, shape=(18, 23)):
    """Blocks of classes with void between some, and a prediction that is wrong here and there."""
    random = np.random.default_rng(seed)
    label = random.integers(0, 11, (4, 5)).repeat(6, 0).repeat(6, 1)[: shape[0], : shape[1]].astype(np.uint8)
    label[random.random(shape) < 0.05] = VOID
    prediction = np.where(random.random(shape) < 0.3, random.integers(0, 11, shape), label)
    prediction[prediction == VOID] = 3
    return prediction.astype(np.uint8), label


@pytest.fixture
def data(tmp_path) -> CamVid:
    write_camvid(tmp_path / "camvid")
    return CamVid("val", tmp_path)


def slow_boundary(label: np.ndarray) -> set[tuple[int, int]]:
    found = set()
    for row, column in np.ndindex(label.shape):
        for other in ((row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)):
            if 0 <= other[0] < label.shape[0] and 0 <= other[1] < label.shape[1]:
                pair = (label[row, column], label[other])
                if pair[0] != pair[1] and VOID not in pair:
                    found.add((row, column))
    return found


def slow_distance(at: tuple[int, int], places) -> float:
    return min((math.dist(at, place) for place in places), default=math.inf)


def test_boundaries_are_between_classes_only():
    _, label = example()
    mask = boundary_mask(label, label == VOID)
    assert {tuple(place) for place in np.argwhere(mask).tolist()} == slow_boundary(label)


def test_counts_are_those_of_a_loop_over_pixels(data):
    prediction, label = example()
    errors = ErrorCounts(data)
    errors.add("one", prediction, label)
    boundary, void = slow_boundary(label), {tuple(place) for place in np.argwhere(label == VOID).tolist()}
    pixels = {"boundary": np.zeros(FARTHEST + 1, int), "void": np.zeros(FARTHEST + 1, int)}
    wrong = {kind: counts.copy() for kind, counts in pixels.items()}
    beside = np.zeros((2, 2, 2), int)
    for at in np.ndindex(label.shape):
        if at in void:
            continue
        distances = {"boundary": slow_distance(at, boundary), "void": slow_distance(at, void)}
        for kind, distance in distances.items():
            pixels[kind][int(min(distance, FARTHEST))] += 1
            wrong[kind][int(min(distance, FARTHEST))] += prediction[at] != label[at]
        near = int(distances["boundary"] < NEAR), int(distances["void"] <= NEAR)
        beside[near] += [1, prediction[at] != label[at]]
    summary = errors.summary()
    for kind in ("boundary", "void"):
        assert summary[kind]["pixels"] == pixels[kind].tolist()
        assert summary[kind]["errors"] == wrong[kind].tolist()
    assert [[row["pixels"], row["errors"]] for row in summary["beside"]] == beside.reshape(4, 2).tolist()


@pytest.mark.parametrize("kind", ["boundary", "void"])
def test_bands_that_are_left_out(data, kind):
    prediction, label = example(1)
    errors = ErrorCounts(data)
    errors.add("one", prediction, label)
    places = slow_boundary(label) if kind == "boundary" else {tuple(at) for at in np.argwhere(label == VOID).tolist()}
    for width, measured in zip(LEFT_OUT, errors.summary()[kind]["mean_iou_beyond"], strict=True):
        kept = label.copy()
        for at in np.ndindex(label.shape):
            distance = slow_distance(at, places)
            if distance < width if kind == "boundary" else distance < width + 1:
                kept[at] = VOID
        matrix = ConfusionMatrix(11, VOID)
        matrix.update(torch.from_numpy(prediction), torch.from_numpy(kept))
        assert measured == pytest.approx(matrix.compute()["mean_iou"], nan_ok=True)


def test_predictions_in_void(data):
    label = np.full((6, 9), 2, np.uint8)
    label[:, 5:] = 4
    label[2:4, 0:3] = VOID  # nearest to class 2
    prediction = label.copy()
    prediction[2:4, 0:3] = [[2, 2, 7], [2, 7, 7]]
    errors = ErrorCounts(data)
    errors.add("one", prediction, label)
    void = errors.summary()["in_void"]
    assert void["pixels"] == 6 and void["as_nearest_class"] == 3
    assert {number: count for number, count in enumerate(void["predicted"]) if count} == {2: 3, 7: 3}


def test_images_without_boundary_void_or_label(data):
    errors = ErrorCounts(data)
    errors.add("all void", np.zeros((5, 5), np.uint8), np.full((5, 5), VOID, np.uint8))
    assert errors.summary()["images"] == []
    errors.add("one class", np.zeros((5, 5), np.uint8), np.zeros((5, 5), np.uint8))
    summary = errors.summary()
    assert summary["boundary"]["pixels"][-1] == summary["void"]["pixels"][-1] == 25  # nothing to be near to
    assert summary["mean_iou"] == 1.0


def test_command_analyzes_a_run(tmp_path, monkeypatch, capsys):
    shutil.copytree(TOP / "report" / "runs" / "enet_camvid", tmp_path / "runs" / "shipped")
    (tmp_path / "runs" / "shipped" / "analysis.json").unlink()
    write_camvid(tmp_path / "data" / "camvid")
    monkeypatch.setenv("NNTI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NNTI_RUNS", str(tmp_path / "runs"))
    assert not main(["analyze", "shipped", "--output", str(tmp_path / "figures"), "--quiet"])
    run = RunFolder(tmp_path / "runs" / "shipped")
    written = run.analysis()
    model, _ = load_model(run.best, torch.device("cpu"))
    measured = evaluate(model, run.experiment(), load_dataset("camvid", "val"), "full", progress=False)
    assert written["mean_iou"] == pytest.approx(measured["mean_iou"])
    assert np.sum(written["matrix"], axis=1).tolist() == measured["pixels_per_class"].tolist()
    assert [image["image"] for image in written["images"]] == ["0016E5_07959"]
    made = {path.name for path in (tmp_path / "figures").iterdir()}
    for kind in ("confusion", "error_distances", "triptychs", "best_and_worst"):
        assert {f"shipped_{kind}.png", f"shipped_{kind}.pdf"} <= made
    assert "analysis.json" in capsys.readouterr().out


def test_committed_analyses_belong_to_their_records():
    found = sorted((TOP / "report" / "runs").glob("*/analysis.json"))
    assert found
    for path in found:
        analysis, record = json.loads(path.read_text(encoding="utf-8")), RunFolder(path.parent).record()
        assert analysis["epoch"] == record["best_epoch"]
        assert not analysis["commit"].endswith("-dirty")
        assert len(analysis["images"]) == record["data"]["val_images"]
        # on another device or precision a few pixels differ
        assert analysis["mean_iou"] == pytest.approx(record["validation"]["full"]["mean_iou"], abs=2e-3)
