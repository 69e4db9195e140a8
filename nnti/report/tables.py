"""The report's tables: data frames made from records, each row naming its record; written as CSV and Markdown."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from nnti.complexity import EXPERIMENTS, complexity_frame, dataset_class
from nnti.config import Experiment
from nnti.costs import FORMS
from nnti.device import readable_device
from nnti.figures import health_table
from nnti.models import MODELS, architecture_table, build_model
from nnti.published import ABSTRACT_MEAN_IOU, COSTS, LITERATURE, REPORT, SCORES
from nnti.records import RunFolder
from nnti.report.ablations import ABLATIONS, ablation_table
from nnti.report.commands import command_of

__all__ = [
    "CAMVID",
    "TASKS",
    "as_markdown",
    "complexity_rows",
    "frames_table",
    "metrics_table",
    "report_tables",
    "write_tables",
]

TASKS = ("enet_voc", "enet_voc_plain", "r2unet_cityscapes", "pspnet_cityscapes")  # the report's own experiments
CAMVID = ("enet_camvid", "r2unet_camvid_short", "r2unet_camvid_per_step_short", "pspnet_camvid_short")
METRICS = {"dice": "Dice (= F1)", "mean_iou": "mean IoU", "pixel_accuracy": "pixel accuracy",
           "sensitivity": "sensitivity", "loss": "loss"}  # fmt: skip
NOT_RUN, NOT_PUBLISHED, NOT_MEASURED = "not run", "not published", "not measured"


def report_tables(runs: Mapping[str, RunFolder], costs: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Return file name → table of text, ready to be read.

    Args:
        runs: name of a run → its folder.
        costs: as `nnti.complexity.read_complexity` returns it.
    """
    records = {name: run.record() for name, run in runs.items()}
    return {
        "table1_complexity": complexity_rows(costs, records),
        "frames": frames_table(costs),
        "table2_metrics": metrics_table(runs),
        **{f"ablation_{name}": ablation_table(name, records) for name in ABLATIONS},
        "normalization": _texts(
            health_table(records.values()),
            {"seed": str, "images": str, "mean IoU, batch statistics": _points, "mean IoU, running statistics": _points,
             "batch − running": _signed, "validation mean IoU": _points},
        ),
        "classes": class_table(records),
        "abstract": abstract_table(),
        "literature": literature_table(),
        "records": record_table(records),
        **architecture_tables(),
    }  # fmt: skip


