"""The report: the same records give the same files, and every number in a table is that of its record."""

import csv
import io
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
from nnti.figures.complexity import read_complexity
from nnti.report import build_report, filled, report_tables, set_pdf, take_run, write_tables
from nnti.report.tables import command_of
from nnti.training.run_folder import RunFolder

TOP = Path(__file__).resolve().parent.parent
REPORT = TOP / "report"
RUNS = {path.parent.name: RunFolder(path.parent) for path in sorted(REPORT.glob("runs/*/record.json"))}
RECORDS = {name: run.record() for name, run in RUNS.items()}
METRICS = {"Dice (= F1)": "dice", "mean IoU": "mean_iou", "pixel accuracy": "pixel_accuracy",
           "sensitivity": "sensitivity", "loss": "loss"}  # fmt: skip


def table(name: str) -> list[dict[str, str]]:
    with open(REPORT / "tables" / f"{name}.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def checkout(tmp_path, monkeypatch) -> Path:
    """A copy of what the report is made of; everything that is built lands in it."""
    shutil.copytree(REPORT, tmp_path / "report", ignore=shutil.ignore_patterns("*.pt", "tables", "report.pdf"))
    shutil.copytree(TOP / "figures", tmp_path / "figures", ignore=shutil.ignore_patterns("miniature"))
    shutil.copy(TOP / "README.md", tmp_path)
    monkeypatch.setattr("nnti.folders.home", lambda: tmp_path)
    monkeypatch.setenv("NNTI_FIGURES", str(tmp_path / "figures"))
    return tmp_path


def test_the_same_records_give_the_same_bytes(checkout):
    before = (checkout / "README.md").read_bytes()
    made = []
    for _ in range(2):
        for name in ("tables", "report.pdf"):
            path = checkout / "report" / name
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        for path in checkout.glob("figures/*_curves.*"):
            path.unlink()
        paths = build_report()
        assert all(path.is_file() for path in paths)
        pdf = (checkout / "report" / "report.pdf").read_bytes()
        made.append((contents(checkout / "figures"), contents(checkout / "report" / "tables"), pdf))
    assert made[0] == made[1]
    assert made[0][1] == contents(REPORT / "tables")  # those that are committed
    assert contents(checkout / "report" / "complexity") == contents(REPORT / "complexity")
    assert set(made[0][0]) == {path.name for path in (TOP / "figures").iterdir() if path.is_file()}
    assert (checkout / "README.md").read_bytes() == before
    assert made[0][2].startswith(b"%PDF") and len(made[0][2]) < 3e6


@pytest.fixture
def committed(tmp_path, monkeypatch) -> Path:
    """A copy of the committed report/, without its PDF, to set anew from the committed tables and figures."""
    shutil.copytree(REPORT, tmp_path / "report", ignore=shutil.ignore_patterns("*.pt", "report.pdf"))
    shutil.copytree(TOP / "figures", tmp_path / "figures", ignore=shutil.ignore_patterns("miniature", "*.png"))
    monkeypatch.setattr("nnti.folders.home", lambda: tmp_path)
    return tmp_path / "report"


def setter(pdf: bytes) -> bytes:
    """Return the name and version of what has set a PDF."""
    return re.search(rb"/Creator ?\(([^)]+)\)", pdf)[1]


def test_the_committed_pdf_is_set_from_the_committed_files(committed):
    """Fails where a text, table, figure or record has changed and nobody ran `python -m nnti report`."""
    old, new = (REPORT / "report.pdf").read_bytes(), set_pdf(committed).read_bytes()
    if setter(old) != setter(new):
        pytest.skip(f"report.pdf was set by {setter(old)}, here is {setter(new)}: other bytes need not be other pages")
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
def test_a_record_that_contradicts_a_sentence_stops_the_pdf(committed, name, protocol, value, sentence):
    path = committed / "runs" / name / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["validation"][protocol]["mean_iou"] = value
    path.write_text(json.dumps(record), encoding="utf-8")
    with pytest.raises(RunError, match=f"no longer bear out this sentence: .*{sentence}"):
        set_pdf(committed)


def test_the_pdf_takes_runs_that_were_missing(committed):
    """Whoever runs one of the report's own experiments can add its record: no sentence claims that it is not there."""
    for name in ("enet_voc", "enet_camvid_plain", "r2unet_cityscapes", "r2unet_try"):
        shutil.copytree(committed / "runs" / "r2unet_camvid_short", committed / "runs" / name)
    runs = {path.parent.name: RunFolder(path.parent) for path in sorted(committed.glob("runs/*/record.json"))}
    write_tables(report_tables(runs, read_complexity(committed / "complexity")), committed / "tables")
    assert set_pdf(committed).stat().st_size > 1e6


def test_no_measurement_is_typed_into_the_text():
    """Three decimals and more, and numbers of parameters, are read from files; 2021's and others' numbers have two."""
    text = re.sub(r"#claim\(.*", "", (REPORT / "report.typ").read_text(encoding="utf-8"))
    typed = re.findall(r"(?<![\d.@/])(?:0\.\d{3,}|\d{1,3},\d{3},\d{3})", text)
    assert set(typed) <= {"0.048", "0.507", "0.963"}  # where strips are cut out of pictures


@pytest.mark.parametrize("name", sorted(RECORDS))
def test_commands_give_exactly_the_settings_of_their_records(name):
    command = next(row["command"] for row in table("records") if row["record"] == name)
    python, m, nnti, train, base, *rest = shlex.split(command)
    assert [python, m, nnti, train] == ["python", "-m", "nnti", "train"] and rest[:1] in ([], ["--set"])
    changes = dict(parse_setting(text) for text in rest[1:])
    assert Experiment.load(base).replace(**changes) == Experiment.from_dict(RECORDS[name]["experiment"])


def test_commands_quote_and_name_runs_of_other_experiments():
    settings = RECORDS["enet_camvid"]["experiment"]
    odd = settings | {"compile": False, "model_arguments": {"a": "b c"}, "val_split": "12", "checkpoint_every": None}
    command = shlex.split(command_of("odd", {"experiment": odd}))
    changes = dict(parse_setting(text) for text in command[command.index("--set") + 1 :])
    assert Experiment.load("enet_camvid").replace(**changes) == Experiment.from_dict(odd)
    mine = {"experiment": settings | {"name": "mine"}}
    assert command_of("folder", mine) == "python -m nnti train report/runs/folder"


def test_csv_and_markdown_say_the_same():
    for path in REPORT.glob("tables/*.csv"):
        rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8"))))
        lines = path.with_suffix(".md").read_text(encoding="utf-8").splitlines()
        cells = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
        assert [cells[0], *cells[2:]] == rows, path


def test_table_2_follows_its_records():
    rows = table("table2_metrics")
    seen = set()
    for row in rows:
        name = row["record"]
        if name.startswith("published"):
            model = {"ENet": "enet", "R2U-Net": "r2unet", "PSPNet": "pspnet"}[row["network"]]
            expected = published.SCORES[model][row["split"]]
        elif name.startswith("not run"):
            assert name.removeprefix("not run: python -m nnti train ") not in RECORDS
            assert {row[column] for column in METRICS} == {"–"}
            continue
        elif row["split"] == "train":
            history = list(csv.DictReader(io.StringIO((REPORT / "runs" / name / "history.csv").read_text())))
            best = history[RECORDS[name]["best_epoch"]]
            expected = {metric: float(best[f"train_{metric}"]) for metric in METRICS.values()}
        else:
            expected = json.loads((REPORT / "runs" / name / "record.json").read_text())["validation"][row["protocol"]]
            assert row["data set"] == RECORDS[name]["data"]["title"]
        seen.add((name, row["split"], row["protocol"], row["network"]))
        for column, metric in METRICS.items():
            assert row[column] == f"{expected[metric]:.4f}", (name, column)
    assert len(seen) + sum(row["record"].startswith("not run") for row in rows) == len(rows)
    assert {row["record"] for row in rows} >= {"enet_camvid", "r2unet_camvid_short", "pspnet_camvid_short"}


def test_table_1_follows_its_records():
    measured = {
        row["experiment"]: row for row in json.loads((REPORT / "complexity/complexity.json").read_text())["rows"]
    }
    for row in table("table1_complexity"):
        cost = measured[row["experiment"]]
        assert row["parameters"] == f"{cost['parameters']:,}"
        assert float(row["checkpoint, MB"]) == pytest.approx(cost["checkpoint_bytes"] / 1e6, abs=0.051)
        assert float(row["multiply-adds, G"]) == pytest.approx(cost["multiply_adds"] / 1e9, abs=0.0051)
        if row["experiment"] in RECORDS:
            minutes, seconds = row["time per epoch"].removesuffix(" min").split(":")
            own = RECORDS[row["experiment"]]["seconds_per_epoch"]
            assert 60 * int(minutes) + int(seconds) == pytest.approx(own, abs=0.51)
            assert RECORDS[row["experiment"]]["parameters"] == cost["parameters"]
        else:
            assert row["time per epoch"] == "not run"
        prefix = row["experiment"].split("_")[0]
        for (model, _), cost in published.COSTS.items():
            if row["experiment"] in ("enet_voc", "r2unet_cityscapes", "pspnet_cityscapes") and model == prefix:
                assert row["published parameters"] == f"{cost.parameters / 1e6:.2f} M"
                assert float(row["published size, MB"]) == pytest.approx(cost.checkpoint_bytes / 1e6)


def test_frames_follow_their_record():
    measured = {
        row["experiment"]: row for row in json.loads((REPORT / "complexity/complexity.json").read_text())["rows"]
    }
    keys = {"eager": "frames_per_second", "deployed": "deployed_frames_per_second",
            "ONNX Runtime": "onnx_frames_per_second"}  # fmt: skip
    rows = table("frames")
    assert {row["experiment"] for row in rows} == set(measured) - {"r2unet_cityscapes_8gb"}
    for row in rows:
        for column, key in keys.items():
            speed = measured[row["experiment"]].get(key)
            assert row[column] == ("not measured" if speed is None else f"{speed:.3g}")


@pytest.mark.parametrize("name", ["augmentation", "power", "normalization", "protocol"])
def test_ablations_follow_their_records(name):
    for row in table(f"ablation_{name}"):
        if row["records"].startswith("not run"):
            assert row["seeds"] == "0" and row["full"] == "–"
            continue
        records = [RECORDS[record] for record in row["records"].split()]
        assert row["seeds"] == str(len(records))
        assert len({record["seed"] for record in records}) == len(records)
        for column in {"report", "full", "batch statistics", "running statistics"} & set(row):
            if column.endswith("statistics"):
                mode = {"batch statistics": "train_mode_mean_iou", "running statistics": "eval_mode_mean_iou"}[column]
                values = [record["health"][mode] for record in records]
            else:
                values = [record["validation"][column]["mean_iou"] for record in records]
            spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
            assert row[column] == f"{np.mean(values):.4f}{spread}"


def test_ablations_differ_in_one_setting():
    """What a pair of runs is said to show can only be said if nothing else differs."""
    from nnti.report.tables import ABLATIONS, seeds_of

    allowed = {
        "augmentation": {"augment"},
        "power": {"power"},
        "normalization": {"model_arguments"},
    }
    harmless = {"name", "seed", "checkpoint_every", "keep_every", "cache", "compile", "num_workers", "device"}
    compared = 0
    for name, settings in allowed.items():
        for comparison in ABLATIONS[name]:
            variants = [seeds_of(experiment, RECORDS) for experiment in comparison.variants.values()]
            if not all(variants):
                continue
            first, *others = [record["experiment"] for found in variants for record in found.values()]
            for other in others:
                differ = {key for key in first | other if first.get(key) != other.get(key)}
                assert differ - harmless <= settings, (name, comparison.conditions)
                compared += 1
    assert compared > 5


def test_rows_name_the_channels_of_their_networks():
    for row in table("ablation_normalization"):
        for name in row["records"].split():
            default = [64, 128, 256, 512, 1024]
            widths = RECORDS[name]["experiment"]["model_arguments"].get("widths", default)
            assert f"{widths[0]} to {widths[-1]} channels" in row["conditions"]


def test_classes_and_records_follow_their_records():
    for number, row in enumerate(table("classes")):
        for name in set(row) - {"class"}:
            assert row["class"] == RECORDS[name]["data"]["class_names"][number]
            assert row[name] == f"{RECORDS[name]['validation']['full']['iou_per_class'][number]:.4f}"
    rows = {row["record"]: row for row in table("records")}
    assert set(rows) == set(RECORDS)
    for name, row in rows.items():
        assert RECORDS[name]["commit"].startswith(row["commit"])
        assert row["epochs"] == f"{RECORDS[name]['best_epoch']} of {RECORDS[name]['epochs']}"
    for row in table("normalization"):
        health = RECORDS[row["run"]]["health"]
        assert row["mean IoU, batch statistics"] == f"{health['train_mode_mean_iou']:.4f}"
        assert row["mean IoU, running statistics"] == f"{health['eval_mode_mean_iou']:.4f}"
        assert "-" not in row["batch − running"]  # a minus, no hyphen
        measured = RECORDS[row["run"]]["validation"][row["validation protocol"]]["mean_iou"]
        assert row["validation mean IoU"] == f"{measured:.4f}"


def test_a_changed_record_changes_the_tables(tmp_path):
    runs = tmp_path / "runs"
    shutil.copytree(REPORT / "runs", runs, ignore=shutil.ignore_patterns("*.pt"))
    path = runs / "enet_camvid" / "record.json"
    record = json.loads(path.read_text())
    record["validation"]["full"]["mean_iou"] = 0.1234
    path.write_text(json.dumps(record))
    folders = {path.parent.name: RunFolder(path.parent) for path in sorted(runs.glob("*/record.json"))}
    costs = read_complexity(REPORT / "complexity")
    tables = report_tables(folders, costs)
    row = tables["table2_metrics"].query("record == 'enet_camvid' and protocol == 'full'")
    assert row["mean IoU"].tolist() == ["0.1234"]
    shutil.rmtree(runs / "enet_camvid")
    del folders["enet_camvid"]
    tables = report_tables(folders, costs)
    assert "not run: python -m nnti train enet_camvid" in tables["table2_metrics"]["record"].tolist()
    write_tables(tables, tmp_path / "tables")
    assert "not run" in (tmp_path / "tables" / "table1_complexity.md").read_text(encoding="utf-8")


def test_readme_blocks():
    tables = report_tables(RUNS, read_complexity(REPORT / "complexity"))
    text = "a\n<!-- table: classes without pole -->\nold\n<!-- end of table -->\nb"
    new = filled(text, tables)
    assert "old" not in new and "| sky |" in new and "pole" not in new.split("-->", 1)[1]
    assert filled(new, tables) == new
    with pytest.raises(RunError, match="no table 'wrong'.*classes"):
        filled(text.replace("classes", "wrong"), tables)


def test_runs_are_taken_into_the_report(checkout, tmp_path, monkeypatch, capsys):
    source = tmp_path / "runs" / "enet_camvid_half"
    shutil.copytree(REPORT / "runs" / "enet_camvid_ablation_seed0", source)
    (source / "best.pt").write_bytes(b"a checkpoint")
    paths = take_run(RunFolder(source))
    taken = checkout / "report" / "runs" / "enet_camvid_half"
    assert {path.name for path in taken.iterdir()} == {"experiment.json", "history.csv", "record.json"}
    assert {path.parent for path in paths} == {taken}

    record = json.loads((source / "record.json").read_text())
    (source / "record.json").write_text(json.dumps(record | {"finished": False}))
    monkeypatch.setenv("NNTI_RUNS", str(tmp_path / "runs"))
    with pytest.raises(SystemExit) as stopped:
        raise SystemExit(main(["report", "enet_camvid_half"]))
    assert stopped.value.code and "not finished" in capsys.readouterr().err


def test_errors_name_the_source(checkout):
    (checkout / "report" / "report.typ").write_text("#unknown()", encoding="utf-8")
    with pytest.raises(RunError, match="report.typ cannot be set: unknown variable"):
        set_pdf(checkout / "report")
    (checkout / "report" / "report.typ").unlink()
    with pytest.raises(RunError, match="does not exist"):
        build_report()
