"""What changes if one setting changes: runs that differ in nothing else, over all of their seeds that have a record.

How a record is made anew: the command line whose settings are exactly its own.

The report's tables: data frames made from records, each row naming its record; written as CSV and Markdown.
"""

import json
import math
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnti.device import readable_device
from nnti.experiment import Experiment, parse_setting
from nnti.figures import as_markdown, health_table
from nnti.figures.complexity import EXPERIMENTS, EXTRA_FORMS, complexity_frame, dataset_class, minutes
from nnti.models import MODELS, architecture_table, build_model
from nnti.published import ABSTRACT_MEAN_IOU, COSTS, LITERATURE, REPORT, SCORES
from nnti.training.run_folder import RunFolder

__all__ = [
    "ABLATIONS",
    "CAMVID",
    "Comparison",
    "PROTOCOLS",
    "TASKS",
    "ablation_scores",
    "ablation_table",
    "command_of",
    "complexity_rows",
    "frames_table",
    "metrics_table",
    "report_tables",
    "seeds_of",
    "write_tables",
]


PROTOCOLS = ("report", "full")
Records = Mapping[str, dict[str, Any]]


@dataclass(frozen=True)
class Comparison:
    """Experiments that differ in one setting: label of a variant → experiment."""

    conditions: str
    variants: Mapping[str, str]


ABLATIONS: Mapping[str, Sequence[Comparison]] = {
    "augmentation": (
        Comparison(
            "half size, 40 epochs", {"augmented": "enet_camvid_ablation", "plain": "enet_camvid_ablation_plain"}
        ),
        Comparison("full size, 150 epochs", {"augmented": "enet_camvid", "plain": "enet_camvid_plain"}),
    ),
    "power": (
        Comparison(
            "half size, 40 epochs",
            {"power 1 (report)": "enet_camvid_ablation", "power 0.9 (its code)": "enet_camvid_ablation_power09"},
        ),
    ),
    "normalization": (
        Comparison(
            "CamVid, 64 to 1024 channels",
            {"shared": "r2unet_camvid_short", "per step": "r2unet_camvid_per_step_short"},
        ),
        Comparison(
            "CamVid, 16 to 256 channels",
            {"shared": "r2unet_camvid_narrow", "per step": "r2unet_camvid_narrow_per_step"},
        ),
        Comparison(
            "rendered miniature, 8 to 128 channels",
            {"shared": "r2unet_cityscapes_miniature", "per step": "r2unet_cityscapes_per_step_miniature"},
        ),
    ),
    "protocol": (
        Comparison("ENet, full size", {"": "enet_camvid"}),
        Comparison("ENet, full size, not augmented", {"": "enet_camvid_plain"}),
        Comparison("ENet, half size", {"": "enet_camvid_ablation"}),
        Comparison("ENet, half size, not augmented", {"": "enet_camvid_ablation_plain"}),
        Comparison("R2U-Net, half size", {"": "r2unet_camvid_short"}),
        Comparison("PSPNet, half size", {"": "pspnet_camvid_short"}),
    ),
}

# how a number is found in a record; None where the record does not hold it
MEASURES: Mapping[str, Callable[[dict[str, Any]], float | None]] = {
    "report": lambda record: record["validation"]["report"]["mean_iou"],
    "full": lambda record: record["validation"]["full"]["mean_iou"],
    "batch statistics": lambda record: (record.get("health") or {}).get("train_mode_mean_iou"),
    "running statistics": lambda record: (record.get("health") or {}).get("eval_mode_mean_iou"),
}
SHOWN = {  # ablation → what is measured
    "augmentation": PROTOCOLS,
    "power": PROTOCOLS,
    "normalization": ("batch statistics", "running statistics", *PROTOCOLS),
    "protocol": PROTOCOLS,
}
FIGURES = SHOWN | {"normalization": ("batch statistics", "running statistics")}