def complexity_rows(costs: dict[str, Any], records: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """Return Table 1, a row per experiment: what was published beside what was counted and measured here.

    Sizes and multiply-adds come from `costs`, the time per epoch from the run's own record.
    """
    rows = []
    for row in complexity_frame(costs).to_dict("records"):
        published = COSTS.get((row["experiment"].split("_")[0], row["data set"]))
        if row["experiment"].endswith("8gb"):
            continue  # the same network, trained with less memory
        record = records.get(row["experiment"])
        rows.append(
            {
                "experiment": row["experiment"],
                "parameters": f"{row['parameters']:,.0f}",
                "published parameters": f"{published.parameters / 1e6:.2f} M" if published else NOT_PUBLISHED,
                "checkpoint, MB": f"{row['checkpoint, MB']:.1f}",
                "published size, MB": f"{published.checkpoint_bytes / 1e6:.1f}" if published else NOT_PUBLISHED,
                "multiply-adds, G": f"{row['multiply-adds, G']:.2f}",
                "time per epoch": _time(record["seconds_per_epoch"]) if record else NOT_RUN,
                "published time": _time(published.seconds_per_epoch) if published else NOT_PUBLISHED,
            }
        )
    return pd.DataFrame(rows)


def frames_table(costs: dict[str, Any]) -> pd.DataFrame:
    """Return the images per second of each network's forms, a row per experiment; see `nnti.costs.measure_latency`."""
    forms = {"frames/s": "eager", **{f"frames/s, {form}": form for form in FORMS if form != "eager"}}
    rows = []
    for row in complexity_frame(costs).to_dict("records"):
        if row["experiment"].endswith("8gb"):
            continue  # the same network: it is trained with less memory
        speeds = {title: NOT_MEASURED if pd.isna(row[name]) else f"{row[name]:.3g}" for name, title in forms.items()}
        rows.append({"experiment": row["experiment"], "image size": row["image size"], **speeds})
    return pd.DataFrame(rows)


def metrics_table(runs: Mapping[str, RunFolder]) -> pd.DataFrame:
    """Return Table 2: published and own rows, training and validation; every own row names its record."""
    rows = []
    for model, splits in SCORES.items():
        title, dataset = MODELS[model].title, "PASCAL VOC 2012" if model == "enet" else "Cityscapes"
        for split, measured in splits.items():
            protocol = "report" if split == "val" else "crops"
            rows.append(_metrics_row(title, dataset, split, protocol, measured, f"published, {REPORT}"))
    for name in (*TASKS, *CAMVID):
        rows += _own_rows(name, runs)
    return pd.DataFrame(rows)


def class_table(records: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """Return the IoU of each class for the CamVid runs, `full` protocol."""
    found = {name: records[name] for name in CAMVID if name in records}
    table = {"class": next(iter(found.values()))["data"]["class_names"]} if found else {}
    for name, record in found.items():
        table[name] = [_points(value) for value in record["validation"]["full"]["iou_per_class"]]
    return pd.DataFrame(table)


def abstract_table() -> pd.DataFrame:
    """Return the validation mean IoU of the 2021 report's abstract beside that of its own Table 2."""
    return pd.DataFrame(
        {
            "network": MODELS[model].title,
            "abstract": f"{100 * value:.2f} %",
            "its Table 2, validation": f"{100 * SCORES[model]['val']['mean_iou']:.2f} %",
            "its Table 2, training": f"{100 * SCORES[model]['train']['mean_iou']:.2f} %",
        }
        for model, value in ABSTRACT_MEAN_IOU.items()
    )


def literature_table() -> pd.DataFrame:
    """Return what others have published."""
    return pd.DataFrame(
        {"network": row.model, "data set": f"{row.dataset}, {row.split}", "mean IoU": f"{100 * row.mean_iou:.4g}",
         "conditions": row.conditions, "source": row.source}
        for row in LITERATURE
    )  # fmt: skip


def architecture_tables() -> dict[str, pd.DataFrame]:
    """Return the blocks of each task's network, traced with a picture of 512 × 512, by the name of the file."""
    tables = {}
    for name in EXPERIMENTS:
        experiment = Experiment.load(name)
        classes = len(dataset_class(experiment.dataset).class_names)
        model = build_model(experiment.model, classes, experiment.model_arguments, pretrained=False)
        table = architecture_table(model)
        sizes = [f"{channels} × {height} × {width}" for channels, height, width in
                 zip(table["channels"], table["height"], table["width"], strict=True)]  # fmt: skip
        tables[f"architecture_{experiment.model}"] = pd.DataFrame(
            {"stage": table["stage"], "name": table["name"], "type": table["type"], "output size": sizes,
             "stride": [f"{stride}" for stride in table["stride"]],
             "parameters": [f"{count:,}" for count in table["parameters"]]}
        )  # fmt: skip
    return tables


def record_table(records: Mapping[str, dict[str, Any]]) -> pd.DataFrame:
    """Return where every number comes from: a row per record."""
    return pd.DataFrame(
        {
            "record": name,
            "data": f"{record['data']['title']}, {record['data']['train_images']} / {record['data']['val_images']}",
            "epochs": f"{record['best_epoch']} of {record['epochs']}",
            "seed": str(record["seed"]),
            "device": f"{readable_device(record['device'])}, {record['precision']}",
            "PyTorch": record["versions"]["torch"],
            "commit": record["commit"][:10],
            "command": command_of(name, record),
        }
        for name, record in sorted(records.items())
    )


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Write each table as NAME.csv and NAME.md into a folder and return the paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, table in tables.items():
        csv, text = folder / f"{name}.csv", folder / f"{name}.md"
        csv.write_text(table.to_csv(index=False, lineterminator="\n"), encoding="utf-8", newline="\n")
        text.write_text(as_markdown(table), encoding="utf-8", newline="\n")
        paths += [csv, text]
    return paths


def as_markdown(table: pd.DataFrame) -> str:
    """Return a table of text in Markdown."""
    lines = [list(table.columns), ["---"] * len(table.columns), *table.astype(str).to_numpy().tolist()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _own_rows(name: str, runs: Mapping[str, RunFolder]) -> list[dict[str, str]]:
    experiment = Experiment.load(name)
    title, dataset = MODELS[experiment.model].title, dataset_class(experiment.dataset).title
    title = title if experiment.augment else f"{title}, plain"
    if name not in runs or not runs[name].finished:
        command = f"{NOT_RUN}: python -m nnti train {name}"
        return [_metrics_row(title, dataset, "val", "report", dict.fromkeys(METRICS, math.nan), command)]
    record, history = runs[name].record(), runs[name].history().set_index("epoch")
    best = history.loc[record["best_epoch"]]
    trained = {metric: best[f"train_{metric}"] for metric in METRICS}
    rows = [_metrics_row(title, record["data"]["title"], "train", "crops", trained, name)]
    for protocol, measured in record["validation"].items():
        rows.append(_metrics_row(title, record["data"]["title"], "val", protocol, measured, name))
    return rows


def _metrics_row(model: str, dataset: str, split: str, protocol: str, measured: Any, record: str) -> dict[str, str]:
    values = {title: _points(measured[metric]) for metric, title in METRICS.items()}
    return {"network": model, "data set": dataset, "split": split, "protocol": protocol, **values, "record": record}


def _texts(table: pd.DataFrame, formats: Mapping[str, Callable[[float], str]]) -> pd.DataFrame:
    return table.assign(**{name: [write(value) for value in table[name]] for name, write in formats.items()})


def _points(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"


def _signed(value: float) -> str:
    return f"{value:+.4f}".replace("-", "−")


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d} min"
