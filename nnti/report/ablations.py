"""Ablations: runs that differ in one setting, side by side."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from nnti.experiment import Experiment
from nnti.models import count_parameters
from nnti.models.cost import count_operations, without_values

Records = Mapping[str, dict[str, Any]]  # name of a run → its record

NOT_RUN = "not run"
COUNTED = (512, 512)  # height and width of the image whose multiply-adds are counted

# ablation → conditions → variant → experiment; those of one line differ in one setting alone
ABLATIONS: Mapping[str, Mapping[str, Mapping[str, str]]] = {
    "augmentation": {
        "half size, 40 epochs": {"augmented": "enet_camvid_ablation", "plain": "enet_camvid_ablation_plain"},
        "full size, 150 epochs": {"augmented": "enet_camvid", "plain": "enet_camvid_plain"},
    },
    "pretraining": {
        "half size, 8 epochs of 14": {
            "ImageNet weights": "pspnet_camvid_lite0_short",
            "random weights": "pspnet_camvid_lite0_random_short",
        },
        "full size, 40 epochs": {
            "ImageNet weights": "pspnet_camvid_lite0",
            "random weights": "pspnet_camvid_lite0_random",
        },
    },
    "attention": {
        "PSPNet on EfficientNet-Lite0, CamVid": {
            "pyramid": "pspnet_camvid_lite0",
            "attention": "pspnet_camvid_lite0_attention",
        },
        "R2U-Net, norm per step, CamVid, 16 to 256 channels, half size": {
            "plain skips": "r2unet_camvid_narrow_per_step",
            "gated skips": "r2unet_camvid_narrow_gates",
        },
        "R2U-Net, norm per step, drawn miniature, 8 to 128 channels": {
            "plain skips": "r2unet_cityscapes_per_step_miniature",
            "gated skips": "r2unet_cityscapes_gates_miniature",
        },
    },
    "power": {
        "half size, 40 epochs": {
            "power 1 (report)": "enet_camvid_ablation",
            "power 0.9 (its code)": "enet_camvid_ablation_power09",
        },
    },
    "normalization": {
        "CamVid, 64 to 1024 channels, half size": {
            "shared": "r2unet_camvid_short",
            "per step": "r2unet_camvid_per_step_short",
        },
        "CamVid, 16 to 256 channels, half size": {
            "shared": "r2unet_camvid_narrow",
            "per step": "r2unet_camvid_narrow_per_step",
        },
        "drawn miniature, 8 to 128 channels": {
            "shared": "r2unet_cityscapes_miniature",
            "per step": "r2unet_cityscapes_per_step_miniature",
        },
    },
    "protocol": {
        "ENet, full size": {"": "enet_camvid"},
        "ENet, full size, not augmented": {"": "enet_camvid_plain"},
        "ENet, half size": {"": "enet_camvid_ablation"},
        "ENet, half size, not augmented": {"": "enet_camvid_ablation_plain"},
        "R2U-Net, half size": {"": "r2unet_camvid_short"},
        "PSPNet, half size": {"": "pspnet_camvid_short"},
    },
}
# how to find a number in a record; None if it is missing
MEASURES: Mapping[str, Callable[[dict[str, Any]], float | None]] = {
    "report": lambda record: record["validation"].get("report", {}).get("mean_iou"),
    "full": lambda record: record["validation"].get("full", {}).get("mean_iou"),
    "batch statistics": lambda record: (record.get("health") or {}).get("train_mode_mean_iou"),
    "running statistics": lambda record: (record.get("health") or {}).get("eval_mode_mean_iou"),
}
PROTOCOLS, STATISTICS = ("report", "full"), ("batch statistics", "running statistics")


def ablation_table(name: str, records: Records) -> pd.DataFrame:
    """Return a row per variant: conditions, the number of seeds, mean IoU as "mean ± standard deviation", the records.

    'report' and 'full' are the validation protocols; 'batch statistics' and 'running statistics' those of the health
    check on training images, see `nnti.inference.evaluate.normalization_gap`. Multiply-adds are those of one image of
    `COUNTED`. `name` is a key of `ABLATIONS`.
    """
    measures = (*STATISTICS, *PROTOCOLS) if name == "normalization" else PROTOCOLS
    rows = []
    for conditions, variants in ABLATIONS[name].items():
        runs = {variant: seeds_of(experiment, records) for variant, experiment in variants.items()}
        for (variant, experiment), found in zip(variants.items(), same_seeds(runs.values()), strict=True):
            row = {"conditions": conditions, "variant": variant, "seeds": str(len(found))}
            if name == "attention":
                model = without_values(Experiment.load(experiment))
                row["parameters"] = f"{count_parameters(model):,}"
                row["multiply-adds, G"] = f"{count_operations(model, COUNTED).multiply_adds / 1e9:.2f}"
            row |= {measure: _mean(_values(measure, found)) for measure in measures}
            row["records"] = " ".join(found) or f"{NOT_RUN}: python -m nnti train {experiment}"
            rows.append(row)
    table = pd.DataFrame(rows)
    return table.drop(columns="variant") if (table["variant"] == "").all() else table


def seeds_of(experiment: str, records: Records) -> dict[str, dict[str, Any]]:
    """Return the runs of an experiment: its own name, and those that end in `_seed` and a number."""
    return {
        name: record for name, record in sorted(records.items()) if experiment in (name, name.rpartition("_seed")[0])
    }


def same_seeds(variants: Iterable[Records]) -> list[Records]:
    """Keep of the runs of each variant those with a seed that all have; a variant without runs counts as not run."""
    variants = list(variants)
    seeds = [{run["seed"] for run in runs.values()} for runs in variants if runs]
    return [{name: run for name, run in runs.items() if all(run["seed"] in own for own in seeds)} for runs in variants]


def _values(measure: str, records: Records) -> list[float]:
    values = [MEASURES[measure](record) for record in records.values()]
    return [value for value in values if value is not None]


def _mean(values: list[float]) -> str:
    if not values:
        return "–"
    spread = f" ± {np.std(values, ddof=1):.4f}" if len(values) > 1 else ""
    return f"{np.mean(values):.4f}{spread}"
