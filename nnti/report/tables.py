"""The report's tables: data frames of text made from records, each row naming its record."""

import json
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from nnti.data import DATASETS
from nnti.device import readable_device
from nnti.experiment import Experiment, parse_setting
from nnti.figures import as_markdown, health_table
from nnti.figures.complexity import EXPERIMENTS, EXTRA_FORMS, complexity_frame, complexity_table, minutes
from nnti.folders import write_whole
from nnti.models import MODELS, architecture_table
from nnti.models.cost import without_values
from nnti.published import ABSTRACT_MEAN_IOU, LITERATURE, SCORES
from nnti.report.ablations import ABLATIONS, MEASURES, NOT_RUN, PROTOCOLS, Records, ablation_table
from nnti.training.run_folder import RunFolder

THREE = {
    "ENet": "enet_camvid",
    "R2U-Net": "r2unet_camvid_per_step",
    "PSPNet": "pspnet_camvid_lite0",
}  # the best of each
PHOTOGRAPHS = "enet_voc_half_unweighted"  # of animals and people: the report's Task I on a part of its own data
TASKS = ("enet_voc", "enet_voc_plain", "r2unet_cityscapes", "pspnet_cityscapes")  # the report's own experiments
MEASURED = (
    PHOTOGRAPHS,
    "enet_voc_half",
    "enet_camvid",
    "r2unet_camvid_per_step",
    "r2unet_camvid_short",
    "r2unet_camvid_per_step_short",
    "pspnet_camvid_lite0",
    "pspnet_camvid_lite0_attention",
    "pspnet_camvid_short",
)  # on the data that was at hand
METRICS = {"dice": "Dice (= F1)", "mean_iou": "mean IoU", "pixel_accuracy": "pixel accuracy",
           "sensitivity": "sensitivity", "loss": "loss"}  # fmt: skip


def report_tables(runs: Mapping[str, RunFolder], costs: dict[str, Any]) -> dict[str, pd.DataFrame]:
    """Return file name → table of text, ready to be read.

    `runs`: name of a run → its folder; `costs`: as `nnti.figures.complexity.read_complexity` returns it.
    """
    records = {name: measured(run) for name, run in runs.items()}
    return {
        "table1_complexity": _complexity(costs, records),
        "frames": _frames(costs),
        "summary": _summary(records),
        "table2_metrics": _metrics(runs),
        **{f"ablation_{name}": ablation_table(name, records) for name in ABLATIONS},
        "classes_voc": _classes(records.get(PHOTOGRAPHS)),
        "normalization": _normalization(records),
        "abstract": _abstract(),
        "literature": _literature(),
        "records": _records(records),
        **{f"architecture_{name.split('_')[0]}": _architecture(name) for name in EXPERIMENTS},
    }


def measured(run: RunFolder) -> dict[str, Any]:
    """Return a run's record; that of a run which was stopped with the validation of its best epoch, one protocol."""
    record = run.record()
    if record["finished"]:
        return record
    best = run.history().set_index("epoch").loc[record["best_epoch"]]
    found = {metric: float(best[f"val_{metric}"]) for metric in METRICS}
    return {**record, "validation": {record["experiment"]["protocol"]: found}}


def write_tables(tables: Mapping[str, pd.DataFrame], folder: Path) -> list[Path]:
    """Write each table as NAME.csv and NAME.md into a folder and return the paths."""
    paths = []
    for name, table in tables.items():
        write_whole(folder / f"{name}.csv", table.to_csv(index=False, lineterminator="\n"))
        write_whole(folder / f"{name}.md", as_markdown(table))
        paths += [folder / f"{name}.csv", folder / f"{name}.md"]
    return paths


def network_of(settings: Mapping[str, Any]) -> str:
    """Return a network's title with what sets its run apart, for example "R2U-Net, norm per step"."""
    arguments = settings["model_arguments"]
    remarks = {
        arguments.get("backbone"): "backbone" in arguments,
        "attention": arguments.get("context") == "attention",
        "gates": arguments.get("gates"),
        "norm per step": arguments.get("step_norm") == "per_step",
        "ImageNet weights": arguments.get("pretrained"),
        "plain": not settings["augment"],
    }
    return ", ".join([MODELS[settings["model"]].title, *(remark for remark, holds in remarks.items() if holds)])


