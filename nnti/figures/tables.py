"""Tables: the results of several runs, and what the networks cost."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd

from nnti.device import readable_device
from nnti.figures.complexity import EXTRA_FORMS, complexity_dir, complexity_frame
from nnti.published import HARDWARE, REPORT

__all__ = [
    "complexity_markdown",
    "complexity_notes",
    "complexity_table",
    "health_table",
    "markdown",
    "results_table",
    "save_complexity",
]


COLUMNS = {  # column of `figures.results_table` → how it is written
    "run": str,
    "data set": str,
    "train images": "{:.0f}".format,
    "val images": "{:.0f}".format,
    "crop": str,
    "protocol": str,
    "epochs": "{:.0f}".format,
    "mean IoU": "{:.4f}".format,
    "Dice (= F1)": "{:.4f}".format,
    "pixel accuracy": "{:.4f}".format,
    "mean pixel accuracy (= sensitivity)": "{:.4f}".format,
    "loss": "{:.4f}".format,
    "s/epoch": "{:.0f}".format,
}


HEALTH_COLUMNS = {  # column of `figures.health_table` → how it is written
    "run": str,
    "data set": str,
    "seed": "{:.0f}".format,
    "images": "{:.0f}".format,
    "mean IoU, batch statistics": "{:.4f}".format,
    "mean IoU, running statistics": "{:.4f}".format,
    "batch − running": "{:+.4f}".format,
    "validation protocol": str,
    "validation mean IoU": "{:.4f}".format,
}


def _minutes(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes}:{seconds:02d} min"


# column of `nnti.figures.complexity.complexity_frame` → how it is written; each is a row of the Markdown table
QUANTITIES: dict[str, Callable[[Any], str]] = {
    "model": str,
    "data set": str,
    "parameters": "{:,.0f}".format,
    "published parameters": lambda count: f"{count / 1e6:.2f} M",
    "weights, MB": "{:.1f}".format,
    "checkpoint, MB": "{:.1f}".format,
    "published checkpoint, MB": "{:.1f}".format,
    "image size": str,
    "multiply-adds, G": "{:.2f}".format,
    "latency, ms": "{:.1f}".format,
    "latency, lower quartile, ms": "{:.1f}".format,
    "latency, upper quartile, ms": "{:.1f}".format,
    "frames/s": "{:.3g}".format,
    "frames/s, deployed": "{:.3g}".format,
    "frames/s, torch.export": "{:.3g}".format,
    "frames/s, ONNX Runtime": "{:.3g}".format,
    "latency measured on": readable_device,
    "crop size": str,
    "multiply-adds of a crop, G": "{:.2f}".format,
    "training memory, MB": "{:,.0f}".format,
    "training memory is for": str,
    "s/epoch": _minutes,
    "s/epoch measured on": readable_device,
    "published s/epoch": _minutes,
    "published s/epoch measured on": str,
}


def results_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return one row for each run and validation protocol, measured with the run's best checkpoint.

    Scores are 0 … 1, times seconds; what is not known is NaN. A run that is not finished has no row yet.

    Args:
        records: as `RunFolder.record` returns them.
    """
    rows = [_row(record, result) for record in records for result in record.get("validation", {}).values()]
    return pd.DataFrame(rows, columns=list(_row({}, {})))


def health_table(records: Iterable[dict[str, Any]]) -> pd.DataFrame:
    """Return one row for each run whose batch normalisation was checked, see `nnti.inference.evaluate.normalization_gap`.

    The same training images with the statistics of each batch, as in training, and with the running ones, as in eval
    mode; `batch − running` is above 0 where the network is worse in eval mode. `validation mean IoU` is by the protocol
    that chose the best epoch.

    Args:
        records: as `RunFolder.record` returns them.
    """
    rows = [_health_row(record) for record in records if record.get("health")]
    return pd.DataFrame(rows, columns=list(HEALTH_COLUMNS))


