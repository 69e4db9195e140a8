"""Tables of runs: every cell comes from a record."""

import pytest

from nnti import figures
from nnti.experiment import Experiment
from nnti.metrics import METRICS


def record(**changes) -> dict:
    experiment = Experiment(crop_size=(360, 480), protocol="full", seed=3).to_dict()
    result = {**dict.fromkeys(METRICS, 0.25), "loss": 1.5, "images": 4}
    return {
        "name": "try",
        "experiment": experiment,
        "data": {"title": "CamVid", "train_images": 9, "val_images": 4},
        "seed": 3,
        "epochs": 7,
        "seconds_per_epoch": 12.4,
        "validation": {protocol: {**result, "protocol": protocol} for protocol in ("report", "full")},
        "health": {"images": 32, "train_mode_mean_iou": 0.5, "eval_mode_mean_iou": 0.375},
        **changes,
    }


def lines(table) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in figures.markdown(table).splitlines()]


def test_results_name_data_crop_and_protocol():
    header, rule, *rows = lines(figures.results_table([record()]))
    assert set(rule) == {"---"}
    cells = [dict(zip(header, row, strict=True)) for row in rows]
    assert [row["protocol"] for row in cells] == ["report", "full"]
    assert cells[0]["crop"] == "360 × 480"
    assert (cells[0]["data set"], cells[0]["train images"], cells[0]["mean IoU"]) == ("CamVid", "9", "0.2500")
    square = record(experiment=Experiment(crop_size=96).to_dict())
    assert figures.results_table([square])["crop"].tolist() == ["96 × 96"] * 2


def test_health_shows_both_kinds_of_statistics_and_their_difference():
    table = figures.health_table([record(), record(health=None), {**record(), "name": "other"}])
    assert table["run"].tolist() == ["try", "other"]  # what was not measured has no row
    assert table["batch − running"].tolist() == pytest.approx([0.125, 0.125])
    header, _, row, _ = lines(table)
    cells = dict(zip(header, row, strict=True))
    assert (cells["seed"], cells["images"], cells["batch − running"]) == ("3", "32", "+0.1250")
    assert (cells["validation protocol"], cells["validation mean IoU"]) == ("full", "0.2500")
    assert list(figures.health_table([]).columns) == list(table.columns)
