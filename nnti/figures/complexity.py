"""The cost of the networks, one row per experiment beside the published values: Table 1 of the report.

No data is needed: everything is measured on the models, except the time per epoch, which comes from the record of a run
of the experiment, if there is one.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from nnti.data import DATASETS
from nnti.device import commit, device_name, readable_device, resolve_device, resolve_precision, versions
from nnti.errors import RunError, SettingError
from nnti.experiment import Experiment, crop_shape
from nnti.figures.tables import as_markdown
from nnti.folders import find_run_dir, runs_dir, write_whole
from nnti.inference.speed import measure_latency
from nnti.loaders import load_split
from nnti.models import build_model, count_parameters
from nnti.models.cost import Size, checkpoint_bytes, count_operations, measure_training_memory, weight_bytes
from nnti.progress import progress_bar
from nnti.published import COSTS, HARDWARE, REPORT
from nnti.training.optimizer import build_optimizer
from nnti.training.run_folder import RunFolder

EXPERIMENTS = ("enet_voc", "r2unet_cityscapes", "pspnet_cityscapes")  # the report's three tasks
FILE = "complexity.json"
MEGA, GIGA, MILLI = 1e6, 1e9, 1e-3

# settings that affect the time of an epoch: a run is only used if all of them agree
WORK = (
    "model", "model_arguments", "dataset", "dataset_arguments", "train_split", "train_limit", "augment", "base_size",
    "crop_size", "scale", "batch_size",
)  # fmt: skip

# form of a network, see `nnti.inference.speed.measure_latency` → key of its frames per second in a measured row
EXTRA_FORMS = {"deployed": "deployed_frames_per_second", "ONNX Runtime": "onnx_frames_per_second"}


def complexity(
    experiments: Iterable[str | Experiment] = EXPERIMENTS, size: Size = (512, 512), **options: Any
) -> pd.DataFrame:
    """Measure and return one row per experiment; options as in `measure_complexity`, columns as in `COLUMNS`."""
    return complexity_frame(measure_complexity(experiments, size, **options))


def measure_complexity(
    experiments: Iterable[str | Experiment] = EXPERIMENTS,
    size: Size = (512, 512),
    *,
    device: str = "auto",
    timing: bool = True,
    onnx: bool = True,
    progress: bool = True,
) -> dict[str, Any]:
    """Measure every experiment's model and return a record: `rows`, and what they were measured with.

    Sizes are bytes, times seconds; unknown values are left out. A row's `blocks` splits the multiply-adds.

    Args:
        experiments: names or files as `Experiment.load` takes them, or experiments.
        size: (H, W) of the image that is counted and timed; the experiment's training crop is counted as well.
        device: to time and to train on, as the setting of an experiment.
        timing: False leaves latency and frames per second unmeasured, which take longest.
        onnx: False leaves ONNX Runtime out of these; exporting takes most of the time of a small network.
    """
    if min(size) < 1:
        raise SettingError(f"size={tuple(size)}: height and width must be at least 1 pixel, for example 512 512")
    loaded = [item if isinstance(item, Experiment) else Experiment.load(item) for item in experiments]
    bar = progress_bar(loaded, desc="complexity", leave=False, disable=not progress)
    return {
        "device": device_name(resolve_device(device)),
        "versions": versions("onnxruntime"),
        "commit": commit(),
        "size": list(size),
        "rows": [_measured(experiment, tuple(size), device, timing, onnx) for experiment in bar],
    }


def _measured(experiment: Experiment, size: Size, device: str, timing: bool, onnx: bool) -> dict[str, Any]:
    names = DATASETS[experiment.dataset].class_names  # known without any file, except for your own data
    classes = len(names or load_split(experiment, experiment.train_split).class_names)
    torch.manual_seed(experiment.seed)
    model = build_model(experiment.model, classes, experiment.model_arguments, pretrained=False)
    crop, optimizer = crop_shape(experiment.crop_size), partial(build_optimizer, experiment)
    whole, precision = count_operations(model, size), experiment.precision
    memory = measure_training_memory(model, crop, experiment.batch_size, device, precision, optimizer)
    return {
        "experiment": experiment.name,
        "model": model.title,
        "dataset": experiment.dataset,
        "classes": classes,
        "seed": experiment.seed,
        "parameters": count_parameters(model),
        "weight_bytes": weight_bytes(model),
        "checkpoint_bytes": checkpoint_bytes(model, optimizer),
        "size": list(size),
        "multiply_adds": whole.multiply_adds,
        "blocks": whole.per_block,
        "crop": list(crop),
        "crop_multiply_adds": count_operations(model, crop).multiply_adds,
        **(_latency(model, experiment, size, device, onnx) if timing else {}),
        "memory": memory.peak,
        "memory_of": f"{experiment.batch_size} crops of {_pixels(crop)}, {memory.precision}",
        "memory_method": memory.method,
        **_time_per_epoch(experiment),
        **_published(experiment),
    }


def _latency(model: nn.Module, experiment: Experiment, size: Size, device: str, onnx: bool) -> dict[str, Any]:
    device, precision, layout = resolve_device(device), experiment.precision, experiment.channels_last
    forms = measure_latency(model, size, device, precision=precision, channels_last=layout, onnx=onnx)
    measured, dtype = forms["eager"], str(resolve_precision(precision, device)).removeprefix("torch.")
    return {
        "latency": measured.median,
        "latency_low": measured.low,
        "latency_high": measured.high,
        "frames_per_second": measured.per_second,
        "latency_on": f"{device_name(device)}, {dtype}; {measured.blocks} times",
        **{key: forms[form].per_second for form, key in EXTRA_FORMS.items() if form in forms},
    }


def _time_per_epoch(experiment: Experiment) -> dict[str, Any]:
    """Take the time per epoch from the run that bears the experiment's name, if it did the same work."""
    try:
        return _time_of(experiment, RunFolder(find_run_dir(experiment.name)).record())
    except RunError:
        return {}


