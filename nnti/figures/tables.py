"""Tables of runs, made from their records, and the Markdown writer."""

from collections.abc import Iterable
from typing import Any

import pandas as pd


def as_markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown, each cell as `str` writes it; None and NaN are left blank."""
    cells = [["" if pd.isna(value) else str(value) for value in row] for row in table.itertuples(index=False)]
    lines = [[str(name) for name in table.columns], ["---"] * len(table.columns), *cells]
    lines = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def results_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return one row for each run and validation protocol, measured with the run's best checkpoint.

    Scores are 0 … 1, times seconds; unknown values are NaN. An unfinished run has no row. `records` are as
    `RunFolder.record` returns them.
    """
    rows = [_result_row(record, result) for record in records for result in record.get("validation", {}).values()]
    return pd.DataFrame(rows, columns=list(_result_row({}, {}))).astype(dict.fromkeys(NUMBERS, float))


def health_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return one row for each run whose batch normalisation was checked: `nnti.inference.evaluate.normalization_gap`.

    The same training images with the statistics of each batch, as in training, and with the running ones, as in eval
    mode; `batch − running` is above 0 where the network is worse in eval mode. `validation mean IoU` is by the protocol
    that chose the best epoch. `records` are as `RunFolder.record` returns them.
    """
    rows = [_health_row(record) for record in records if record.get("health")]
    return pd.DataFrame(rows, columns=HEALTH)


SCORES = {  # column of `results_table` → key of a measured result
    "mean IoU": "mean_iou",
    "Dice (= F1)": "dice",
    "pixel accuracy": "pixel_accuracy",
    "mean pixel accuracy (= sensitivity)": "mean_pixel_accuracy",
    "loss": "loss",
}
NUMBERS = (*SCORES, "s/epoch")
HEALTH = [
    "run", "data set", "seed", "images", "mean IoU, batch statistics", "mean IoU, running statistics",
    "batch − running", "validation protocol", "validation mean IoU",
]  # fmt: skip


def _result_row(record: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    data, crop = record.get("data", {}), record.get("experiment", {}).get("crop_size")
    height, width = crop if isinstance(crop, list | tuple) else (crop, crop)
    return {
        "run": record.get("name"),
        "data set": data.get("title"),
        "train images": data.get("train_images"),
        "val images": result.get("images", data.get("val_images")),
        "crop": crop and f"{height} × {width}",
        "protocol": result.get("protocol"),
        "epochs": record.get("epochs"),
        "best epoch": record.get("best_epoch"),
        **{column: result.get(key) for column, key in SCORES.items()},
        "parameters": record.get("parameters"),
        "device": record.get("device"),
        "s/epoch": record.get("seconds_per_epoch"),
    }


def _health_row(record: dict[str, Any]) -> dict[str, Any]:
    health, protocol = record["health"], record["experiment"]["protocol"]
    batch, running = health["train_mode_mean_iou"], health["eval_mode_mean_iou"]
    measured = (health["images"], batch, running, batch - running)
    scores = (protocol, record["validation"][protocol]["mean_iou"])
    return dict(zip(HEALTH, (record["name"], record["data"]["title"], record["seed"], *measured, *scores), strict=True))
