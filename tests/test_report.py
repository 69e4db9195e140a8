"""The report: every committed record is shown with its own values, and every sentence is borne out by them."""

import csv
import json
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest

from nnti import published
from nnti.__main__ import main
from nnti.errors import RunError
from nnti.experiment import Experiment, parse_setting
from nnti.figures.complexity import read_complexity, with_times
from nnti.report import build_report, filled, report_tables, set_pdf, take_run, write_tables
from nnti.report.tables import ABLATIONS, seeds_of
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


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


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
    monkeypatch.setattr("nnti.report.build.CAMVID", ("enet_camvid",))  # whose figures show that others' are drawn too
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
    assert set(typed) <= {"0.048", "0.507", "0.963"}  # where strips are cut out of pictures


def test_scores_in_readme_and_docs_are_those_of_records():
    files = [path for pattern in ("runs/*/*.json", "evaluations/*.json") for path in REPORT.glob(pattern)]
    tables = "".join(path.read_text(encoding="utf-8") for path in REPORT.glob("tables/*.csv"))
    known = set(re.findall(r"0\.\d{4}\b", tables))
    for path in files:
        known |= {f"{float(x):.4f}" for x in re.findall(r"\b0\.\d{4,}", path.read_text(encoding="utf-8"))}
    for path in REPORT.glob("runs/*/history.csv"):
        known |= {f"{float(x):.4f}" for x in re.findall(r"\b0\.\d{4,}", path.read_text(encoding="utf-8"))}
    for path in TEXTS:
        assert set(re.findall(r"(?<![\d.])0\.\d{4}\b", path.read_text(encoding="utf-8"))) <= known, path


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_records_are_complete_and_their_commands_give_exactly_their_settings(name):
    record, history = RECORDS[name], RUNS[name].history()
    assert record["finished"] is True and record["name"] == name
    assert record["commit"] and not record["commit"].endswith("-dirty")
    assert len(history) == record["epochs"] + 1 == record["experiment"]["epochs"] + 1
    measured = record["validation"][record["experiment"]["protocol"]]["mean_iou"]
    assert history["val_mean_iou"][record["best_epoch"]] == pytest.approx(measured, abs=2e-4)

    if analysis := RUNS[name].analysis():  # on another device or precision a few pixels differ
        assert (analysis["epoch"], len(analysis["images"])) == (record["best_epoch"], record["data"]["val_images"])
        assert analysis["mean_iou"] == pytest.approx(record["validation"]["full"]["mean_iou"], abs=2e-3)

    row = next(row for row in table("records") if row["record"] == name)
    assert record["commit"].startswith(row["commit"]) and row["seed"] == str(record["seed"])
    assert row["epochs"] == f"{record['best_epoch']} of {record['epochs']}"
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
            expected = RECORDS[name]["validation"][row["protocol"]]
            assert row["data set"] == RECORDS[name]["data"]["title"]
        assert {column: row[column] for column in METRICS} == {
            column: f"{expected[metric]:.4f}" for column, metric in METRICS.items()
        }, name
    shown = [(row["record"], row["split"], row["protocol"]) for row in table("table2_metrics")]
    for name in ("enet_camvid", "r2unet_camvid_short", "r2unet_camvid_per_step_short", "pspnet_camvid_short"):
        assert {(name, "train", "crops"), (name, "val", "report"), (name, "val", "full")} <= set(shown)


def test_costs_have_the_values_of_their_records():
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
        if row["experiment"] in ("enet_voc", "r2unet_cityscapes", "pspnet_cityscapes"):
            theirs = published.COSTS[tuple(row["experiment"].split("_"))]
            assert row["published parameters"] == f"{theirs.parameters / 1e6:.2f} M"
    assert {row["experiment"] for row in table("frames")} == set(measured) - {"r2unet_cityscapes_8gb"}
    for row in table("frames"):
        for column, key in {"eager": "", "deployed": "deployed_", "ONNX Runtime": "onnx_"}.items():
            speed = measured[row["experiment"]].get(f"{key}frames_per_second")
            assert row[column] == ("not measured" if speed is None else f"{speed:.3g}")


def test_times_per_epoch_are_those_of_runs_that_did_the_same_work(tmp_path):
    assert with_times(COSTS, RECORDS) == COSTS and not COSTS["commit"].endswith("-dirty")
    timed = {row["experiment"]: row["seconds_per_epoch"] for row in COSTS["rows"] if "seconds_per_epoch" in row}
    assert timed == {name: RECORDS[name]["seconds_per_epoch"] for name in timed} and "enet_camvid" in timed
    other = RECORDS["enet_camvid"] | {"experiment": RECORDS["enet_camvid"]["experiment"] | {"batch_size": 2}}
    assert not any("seconds_per_epoch" in row for row in with_times(COSTS, {"enet_camvid": other})["rows"])