def data_of(record: dict[str, Any]) -> str:
    """Return what was trained on and validated with, for example "CamVid (367 / 101 images)"."""
    data = record["data"]
    counted = f"{data['title']} ({data['train_images']:,} / {data['val_images']:,} images)"
    return counted.replace(") (", "; ")  # a title that ends in a remark: one pair of brackets


def command_of(run: str, record: dict[str, Any]) -> str:
    """Return the command that trains what a record holds: an experiment, and all settings that differ from it.

    The experiment is the one that the record names, or names before `_seed` and a number. Where it is none of the
    package's, the command reads all settings from the run's folder, report/runs/`run`.
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


def _complexity(costs: dict[str, Any], records: Records) -> pd.DataFrame:
    """Table 1: what was published beside what was counted here, and the time per epoch of the experiment's own run."""
    table = _own_networks(costs)
    times = [minutes(records[name]["seconds_per_epoch"]) if name in records else NOT_RUN for name in table.experiment]
    columns = {
        "experiment": "experiment", "parameters": "parameters", "published parameters": "published parameters",
        "checkpoint, MB": "checkpoint, MB", "published checkpoint, MB": "published size, MB",
        "multiply-adds, G": "multiply-adds, G", "time per epoch": "time per epoch",
        "published time per epoch": "published time",
    }  # fmt: skip
    return table.assign(**{"time per epoch": times})[list(columns)].rename(columns=columns)


def _frames(costs: dict[str, Any]) -> pd.DataFrame:
    """Images per second of each network's forms, see `nnti.inference.speed.measure_latency`."""
    forms = {"frames/s": "eager", **{f"frames/s, {form}": form for form in EXTRA_FORMS}}
    return _own_networks(costs)[["experiment", "image size", *forms]].rename(columns=forms)


def _own_networks(costs: dict[str, Any]) -> pd.DataFrame:
    """Return a row of text per network; without those ending in 8gb, the same network trained in less memory."""
    table = complexity_table(complexity_frame(costs)).T.rename_axis("experiment").reset_index()
    return table[~table["experiment"].str.endswith("8gb")]


def _summary(records: Records) -> pd.DataFrame:
    """Return a row for the best run of each network, and one on VOC: training data and validation mean IoU."""
    rows = []
    for name, record in ((name, records[name]) for name in (*THREE.values(), PHOTOGRAPHS) if name in records):
        model = record["experiment"]["model"]
        rows.append(
            {
                "network": network_of(record["experiment"]),
                "data": data_of(record),
                "epochs": _epochs(record),
                **{protocol: _share(MEASURES[protocol](record)) for protocol in PROTOCOLS},
                "2021 report, on its data": _share(SCORES[model]["val"]["mean_iou"]),
                "record": name,
            }
        )
    return pd.DataFrame(rows)


def _metrics(runs: Mapping[str, RunFolder]) -> pd.DataFrame:
    """Table 2: published and own rows, training and validation; every own row names its record."""
    rows = []
    for model, splits in SCORES.items():
        title, dataset = MODELS[model].title, "PASCAL VOC 2012" if model == "enet" else "Cityscapes"
        for split, published in splits.items():
            protocol = "report" if split == "val" else "crops"
            rows.append(_metrics_row(title, dataset, split, protocol, published, "published"))
    for name in (*TASKS, *MEASURED):
        rows += _own_rows(name, runs)
    return pd.DataFrame(rows)


def _own_rows(name: str, runs: Mapping[str, RunFolder]) -> list[dict[str, str]]:
    experiment = Experiment.load(name)
    title, dataset = network_of(experiment.to_dict()), DATASETS[experiment.dataset].title
    if name not in runs:
        command = f"{NOT_RUN}: python -m nnti train {name}"
        return [_metrics_row(title, dataset, "val", "report", dict.fromkeys(METRICS), command)]
    record, history = measured(runs[name]), runs[name].history().set_index("epoch")
    best, dataset = history.loc[record["best_epoch"]], data_of(record)
    trained = {metric: best[f"train_{metric}"] for metric in METRICS}
    size = " × ".join(map(str, np.atleast_1d(record["experiment"]["val_size"])))
    shown = {"report": f"report, {size}", "full": "full"}
    validated = [("val", shown[protocol], found) for protocol, found in record["validation"].items()]
    epochs = f"{record['best_epoch']} of {record['epochs']}"
    return [_metrics_row(title, dataset, *row, name, epochs) for row in (("train", "crops", trained), *validated)]


