"""Results of several runs as one table."""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

__all__ = ["results_table"]


def results_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return one row for each run and validation protocol, measured with the run's best checkpoint.

    Scores are 0 … 1, times seconds; what is not known is NaN. A run that is not finished has no row yet.

    Args:
        records: as `RunFolder.record` returns them.
    """
    rows = [_row(record, result) for record in records for result in record.get("validation", {}).values()]
    return pd.DataFrame(rows, columns=list(_row({}, {})))


def _row(record: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    data = record.get("data", {})
    return {
        "run": record.get("name"),
        "data set": data.get("title"),
        "train images": data.get("train_images"),
        "val images": result.get("images", data.get("val_images")),
        "protocol": result.get("protocol"),
        "epochs": record.get("epochs"),
        "best epoch": record.get("best_epoch"),
        "mean IoU": _number(result.get("mean_iou")),
        "Dice (= F1)": _number(result.get("dice")),
        "pixel accuracy": _number(result.get("pixel_accuracy")),
        "mean pixel accuracy (= sensitivity)": _number(result.get("mean_pixel_accuracy")),
        "loss": _number(result.get("loss")),
        "parameters": record.get("parameters"),
        "device": record.get("device"),
        "s/epoch": _number(record.get("seconds_per_epoch")),
    }


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
