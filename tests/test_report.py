"""The report: every committed record is shown with its own values, and every sentence is borne out by them."""

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import contents

from nnti import published
from nnti.__main__ import main
from nnti.errors import RunError
from nnti.experiment import Experiment, parse_setting
from nnti.figures.complexity import read_complexity, with_times
from nnti.report import build_report, filled, report_tables, set_pdf, take_run, write_tables
from nnti.report.ablations import ABLATIONS, seeds_of
from nnti.report.tables import MEASURED, measured
from nnti.training.run_folder import RunFolder

TOP = Path(__file__).resolve().parent.parent
REPORT = TOP / "report"
RUNS = {path.parent.name: RunFolder(path.parent) for path in sorted(REPORT.glob("runs/*/record.json"))}
RECORDS = {name: run.record() for name, run in RUNS.items()}
COSTS = read_complexity(REPORT / "complexity")
TEXTS = [TOP / "README.md", *sorted(TOP.glob("docs/*.md"))]
METRICS = {"Dice (= F1)": "dice", "mean IoU": "mean_iou", "pixel accuracy": "pixel_accuracy",
           "sensitivity": "sensitivity", "loss": "loss"}  # fmt: skip


def table(name: str) -> list[dict[str, str]]:
    with open(REPORT / "tables" / f"{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """A copy of report/, figures/ and texts; everything that is built lands in it."""
    shutil.copytree(REPORT, tmp_path / "report", ignore=shutil.ignore_patterns("*.pt", "report.pdf"))
    shutil.copytree(TOP / "figures", tmp_path / "figures", ignore=shutil.ignore_patterns("miniature"))
    for path in TEXTS:
        (tmp_path / path.relative_to(TOP)).parent.mkdir(exist_ok=True)
        shutil.copy(path, tmp_path / path.relative_to(TOP))
    monkeypatch.setattr("nnti.folders.home", lambda: tmp_path)
    monkeypatch.setenv("NNTI_FIGURES", str(tmp_path / "figures"))
    return tmp_path / "report"


def test_the_report_is_made_from_the_records_alone(copy, monkeypatch):
    monkeypatch.setattr("nnti.report.build.MEASURED", ("enet_camvid",))  # whose figures show that others' are drawn too
    shutil.rmtree(copy / "tables")
    drawn = [*copy.parent.glob("figures/enet_camvid_curves.*"), *copy.parent.glob("figures/*_architecture.*")]
    for path in drawn:
        path.unlink()
    paths = build_report()
    assert all(path.is_file() for path in [*paths, *drawn])
    assert contents(copy / "tables") == contents(REPORT / "tables")  # those that are committed
    assert contents(copy / "complexity") == contents(REPORT / "complexity")
    assert set(contents(copy.parent / "figures")) == set(contents(TOP / "figures"))
    assert all((copy.parent / path.relative_to(TOP)).read_bytes() == path.read_bytes() for path in TEXTS)
    pdf = (copy / "report.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and len(pdf) < 3e6


def test_the_committed_pdf_is_up_to_date_with_the_committed_files(copy):
    """Fails where a text, table, figure or record has changed and nobody ran `python -m nnti report`."""
    old, new = (REPORT / "report.pdf").read_bytes(), set_pdf(copy).read_bytes()
    typst = [re.search(rb"/Creator ?\(([^)]+)\)", pdf)[1] for pdf in (old, new)]
    if typst[0] != typst[1]:
        pytest.skip(f"report.pdf was set by {typst[0]}, here is {typst[1]}: other bytes need not be other pages")
    assert old == new, "report/report.pdf is stale: run `python -m nnti report` and commit what it wrote"


@pytest.mark.parametrize(
    "name, protocol, value, sentence",
    [
        ("pspnet_camvid_short", "report", 0.1, "PSPNet is ahead of R2U-Net"),
        ("enet_camvid_ablation_plain_seed1", "full", 0.9, "the plain network is worse in every seed"),
        ("enet_camvid_ablation_power09_seed2", "full", 0.1, "0.9 is ahead in each seed"),
        ("r2unet_camvid_narrow_per_step", "full", 0.1, "validates better in every pair"),
    ],
)
def test_a_claim_that_no_record_bears_out_stops_the_build(copy, name, protocol, value, sentence):
    path = copy / "runs" / name / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["validation"][protocol]["mean_iou"] = value
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(RunError, match=f"no longer bear out this sentence: .*{sentence}"):
        set_pdf(copy)


def test_the_pdf_takes_runs_that_were_missing_and_faults_name_the_source(copy):
    """Whoever runs one of the report's own experiments can add its record: no sentence claims that it is not there."""
    for name in ("enet_voc", "enet_camvid_plain", "r2unet_cityscapes", "r2unet_try"):
        shutil.copytree(copy / "runs" / "r2unet_camvid_short", copy / "runs" / name)
    runs = {path.parent.name: RunFolder(path.parent) for path in sorted(copy.glob("runs/*/record.json"))}
    write_tables(report_tables(runs, COSTS), copy / "tables")
    assert set_pdf(copy).stat().st_size > 1e6
    (copy / "report.typ").write_text("#unknown()", encoding="utf-8")
    with pytest.raises(RunError, match="report.typ cannot be set: unknown variable"):
        set_pdf(copy)
    (copy / "report.typ").unlink()
    with pytest.raises(RunError, match="does not exist"):
        build_report()


def test_no_measurement_is_typed_into_the_report():
    """Three decimals and more, and numbers of parameters, are read from files; 2021's and others' numbers have two."""
    text = re.sub(r"#claim\(.*", "", (REPORT / "report.typ").read_text(encoding="utf-8"))
    typed = re.findall(r"(?<![\d.@/])(?:0\.\d{3,}|\d{1,3},\d{3},\d{3})", text)
    assert set(typed) <= {"0.048", "0.963"}  # where strips are cut out of pictures


def test_scores_in_readme_and_docs_are_those_of_records():
    patterns = ("tables/*.csv", "runs/*/*.json", "runs/*/history.csv", "evaluations/*.json")
    measured = "".join(path.read_text(encoding="utf-8") for pattern in patterns for path in REPORT.glob(pattern))
    known = {f"{float(score):.4f}" for score in re.findall(r"\b0\.\d{4,}", measured)}
    for path in TEXTS:
        assert set(re.findall(r"(?<![\d.])0\.\d{4}\b", path.read_text(encoding="utf-8"))) <= known, path


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_records_are_complete_and_their_commands_give_exactly_their_settings(name):
    record, history = RECORDS[name], RUNS[name].history()
    assert record["name"] == name
    assert record["commit"] and not record["commit"].endswith("-dirty")
    assert len(history) == record["epochs"] + 1
    assert (record["epochs"] == record["experiment"]["epochs"]) == record["finished"] == ("validation" in record)
    validated = measured(RUNS[name])["validation"][record["experiment"]["protocol"]]["mean_iou"]
    assert history["val_mean_iou"].max() == pytest.approx(validated, abs=2e-4)
    assert history["val_mean_iou"][record["best_epoch"]] == pytest.approx(validated, abs=2e-4)

    if analysis := RUNS[name].analysis():  # on another device or precision a few pixels differ
        assert (analysis["epoch"], len(analysis["images"])) == (record["best_epoch"], record["data"]["val_images"])
        assert analysis["mean_iou"] == pytest.approx(record["validation"]["full"]["mean_iou"], abs=2e-3)

    row = next(row for row in table("records") if row["record"] == name)
    assert record["commit"].startswith(row["commit"]) and row["seed"] == str(record["seed"])
    planned = "" if record["finished"] else f" ({record['experiment']['epochs']} planned)"
    assert row["epochs"] == f"{record['best_epoch']} of {record['epochs']}{planned}"
    command = shlex.split(row["command"])
    assert command[:4] == ["python", "-m", "nnti", "train"] and command[5:6] in ([], ["--set"])
    changes = dict(parse_setting(text) for text in command[6:])
    assert Experiment.load(command[4]).replace(**changes) == Experiment.from_dict(record["experiment"])


def test_table_2_has_the_values_of_its_records():
    for row in table("table2_metrics"):
        name = row["record"]
        if name.startswith("published"):
            model = {"ENet": "enet", "R2U-Net": "r2unet", "PSPNet": "pspnet"}[row["network"]]
            expected = published.SCORES[model][row["split"]]
        elif name.startswith("not run"):
            assert name.removeprefix("not run: python -m nnti train ") not in RECORDS
            assert {row[column] for column in METRICS} == {"–"}
            continue
        elif row["split"] == "train":
            best = RUNS[name].history().loc[RECORDS[name]["best_epoch"]]
            expected = {metric: best[f"train_{metric}"] for metric in METRICS.values()}
        else:
            expected = measured(RUNS[name])["validation"][row["protocol"].split(",")[0]]
            data = RECORDS[name]["data"]
            assert row["epochs"] == f"{RECORDS[name]['best_epoch']} of {RECORDS[name]['epochs']}"
            assert row["data set"] == f"{data['title']} ({data['train_images']:,} / {data['val_images']} images)"
        assert {column: row[column] for column in METRICS} == {
            column: f"{expected[metric]:.4f}" for column, metric in METRICS.items()
        }, name
    shown = [(row["record"], row["split"], row["protocol"].split(",")[0]) for row in table("table2_metrics")]
    for name in MEASURED:
        protocols = ("report", "full") if RECORDS[name]["finished"] else (RECORDS[name]["experiment"]["protocol"],)
        assert {(name, "train", "crops"), *((name, "val", protocol) for protocol in protocols)} <= set(shown)


def test_costs_have_the_values_of_their_records():
    assert with_times(COSTS, RECORDS) == COSTS and not COSTS["commit"].endswith("-dirty")
    measured = {row["experiment"]: row for row in COSTS["rows"]}
    for row in table("table1_complexity"):
        cost, record = measured[row["experiment"]], RECORDS.get(row["experiment"])
        assert row["parameters"] == f"{cost['parameters']:,}"
        assert float(row["checkpoint, MB"]) == pytest.approx(cost["checkpoint_bytes"] / 1e6, abs=0.051)
        assert float(row["multiply-adds, G"]) == pytest.approx(cost["multiply_adds"] / 1e9, abs=0.0051)
        assert (row["time per epoch"] == "not run") == (record is None)
        if record:
            minutes, seconds = row["time per epoch"].removesuffix(" min").split(":")
            assert 60 * int(minutes) + int(seconds) == pytest.approx(record["seconds_per_epoch"], abs=0.51)
            assert record["parameters"] == cost["parameters"]
    for row in table("frames"):
        for column, key in {"eager": "", "deployed": "deployed_", "ONNX Runtime": "onnx_"}.items():
            speed = measured[row["experiment"]].get(f"{key}frames_per_second")
            assert row[column] == ("not measured" if speed is None else f"{speed:.3g}")


@pytest.mark.parametrize("name", sorted(ABLATIONS))
def test_ablations_have_the_values_of_their_records(name):
    modes = {"batch statistics": "train_mode_mean_iou", "running statistics": "eval_mode_mean_iou"}
    for row in table(f"ablation_{name}"):
        if row["records"].startswith("not run"):
            assert row["seeds"] == "0" and row["full"] == "–"
            continue
        records = [RECORDS[record] for record in row["records"].split()]
        assert row["seeds"] == str(len(records)) == str(len({record["seed"] for record in records}))
        for column in {"report", "full", *modes} & set(row):
            if column in modes:
                values = [record["health"][modes[column]] for record in records]
            else:
                validated = [measured(RUNS[record])["validation"] for record in row["records"].split()]
                values = [protocols[column]["mean_iou"] for protocols in validated if column in protocols]
            spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
            assert row[column] == (f"{np.mean(values):.4f}{spread}" if values else "–")


def test_runs_of_an_ablation_differ_in_its_setting_alone():
    """What a pair of runs is said to show can only be said if nothing else differs."""
    allowed = {
        "augmentation": {"augment"},
        "power": {"power"},
        "normalization": {"model_arguments"},
        "attention": {"model_arguments"},
        "pretraining": {"model_arguments", "backbone_factor"},  # a backbone of random weights learns at the full rate
    }
    harmless = {"name", "seed", "checkpoint_every", "keep_every", "cache", "compile", "num_workers", "device"}
    compared = 0
    for name, settings in allowed.items():
        for conditions, experiments in ABLATIONS[name].items():
            variants = [seeds_of(experiment, RECORDS) for experiment in experiments.values()]
            if all(variants):
                runs = [record["experiment"] for found in variants for record in found.values()]
                # settings that are newer than a record have their defaults
                first, *others = [Experiment.from_dict(run).to_dict() for run in runs]
                for other in others:
                    differ = {key for key in first | other if first.get(key) != other.get(key)}
                    assert differ - harmless <= settings, (name, conditions)
                compared += len(others)
    assert compared > 5


def test_a_changed_record_changes_the_tables_and_a_missing_one_is_named(tmp_path):
    shutil.copytree(REPORT / "runs" / "enet_camvid", tmp_path / "changed", ignore=shutil.ignore_patterns("*.pt"))
    path = tmp_path / "changed" / "record.json"
    record = json.loads(path.read_text())
    record["validation"]["full"]["mean_iou"] = 0.1234
    path.write_text(json.dumps(record))
    runs = RUNS | {"enet_camvid": RunFolder(path.parent)}
    del runs["pspnet_camvid_short"]
    metrics = report_tables(runs, COSTS)["table2_metrics"]
    assert metrics.query("record == 'enet_camvid' and protocol == 'full'")["mean IoU"].tolist() == ["0.1234"]
    assert "not run: python -m nnti train pspnet_camvid_short" in set(metrics["record"])


def test_tables_filled_in_twice_give_the_same_text():
    tables = {"summary": pd.DataFrame({"network": ["R2U-Net", "PSPNet"], "mean IoU": ["0.1", "0.2"]})}
    text = "a\n<!-- table: summary without PSPNet -->\nold\n<!-- end of table -->\nb"
    new = filled(text, tables)
    assert "old" not in new and "R2U-Net" in new and "PSPNet" not in new.split("-->", 1)[1]
    assert filled(new, tables) == new
    with pytest.raises(RunError, match="no table 'wrong'.*summary"):
        filled(text.replace("summary", "wrong"), tables)


def test_runs_are_taken_into_the_report_without_their_checkpoints(copy, tmp_path, monkeypatch, capsys):
    source = tmp_path / "runs" / "enet_camvid_half"
    shutil.copytree(REPORT / "runs" / "enet_camvid_ablation_seed0", source)
    (source / "best.pt").write_bytes(b"a checkpoint")
    taken = take_run(RunFolder(source))
    assert {path.name for path in taken} == {"experiment.json", "history.csv", "record.json"}
    assert {path.parent for path in taken} == {copy / "runs" / "enet_camvid_half"}
    assert set(taken) == set((copy / "runs" / "enet_camvid_half").iterdir())
    record = json.loads((source / "record.json").read_text())
    (source / "record.json").write_text(json.dumps(record | {"finished": False, "best_epoch": 0}))
    monkeypatch.setenv("NNTI_RUNS", str(tmp_path / "runs"))
    assert main(["report", "enet_camvid_half"]) == 1
    assert "no validated epoch yet" in capsys.readouterr().err