def ablation_table(name: str, records: Records) -> pd.DataFrame:
    """Return a row per variant: conditions, the number of seeds, mean IoU as "mean ± standard deviation", the records.

    'report' and 'full' are the validation protocols; 'batch statistics' and 'running statistics' those of the health
    check on training images, see `nnti.inference.evaluate.normalization_gap`.

    Args:
        name: a key of `ABLATIONS`.
        records: name of a run → its record.
    """
    rows = []
    for comparison in ABLATIONS[name]:
        for variant, experiment in comparison.variants.items():
            found = seeds_of(experiment, records)
            row = {"conditions": comparison.conditions, "variant": variant, "seeds": str(len(found))}
            row |= {measure: _text(_values(measure, found)) for measure in SHOWN[name]}
            row["records"] = " ".join(found) or f"not run: python -m nnti train {experiment}"
            rows.append(row)
    table = pd.DataFrame(rows)
    return table.drop(columns="variant") if (table["variant"] == "").all() else table


def ablation_scores(name: str, records: Records) -> dict[str, dict[str, list[float]]]:
    """Return conditions → what was measured of which variant → mean IoU of each seed, for `figures.ablation_dots`."""
    scores: dict[str, dict[str, list[float]]] = {}
    for comparison in ABLATIONS[name]:
        for variant, experiment in comparison.variants.items():
            found = seeds_of(experiment, records)
            for measure in FIGURES[name]:
                values = _values(measure, found)
                if name in ("augmentation", "power"):
                    scores.setdefault(f"{comparison.conditions}, {measure} protocol", {})[variant] = values
                else:
                    label = f"{variant}, {measure}" if variant else f"{measure} protocol"
                    scores.setdefault(comparison.conditions, {})[label] = values
    return scores


def seeds_of(experiment: str, records: Records) -> dict[str, dict[str, Any]]:
    """Return the finished runs of an experiment: its own name, and those that end in `_seed` and a number."""
    return {
        name: record
        for name, record in sorted(records.items())
        if record["finished"] and (name == experiment or name.rpartition("_seed")[0] == experiment)
    }


def _values(measure: str, records: Records) -> list[float]:
    values = [MEASURES[measure](record) for record in records.values()]
    return [value for value in values if value is not None]


def _text(values: list[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"


def command_of(run: str, record: dict[str, Any]) -> str:
    """Return the command that trains what a record holds: an experiment, and all settings that differ from it.

    The experiment is the one that the record names, or names before `_seed` and a number. Where it is none of the
    package's, the command reads all settings from the run's folder.

    Args:
        run: name of the folder in report/runs/.
        record: its record.
    """
    experiment = Experiment.from_dict(record["experiment"])
    names = (experiment.name, re.sub(r"_seed\d+$", "", experiment.name))
    known = [name for name in names if name in Experiment.names()]
    if not known:
        return f"python -m nnti train report/runs/{run}"
    changes = {key: own for key, (own, _) in experiment.differences(Experiment.load(known[0])).items()}
    settings = [shlex.quote(_assignment(key, value)) for key, value in changes.items()]
    return " ".join(["python -m nnti train", known[0], *(["--set", *settings] if settings else [])])


def _assignment(key: str, value: Any) -> str:
    """Return key=value as `nnti.experiment.parse_setting` reads it back."""
    plain = f"{key}={value}"
    return plain if isinstance(value, str) and parse_setting(plain) == (key, value) else f"{key}={json.dumps(value)}"


TASKS = ("enet_voc", "enet_voc_plain", "r2unet_cityscapes", "pspnet_cityscapes")  # the report's own experiments
CAMVID = ("enet_camvid", "r2unet_camvid_short", "r2unet_camvid_per_step_short", "pspnet_camvid_short")
METRICS = {"dice": "Dice (= F1)", "mean_iou": "mean IoU", "pixel_accuracy": "pixel accuracy",
           "sensitivity": "sensitivity", "loss": "loss"}  # fmt: skip
NOT_RUN, NOT_PUBLISHED, NOT_MEASURED = "not run", "not published", "not measured"


def report_tables(runs: Mapping[str, RunFolder], costs: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Return file name → table of text, ready to be read.

    Args:
        runs: name of a run → its folder.
        costs: as `nnti.figures.complexity.read_complexity` returns it.
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
                "time per epoch": minutes(record["seconds_per_epoch"]) if record else NOT_RUN,
                "published time": minutes(published.seconds_per_epoch) if published else NOT_PUBLISHED,
            }
        )
    return pd.DataFrame(rows)


def frames_table(costs: dict[str, Any]) -> pd.DataFrame:
    """Return the images per second of each network's forms, a row per experiment; see `nnti.inference.speed.measure_latency`."""
    forms = {"frames/s": "eager", **{f"frames/s, {form}": form for form in EXTRA_FORMS}}
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
