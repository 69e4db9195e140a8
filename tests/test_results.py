"""Every number that README quotes comes from a committed record."""

import json
import re
from pathlib import Path

import pytest
import torch

from nnti.device import device_name, readable_device
from nnti.figures import complexity_markdown, complexity_notes, health_table
from nnti.figures.complexity import complexity_frame, read_complexity, with_times
from nnti.report import filled, report_tables
from nnti.report.tables import seeds_of
from nnti.training.run_folder import RunFolder

TOP = Path(__file__).resolve().parent.parent
README = (TOP / "README.md").read_text(encoding="utf-8")
PROSE = " ".join(README.split())  # lines may break anywhere
RUNS = [RunFolder(path.parent) for path in sorted((TOP / "report" / "runs").glob("*/record.json"))]


def test_there_are_records():
    assert RUNS


@pytest.mark.parametrize("run", RUNS, ids=lambda run: run.path.name)
def test_records_are_complete_and_agree_with_their_history(run):
    record, history = run.record(), run.history()
    assert record["finished"] is True
    assert record["name"] == run.path.name
    assert record["commit"] and not record["commit"].endswith("-dirty")
    assert len(history) == record["epochs"] + 1 == record["experiment"]["epochs"] + 1
    best = history.set_index("epoch").loc[record["best_epoch"]]
    measured = record["validation"][record["experiment"]["protocol"]]
    assert best["val_mean_iou"] == pytest.approx(measured["mean_iou"], abs=2e-4)
    assert record["untrained"]["val_mean_iou"] == pytest.approx(history["val_mean_iou"][0], rel=1e-6)


def test_readme_shows_the_tables_of_the_records():
    tables = report_tables({run.path.name: run for run in RUNS}, read_complexity(TOP / "report" / "complexity"))
    assert README.count("<!-- table: ") == README.count("<!-- end of table -->") >= 2
    assert filled(README, tables) == README


def test_readme_quotes_the_camvid_record():
    run = RunFolder(TOP / "report" / "runs" / "enet_camvid")
    record, loss = run.record(), run.history()["train_loss"].dropna()
    quoted = [
        f"mean IoU is {record['untrained']['val_mean_iou']:.4f}",
        f"fell from {loss.iloc[0]:.3f} in the first",
        f"epoch to {loss.iloc[-1]:.3f} in the last",
        f"*validation* split after {record['epochs']} epochs",
        f"epoch {record['best_epoch']}; the last epoch has {run.history()['val_mean_iou'].iloc[-1]:.4f}",
        f"Device: {readable_device(record['device'])}, {record['precision']}",
        f"{record['versions']['torch']}, seed {record['seed']};",
    ]
    assert [text for text in quoted if text not in README] == []


@pytest.mark.parametrize("name, title", [("r2unet_camvid_short", "R2U-Net"), ("pspnet_camvid_short", "PSPNet")])
def test_readme_quotes_the_records_of_the_large_networks(name, title):
    run = RunFolder(TOP / "report" / "runs" / name)
    record, loss = run.record(), run.history()["train_loss"].dropna()
    assert loss.iloc[-1] < loss.iloc[0]
    fall = f"{title}: training loss {loss.iloc[0]:.3f} to {loss.iloc[-1]:.3f} in {record['epochs']} epochs"
    assert fall in README
    assert f"Both: {readable_device(record['device'])}, seed {record['seed']}" in README


def test_the_finding_about_normalisation_is_in_the_records():
    """README: one norm for all steps always loses in eval mode, one per step never, and validates better."""
    table = health_table(run.record() for run in RUNS)
    table = table[table["run"].str.startswith("r2unet")].set_index("run")
    per_step = table.index.str.contains("per_step")
    shared = table[~per_step]["batch − running"]
    assert (shared > 0).all() and (table[per_step]["batch − running"] <= 0).all()
    assert f"by\n{100 * shared.min():.1f} to {100 * shared.max():.1f} points of mean IoU" in README
    assert f"mean IoU: {100 * shared['r2unet_camvid_short']:.1f} at full width on CamVid" in README
    others = health_table(run.record() for run in RUNS if not run.path.name.startswith("r2unet"))
    assert (others["batch − running"] < 0).all() and "ENet and PSPNet are better in eval mode" in README
    names = list(table.index)
    assert "in all five runs" in README and "in none of five" in README
    assert [per_step.sum(), len(names) - per_step.sum()] == [5, 5]
    validated = table["validation mean IoU"]
    for name in table[per_step].index:
        assert validated[name] > validated[name.replace("_per_step", "")]


