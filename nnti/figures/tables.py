"""Results of several runs as one table."""

import math
from collections.abc import Iterable
from typing import Any

import pandas as pd

__all__ = ["markdown", "results_table"]

COLUMNS = {  # column of `figures.results_table` → how it is written
    "run": str,
    "data set": str,
    "train images": "{:.0f}".format,
    "val images": "{:.0f}".format,
    "protocol": str,
    "epochs": "{:.0f}".format,
    "mean IoU": "{:.4f}".format,
    "Dice (= F1)": "{:.4f}".format,
    "pixel accuracy": "{:.4f}".format,
    "mean pixel accuracy (= sensitivity)": "{:.4f}".format,
    "loss": "{:.4f}".format,
    "s/epoch": "{:.0f}".format,
}


def results_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return one row for each run and validation protocol, measured with the run's best checkpoint.

    Scores are 0 … 1, times seconds; what is not known is NaN. A run that is not finished has no row yet.

    Args:
        records: as `RunFolder.record` returns them.
    """
    rows = [_row(record, result) for record in records for result in record.get("validation", {}).values()]
    return pd.DataFrame(rows, columns=list(_row({}, {})))


def markdown(table: pd.DataFrame) -> str:
    """Return a table of `results_table` in Markdown, without the columns that say little."""
    lines = [list(COLUMNS), ["---"] * len(COLUMNS)]
    for _, row in table.iterrows():
        lines.append([write(row[name]) for name, write in COLUMNS.items()])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


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