def _time_of(experiment: Experiment, record: dict[str, Any]) -> dict[str, Any]:
    settings, trained = experiment.to_dict(), {**Experiment().to_dict(), **record["experiment"]}  # older records: fewer
    if any(trained[key] != settings[key] for key in WORK):
        return {}
    data = record["data"]
    return {
        "seconds_per_epoch": record["seconds_per_epoch"],
        "epoch_on": f"{record['device']}, {record['precision']}; {data['title']}, {data['train_images']} images",
    }


def _published(experiment: Experiment) -> dict[str, Any]:
    """Return the report's values where the experiment has its model and its data set."""
    cost = COSTS.get((experiment.model, experiment.dataset))
    return {f"published_{name}": value for name, value in vars(cost).items()} if cost else {}


def save_complexity(record: dict[str, Any], folder: str | Path | None = None) -> list[Path]:
    """Write a record of `measure_complexity` as complexity.json, and as a table with notes in complexity.md.

    `folder`: None is complexity/ among the runs. Returns the paths.
    """
    folder = runs_dir() / "complexity" if folder is None else Path(folder)
    contents = {
        FILE: json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n",
        "complexity.md": f"{complexity_markdown(complexity_frame(record))}\n{complexity_notes(record)}\n",
    }
    for name, text in contents.items():
        write_whole(folder / name, text)
    return [folder / name for name in contents]


def read_complexity(path: str | Path) -> dict[str, Any]:
    """Read a record from its file or the folder that it lies in; raise RunError, with the fix, where there is none."""
    path = Path(path) / FILE if Path(path).is_dir() else Path(path)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RunError(f"{path} does not exist; measure first: python -m nnti complexity") from None
    except json.JSONDecodeError as error:
        raise RunError(f"{path} is damaged ({error}); measure again: python -m nnti complexity") from error


