"""What changes if one setting changes: runs that differ in nothing else, over all of their seeds that have a record."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

__all__ = ["ABLATIONS", "PROTOCOLS", "Comparison", "ablation_scores", "ablation_table", "seeds_of"]

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
    check on training images, see `nnti.health.normalization_gap`.

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