def _metrics_row(
    model: str, dataset: str, split: str, protocol: str, found: Any, record: str, epochs: str = "–"
) -> dict[str, str]:
    values = {title: _share(found[metric]) for metric, title in METRICS.items()}
    where = {"network": model, "data set": dataset, "split": split, "protocol": protocol, "epochs": epochs}
    return {**where, **values, "record": record}


def _classes(record: dict[str, Any] | None) -> pd.DataFrame:
    """IoU of each class by both protocols, and its validation pixels, the most frequent class on top."""
    if record is None or not record["finished"]:
        return pd.DataFrame(columns=["class"])
    validation = record["validation"]
    pixels = np.array(validation["full"]["pixels_per_class"], dtype=float)
    table = pd.DataFrame(
        {
            "class": record["data"]["class_names"],
            "share of the labelled validation pixels": [f"{100 * share:.2f} %" for share in pixels / pixels.sum()],
            **{f"IoU, {protocol}": list(map(_share, validation[protocol]["iou_per_class"])) for protocol in PROTOCOLS},
        }
    )
    return table.iloc[np.argsort(-pixels, kind="stable")]


def _normalization(records: Records) -> pd.DataFrame:
    table = health_table(records.values())
    shares = [name for name in table if "mean IoU" in name]
    return table.assign(
        **{name: table[name].map(_share) for name in shares},
        **{"batch − running": [f"{value:+.4f}".replace("-", "−") for value in table["batch − running"]]},
    )


def _abstract() -> pd.DataFrame:
    """Validation mean IoU of the 2021 report's abstract beside that of its own Table 2."""
    return pd.DataFrame(
        {
            "network": MODELS[model].title,
            "abstract": f"{100 * value:.2f} %",
            "its Table 2, validation": f"{100 * SCORES[model]['val']['mean_iou']:.2f} %",
            "its Table 2, training": f"{100 * SCORES[model]['train']['mean_iou']:.2f} %",
        }
        for model, value in ABSTRACT_MEAN_IOU.items()
    )


def _literature() -> pd.DataFrame:
    return pd.DataFrame(
        {"network": row.model, "data set": f"{row.dataset}, {row.split}", "mean IoU": f"{100 * row.mean_iou:.4g}",
         "conditions": row.conditions, "source": row.source}
        for row in LITERATURE
    )  # fmt: skip


def _architecture(name: str) -> pd.DataFrame:
    """Blocks of an experiment's network, traced with an image of 512 × 512."""
    return pd.DataFrame(
        {"stage": row.stage, "name": row.name, "type": row.type,
         "output size": f"{row.channels} × {row.height} × {row.width}", "stride": f"{row.stride}",
         "parameters": f"{row.parameters:,}"}
        for row in architecture_table(without_values(Experiment.load(name))).itertuples(index=False)
    )  # fmt: skip


def _records(records: Records) -> pd.DataFrame:
    """Return a row per record: the source of every number."""
    return pd.DataFrame(
        {
            "record": name,
            "data": data_of(record),
            "epochs": f"{record['best_epoch']} of {_epochs(record)}",
            "seed": str(record["seed"]),
            "device": f"{readable_device(record['device'])}, {record['precision']}",
            "PyTorch": record["versions"]["torch"],
            "commit": (record["commit"] or "–")[:10],
            "command": command_of(name, record),
        }
        for name, record in sorted(records.items())
    )


def _epochs(record: dict[str, Any]) -> str:
    stopped = f" ({record['experiment']['epochs']} planned)"
    return f"{record['epochs']}{'' if record['finished'] else stopped}"


def _share(value: float | None) -> str:
    return "–" if pd.isna(value) else f"{value:.4f}"