def with_times(costs: dict[str, Any], records: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """Return `costs`, a record of `measure_complexity`, with the times per epoch of these runs' records and no others.

    `records`: name of a run → its record.
    """
    rows = []
    for row in costs["rows"]:
        name = row["experiment"]
        sizes = {key: value for key, value in row.items() if key not in ("seconds_per_epoch", "epoch_on")}
        rows.append(sizes | (_time_of(Experiment.load(name), records[name]) if name in records else {}))
    return costs | {"rows": rows}


def minutes(seconds: float) -> str:
    """Return for example "4:05 min"."""
    whole, rest = divmod(round(seconds), 60)
    return f"{whole}:{rest:02d} min"


def _pixels(size: Size) -> str:
    return f"{size[0]} × {size[1]}"


# column of `complexity_frame` → key of a measured row, unit that it is divided by (None: as it is), how it is written
COLUMNS: dict[str, tuple[str, float | None, Callable[[Any], str]]] = {
    "experiment": ("experiment", None, str),
    "model": ("model", None, str),
    "data set": ("dataset", None, str),
    "classes": ("classes", None, str),
    "parameters": ("parameters", None, "{:,.0f}".format),
    "published parameters": ("published_parameters", None, lambda count: f"{count / MEGA:.2f} M"),
    "weights, MB": ("weight_bytes", MEGA, "{:.1f}".format),
    "checkpoint, MB": ("checkpoint_bytes", MEGA, "{:.1f}".format),
    "published checkpoint, MB": ("published_checkpoint_bytes", MEGA, "{:.1f}".format),
    "image size": ("size", None, str),
    "multiply-adds, G": ("multiply_adds", GIGA, "{:.2f}".format),
    "latency, ms": ("latency", MILLI, "{:.1f}".format),
    "latency, lower quartile, ms": ("latency_low", MILLI, "{:.1f}".format),
    "latency, upper quartile, ms": ("latency_high", MILLI, "{:.1f}".format),
    "frames/s": ("frames_per_second", None, "{:.3g}".format),
    **{f"frames/s, {form}": (key, None, "{:.3g}".format) for form, key in EXTRA_FORMS.items()},
    "latency measured on": ("latency_on", None, readable_device),
    "crop size": ("crop", None, str),
    "multiply-adds of a crop, G": ("crop_multiply_adds", GIGA, "{:.2f}".format),
    "training memory, MB": ("memory", MEGA, "{:,.0f}".format),
    "training memory is for": ("memory_of", None, str),
    "s/epoch": ("seconds_per_epoch", None, minutes),
    "s/epoch measured on": ("epoch_on", None, readable_device),
    "published s/epoch": ("published_seconds_per_epoch", None, minutes),
}


def complexity_frame(record: dict[str, Any]) -> pd.DataFrame:
    """Return a record of `measure_complexity` as a table with units in its columns; NaN if not measured."""
    rows = [{name: _cell(row.get(key), unit) for name, (key, unit, _) in COLUMNS.items()} for row in record["rows"]]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _cell(value: Any, unit: float | None) -> Any:
    if value is None:
        return math.nan
    if isinstance(value, list):
        return _pixels(value)
    return value if unit is None else value / unit


def complexity_table(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of `complexity_frame` as text: a column per experiment, a row per quantity.

    Published values have rows of their own; unknown values are marked.
    """
    rows = {}
    for name, (_, _, write) in COLUMNS.items():
        unknown = "not published" if name.startswith("published") else "not measured"
        title = name.replace("s/epoch", "time per epoch")
        rows[title] = [unknown if pd.isna(value) else write(value) for value in table[name]]
    experiments = rows.pop("experiment")
    return pd.DataFrame.from_dict(rows, orient="index", columns=experiments)


def complexity_markdown(table: pd.DataFrame) -> str:
    """Return `complexity_table` of a table in Markdown."""
    return as_markdown(complexity_table(table).reset_index(names=""))


def complexity_notes(record: dict[str, Any]) -> str:
    """Return the notes for the table of a record, in Markdown: methods and versions."""
    used = record["versions"]
    versions = ", ".join(f"{name} {used[key]}" for name, key in PACKAGES.items() if used.get(key) not in NOT_INSTALLED)
    methods = dict.fromkeys(row["memory_method"] for row in record["rows"])
    notes = [
        f"Published: {REPORT}, {HARDWARE}. Its model size is a checkpoint's: weights and SGD's momentum.",
        "MB are 10^6 bytes. Weights and checkpoint are the sizes of the files that `torch.save` would write.",
        "Multiply-adds: one forward pass of one image in eval mode, convolutions and matrix products only.",
        "Latency: inference of one image at a time, median and quartiles; the image already lies on the device.",
        "Frames/s: the network as it is (eager), deployed (`nnti.inference.deploy`) in the same precision, and in ONNX "
        "Runtime as `python -m nnti export` writes it, in float32 and from a uint8 image; all took turns in one run.",
        *(f"Training memory: peak of one step with weights, gradients and momentum; {method}." for method in methods),
        f"Measured on {readable_device(record['device'])}, {versions}, commit {record['commit']}.",
    ]
    return "\n".join(f"- {note}" for note in notes)


PACKAGES = {"PyTorch": "torch", "ONNX Runtime": "onnxruntime"}
NOT_INSTALLED = (None, "not installed")