@pytest.mark.parametrize("name", ["augmentation", "power", "normalization", "protocol"])
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
                values = [record["validation"][column]["mean_iou"] for record in records]
            spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
            assert row[column] == f"{np.mean(values):.4f}{spread}"
        if "channels" in row["conditions"]:
            for record in records:
                widths = record["experiment"]["model_arguments"].get("widths", [64, 1024])
                assert f"{widths[0]} to {widths[-1]} channels" in row["conditions"]


def test_runs_of_an_ablation_differ_in_one_setting():
    """What a pair of runs is said to show can only be said if nothing else differs."""
    allowed = {"augmentation": "augment", "power": "power", "normalization": "model_arguments"}
    harmless = {"name", "seed", "checkpoint_every", "keep_every", "cache", "compile", "num_workers", "device"}
    compared = 0
    for name, setting in allowed.items():
        for conditions, experiments in ABLATIONS[name].items():
            variants = [seeds_of(experiment, RECORDS) for experiment in experiments.values()]
            if all(variants):
                first, *others = [record["experiment"] for found in variants for record in found.values()]
                for other in others:
                    differ = {key for key in first | other if first.get(key) != other.get(key)}
                    assert differ - harmless <= {setting}, (name, conditions)
                compared += len(others)
    assert compared > 5


def test_normalisation_has_the_values_of_its_records():
    assert {row["run"] for row in table("normalization")} == {name for name in RECORDS if RECORDS[name].get("health")}
    for row in table("normalization"):
        batch, running = (RECORDS[row["run"]]["health"][f"{mode}_mode_mean_iou"] for mode in ("train", "eval"))
        measured = RECORDS[row["run"]]["validation"][row["validation protocol"]]["mean_iou"]
        assert row["mean IoU, batch statistics"] == f"{batch:.4f}"
        assert row["mean IoU, running statistics"] == f"{running:.4f}"
        assert row["validation mean IoU"] == f"{measured:.4f}"
        assert row["batch − running"] == f"{batch - running:+.4f}".replace("-", "−")  # a minus, no hyphen


def test_a_changed_record_changes_the_tables(tmp_path):
    shutil.copytree(REPORT / "runs", tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.pt"))
    path = tmp_path / "enet_camvid" / "record.json"
    record = json.loads(path.read_text())
    record["validation"]["full"]["mean_iou"] = 0.1234
    path.write_text(json.dumps(record))
    runs = {path.parent.name: RunFolder(path.parent) for path in sorted(tmp_path.glob("*/record.json"))}
    row = report_tables(runs, COSTS)["table2_metrics"].query("record == 'enet_camvid' and protocol == 'full'")
    assert row["mean IoU"].tolist() == ["0.1234"]
    del runs["enet_camvid"]
    assert "not run: python -m nnti train enet_camvid" in set(report_tables(runs, COSTS)["table2_metrics"]["record"])


def test_tables_filled_in_twice_give_the_same_text():
    tables = report_tables(RUNS, COSTS)
    text = "a\n<!-- table: summary without PSPNet -->\nold\n<!-- end of table -->\nb"
    new = filled(text, tables)
    assert "old" not in new and "R2U-Net" in new and "PSPNet" not in new.split("-->", 1)[1]
    assert filled(new, tables) == new
    with pytest.raises(RunError, match="no table 'wrong'.*summary"):
        filled(text.replace("summary", "wrong"), tables)
    shown = 0
    for path in TEXTS:
        markdown = path.read_text(encoding="utf-8")
        shown += markdown.count("<!-- table: ")
        assert markdown.count("<!-- table: ") == markdown.count("<!-- end of table -->")
        assert filled(markdown, tables) == markdown, path
    assert shown >= 2


def test_runs_are_taken_into_the_report_without_their_checkpoints(copy, tmp_path, monkeypatch, capsys):
    source = tmp_path / "runs" / "enet_camvid_half"
    shutil.copytree(REPORT / "runs" / "enet_camvid_ablation_seed0", source)
    (source / "best.pt").write_bytes(b"a checkpoint")
    taken = take_run(RunFolder(source))
    assert {path.name for path in taken} == {"experiment.json", "history.csv", "record.json"}
    assert {path.parent for path in taken} == {copy / "runs" / "enet_camvid_half"}
    assert set(taken) == set((copy / "runs" / "enet_camvid_half").iterdir())
    record = json.loads((source / "record.json").read_text())
    (source / "record.json").write_text(json.dumps(record | {"finished": False}))
    monkeypatch.setenv("NNTI_RUNS", str(tmp_path / "runs"))
    assert main(["report", "enet_camvid_half"]) == 1
    assert "not finished" in capsys.readouterr().err