def markdown(table: pd.DataFrame) -> str:
    """Return a table of `results_table` or `health_table` in Markdown, without the columns that say little."""
    columns = COLUMNS if "protocol" in table else HEALTH_COLUMNS
    lines = [list(columns), ["---"] * len(columns)]
    for _, row in table.iterrows():
        lines.append([write(row[name]) for name, write in columns.items()])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def complexity_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of `nnti.figures.complexity.complexity_frame` as text: a column per experiment, a row per quantity.

    Published values have rows of their own, named so; what is not known says so.
    """
    rows = {}
    for name, write in QUANTITIES.items():
        unknown = "not published" if name.startswith("published") else "not measured"
        rows[name.replace("s/epoch", "time per epoch")] = [
            unknown if pd.isna(value) else write(value) for value in table[name]
        ]
    return pd.DataFrame.from_dict(rows, orient="index", columns=list(table["experiment"]))


def complexity_markdown(table: pd.DataFrame) -> str:
    """Return `complexity_table` of a table in Markdown."""
    text = complexity_table(table)
    lines = [
        ["", *text.columns],
        ["---"] * (len(text.columns) + 1),
        *([name, *row] for name, *row in text.itertuples()),
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def complexity_notes(record: dict[str, Any]) -> str:
    """Return what has to be said beside the table, in Markdown: methods, what is left out, versions.

    Args:
        record: as `nnti.figures.complexity.measure_complexity` returns it.
    """
    notes = [
        f"Published: {REPORT}, {HARDWARE}. Its model size is a checkpoint's: weights and SGD's momentum.",
        "MB are 10^6 bytes. Weights and checkpoint are the sizes of the files that `torch.save` would write.",
        "Multiply-adds: one forward pass of one image in eval mode, convolutions and matrix products only. "
        "What else calculates is left out (calls in brackets):",
        *(f"  - {row['experiment']}: {_calls(row['uncounted'])}" for row in record["rows"]),
        "Latency: inference of one image at a time, median and quartiles; the image already lies on the device.",
        *_frames_notes(record),
        *_memory_notes(record),
        f"Measured on {readable_device(record['device'])}, {_versions(record['versions'])}, commit {record['commit']}.",
    ]
    return "\n".join(note if note.startswith("  ") else f"- {note}" for note in notes)


def save_complexity(record: dict[str, Any], folder: str | Path | None = None) -> list[Path]:
    """Write a record of `nnti.figures.complexity.measure_complexity` as complexity.csv and, with notes, as complexity.md.

    `folder` is made if need be; None: `nnti.figures.complexity.complexity_dir()`.
    """
    folder = complexity_dir() if folder is None else Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    table, paths = complexity_frame(record), [folder / "complexity.csv", folder / "complexity.md"]
    table.to_csv(paths[0], index=False)
    paths[1].write_text(f"{complexity_markdown(table)}\n\n{complexity_notes(record)}\n", encoding="utf-8")
    return paths


def _versions(versions: dict[str, str]) -> str:
    onnx = versions.get("onnxruntime", "not installed")
    return f"PyTorch {versions['torch']}" + (f", ONNX Runtime {onnx}" if onnx != "not installed" else "")


def _calls(uncounted: dict[str, dict[str, int]]) -> str:
    return ", ".join(f"{name} ({found['calls']})" for name, found in uncounted.items()) or "nothing"


def _frames_notes(record: dict[str, Any]) -> list[str]:
    if not any(key in row for row in record["rows"] for key in EXTRA_FORMS.values()):
        return []
    return [
        "Frames/s: the network as it is (eager), deployed (`nnti.inference.deploy`) in the same precision, and as what "
        "`python -m nnti export` writes, in float32 and from a uint8 image; all forms took turns in one run."
    ]


def _memory_notes(record: dict[str, Any]) -> list[str]:
    methods = dict.fromkeys(row["memory_method"] for row in record["rows"])
    return [f"Training memory: peak of one step with weights, gradients and momentum; {method}." for method in methods]


def _row(record: dict[str, Any], result: dict[str, Any]) -> dict[str, Any]:
    data = record.get("data", {})
    return {
        "run": record.get("name"),
        "data set": data.get("title"),
        "train images": data.get("train_images"),
        "val images": result.get("images", data.get("val_images")),
        "crop": _crop(record),
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


def _health_row(record: dict[str, Any]) -> dict[str, Any]:
    health, protocol = record["health"], record["experiment"]["protocol"]
    batch, running = health["train_mode_mean_iou"], health["eval_mode_mean_iou"]
    return {
        "run": record["name"],
        "data set": record["data"]["title"],
        "seed": record["seed"],
        "images": health["images"],
        "mean IoU, batch statistics": batch,
        "mean IoU, running statistics": running,
        "batch − running": batch - running,
        "validation protocol": protocol,
        "validation mean IoU": record["validation"][protocol]["mean_iou"],
    }


def _crop(record: dict[str, Any]) -> str | None:
    """Return the size of what the network saw in training, height × width."""
    crop = record.get("experiment", {}).get("crop_size")
    height, width = crop if isinstance(crop, list) else (crop, crop)
    return None if crop is None else f"{height} × {width}"


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