def test_readme_says_what_augmentation_costs_and_gains():
    """README: better by so much at the trained size, worse by so much at twice that size."""
    runs = {run.path.name: run for run in RUNS}

    def mean(experiment: str, protocol: str) -> float:
        found = seeds_of(experiment, {name: run.record() for name, run in runs.items()})
        return sum(record["validation"][protocol]["mean_iou"] for record in found.values()) / len(found)

    plain, augmented = "enet_camvid_ablation_plain", "enet_camvid_ablation"
    assert f"is better by {100 * (mean(plain, 'report') - mean(augmented, 'report')):.1f} points" in PROSE
    assert f"it is worse by {100 * (mean(augmented, 'full') - mean(plain, 'full')):.1f} points" in PROSE
    assert ("enet_camvid_plain" in runs) != ("without augmentation has not been run" in PROSE)


def test_readme_says_how_far_float32_is_from_the_record():
    record = RunFolder(TOP / "report" / "runs" / "enet_camvid").record()
    measured = json.loads((TOP / "report" / "evaluations" / "enet_camvid_float32.json").read_text(encoding="utf-8"))
    assert (measured["precision"], record["precision"]) == ("float32", "bfloat16")
    assert measured["epoch"] == record["best_epoch"] and not measured["commit"].endswith("-dirty")
    own = {protocol: measured["validation"][protocol]["mean_iou"] for protocol in ("full", "report")}
    less = [f"{100 * (record['validation'][protocol]['mean_iou'] - value):.2f}" for protocol, value in own.items()]
    quoted = f"has {own['full']:.4f} (`full`) and {own['report']:.4f} (`report`)"
    assert f"{quoted}, {' and '.join(less)} points less" in PROSE


def test_no_device_has_1_threads():
    shown = [TOP / "README.md", *(TOP / "report").glob("tables/*.*"), *(TOP / "report").glob("complexity/*.md")]
    assert "1 thread," in README
    assert [path.name for path in shown if re.search(r"\b1 threads", path.read_text(encoding="utf-8"))] == []


def test_a_device_with_one_thread_has_one(monkeypatch):
    for threads, text in ((1, ", 1 thread"), (11, ", 11 threads")):
        monkeypatch.setattr("torch.get_num_threads", lambda threads=threads: threads)
        assert device_name(torch.device("cpu")).endswith(text)


def test_times_per_epoch_are_those_of_the_records():
    costs, records = read_complexity(TOP / "report" / "complexity"), {run.path.name: run.record() for run in RUNS}
    assert with_times(costs, records) == costs
    timed = {row["experiment"]: row["seconds_per_epoch"] for row in costs["rows"] if "seconds_per_epoch" in row}
    assert timed == {name: records[name]["seconds_per_epoch"] for name in timed} and "enet_camvid" in timed
    # of a run that did other work, or that is not there, nothing is known
    other = records["enet_camvid"] | {"experiment": records["enet_camvid"]["experiment"] | {"batch_size": 2}}
    assert not any("seconds_per_epoch" in row for row in with_times(costs, {"enet_camvid": other})["rows"])


def test_the_cost_table_is_made_from_its_record():
    record = read_complexity(TOP / "report" / "complexity")
    assert not record["commit"].endswith("-dirty")
    written = (TOP / "report" / "complexity" / "complexity.md").read_text(encoding="utf-8")
    assert written == f"{complexity_markdown(complexity_frame(record))}\n{complexity_notes(record)}\n"
