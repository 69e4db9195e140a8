"""What the networks cost, one row per experiment beside the published values: Table 1 of the report.

Needs no data: everything is measured on the models themselves, but the time per epoch, which is taken from the record
of a run of the experiment where there is one.
"""

import json
import math
import typing
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from torch import nn

from nnti.data import DATASETS, SegmentationDataset
from nnti.data.base import check_choice
from nnti.device import commit, device_name, resolve_device, versions
from nnti.errors import RunError, SettingError
from nnti.experiment import Experiment
from nnti.folders import runs_dir
from nnti.inference.speed import measure_latency
from nnti.loaders import load_split
from nnti.models import build_model, count_parameters
from nnti.models.cost import Size, checkpoint_bytes, count_operations, measure_training_memory, weight_bytes
from nnti.progress import progress_bar
from nnti.published import COSTS, HARDWARE
from nnti.training.optimizer import build_optimizer
from nnti.training.run_folder import find_run

__all__ = [
    "EXPERIMENTS",
    "EXTRA_FORMS",
    "complexity",
    "complexity_dir",
    "complexity_frame",
    "dataset_class",
    "measure_complexity",
    "read_complexity",
    "with_times",
    "write_complexity",
]


EXPERIMENTS = ("enet_voc", "r2unet_cityscapes", "pspnet_cityscapes")  # the report's three tasks
FILE = "complexity.json"
MEGA, GIGA, MILLI = 1e6, 1e9, 1e-3

# settings that decide how long an epoch takes: a run in which one of them differs says nothing about an experiment
WORK = (
    "model", "model_arguments", "dataset", "dataset_arguments", "train_split", "train_limit", "augment", "base_size",
    "crop_size", "scale", "batch_size",
)  # fmt: skip

# form of a network, see `nnti.inference.speed.measure_latency` → key of its frames per second in a measured row; the eager one's
# is "frames_per_second"
EXTRA_FORMS = {
    "deployed": "deployed_frames_per_second",
    "torch.export": "program_frames_per_second",
    "ONNX Runtime": "onnx_frames_per_second",
}

# column of `complexity_frame` → (key of a measured row, unit that it is divided by; None: as it is)
COLUMNS: dict[str, tuple[str, float | None]] = {
    "experiment": ("experiment", None),
    "model": ("model", None),
    "data set": ("dataset", None),
    "classes": ("classes", None),
    "parameters": ("parameters", None),
    "weights, MB": ("weight_bytes", MEGA),
    "checkpoint, MB": ("checkpoint_bytes", MEGA),
    "image size": ("size", None),
    "multiply-adds, G": ("multiply_adds", GIGA),
    "crop size": ("crop", None),
    "multiply-adds of a crop, G": ("crop_multiply_adds", GIGA),
    "latency, ms": ("latency", MILLI),
    "latency, lower quartile, ms": ("latency_low", MILLI),
    "latency, upper quartile, ms": ("latency_high", MILLI),
    "frames/s": ("frames_per_second", None),
    **{f"frames/s, {form}": (key, None) for form, key in EXTRA_FORMS.items()},
    "latency measured on": ("latency_on", None),
    "training memory, MB": ("memory", MEGA),
    "training memory is for": ("memory_of", None),
    "s/epoch": ("seconds_per_epoch", None),
    "s/epoch measured on": ("epoch_on", None),
    "published parameters": ("published_parameters", None),
    "published checkpoint, MB": ("published_checkpoint_bytes", MEGA),
    "published s/epoch": ("published_seconds_per_epoch", None),
    "published s/epoch measured on": ("published_on", None),
}


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
    progress: bool = True,
) -> dict[str, Any]:
    """Measure every experiment's model and return a record: `rows`, and what they were measured with.

    Sizes are bytes, times seconds; what is not known is None. A row's `blocks` splits the multiply-adds, and its
    `uncounted` names the operators that they leave out, see `nnti.models.cost.Operations`.

    Args:
        experiments: names or files as `Experiment.load` takes them, or experiments.
        size: (H, W) of the image that is counted and timed; the experiment's training crop is counted as well.
        device: to time and to train on, as the setting of an experiment.
        timing: False leaves latency and frames per second unmeasured, which take longest.
        progress: show a progress bar.
    """
    if min(size) < 1:
        raise SettingError(f"size={tuple(size)}: height and width must be at least 1 pixel, for example 512 512")
    loaded = [item if isinstance(item, Experiment) else Experiment.load(item) for item in experiments]
    target = resolve_device(device)
    rows = [
        _measured(experiment, tuple(size), device, timing)
        for experiment in progress_bar(loaded, desc="complexity", leave=False, disable=not progress)
    ]
    return {
        "device": device_name(target),
        "versions": versions("onnxruntime"),
        "commit": commit(),
        "size": list(size),
        "rows": rows,
    }


def complexity_frame(record: dict[str, Any]) -> pd.DataFrame:
    """Return a record of `measure_complexity` as a table with units in its columns; NaN is what was not measured."""
    rows = [{name: _cell(row.get(key), unit) for name, (key, unit) in COLUMNS.items()} for row in record["rows"]]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def complexity_dir() -> Path:
    """Return the folder that records are written to: `complexity` among the runs."""
    return runs_dir() / "complexity"


def write_complexity(record: dict[str, Any], folder: str | Path | None = None) -> Path:
    """Write a record of `measure_complexity` as complexity.json into `folder` (None: `complexity_dir()`)."""
    path = (complexity_dir() if folder is None else Path(folder)) / FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")
    return path


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
    """Return a record of `measure_complexity` whose times per epoch are those of these runs' records, and no others.

    Args:
        costs: as `read_complexity` returns it; it is not changed.
        records: name of a run → its record.
    """
    rows = []
    for row in costs["rows"]:
        name = row["experiment"]
        sizes = {key: value for key, value in row.items() if key not in ("seconds_per_epoch", "epoch_on")}
        rows.append(sizes | (_time_of(Experiment.load(name), records[name]) if name in records else {}))
    return costs | {"rows": rows}


def dataset_class(name: str) -> type[SegmentationDataset]:
    """Return the class behind a key of `DATASETS`: its classes are known without any file, but for one's own data."""
    check_choice("data set", name, DATASETS)
    entry = DATASETS[name]
    return entry if isinstance(entry, type) else typing.get_type_hints(entry)["return"]


def _count_classes(experiment: Experiment) -> int:
    """Return the number of classes; only one's own data has to be there for that."""
    known = dataset_class(experiment.dataset).class_names
    return len(known or load_split(experiment, experiment.train_split).class_names)


def _measured(experiment: Experiment, size: Size, device: str, timing: bool) -> dict[str, Any]:
    classes = _count_classes(experiment)
    torch.manual_seed(experiment.seed)
    model = build_model(experiment.model, classes, experiment.model_arguments, pretrained=False)
    return {
        "experiment": experiment.name,
        "model": getattr(model, "title", type(model).__name__),
        "dataset": experiment.dataset,
        "classes": classes,
        "seed": experiment.seed,
        **_sizes(model, experiment, size),
        **(_latency(model, experiment, size, device) if timing else {}),
        **_memory(model, experiment, device),
        **_time_per_epoch(experiment),
        **_published(experiment),
    }


def _sizes(model: nn.Module, experiment: Experiment, size: Size) -> dict[str, Any]:
    whole, crop = count_operations(model, size), count_operations(model, _crop(experiment))
    return {
        "parameters": count_parameters(model),
        "weight_bytes": weight_bytes(model),
        "checkpoint_bytes": checkpoint_bytes(model, partial(build_optimizer, experiment)),
        "size": list(size),
        "multiply_adds": whole.multiply_adds,
        "blocks": whole.per_block,
        "uncounted": {name: {"calls": calls, "elements": n} for name, (calls, n) in whole.uncounted.items()},
        "crop": list(crop.size),
        "crop_multiply_adds": crop.multiply_adds,
    }


def _latency(model: nn.Module, experiment: Experiment, size: Size, device: str) -> dict[str, Any]:
    forms = measure_latency(model, size, device, precision=experiment.precision, channels_last=experiment.channels_last)
    measured = forms["eager"]
    return {
        "latency": measured.median,
        "latency_low": measured.low,
        "latency_high": measured.high,
        "latency_repeats": measured.repeats,
        "frames_per_second": measured.frames_per_second,
        "latency_on": f"{measured.device}, {measured.precision}; {measured.repeats} times",
        **{key: forms[form].frames_per_second for form, key in EXTRA_FORMS.items() if form in forms},
    }


def _memory(model: nn.Module, experiment: Experiment, device: str) -> dict[str, Any]:
    measured = measure_training_memory(
        model,
        _crop(experiment),
        experiment.batch_size,
        device,
        precision=experiment.precision,
        optimizer=partial(build_optimizer, experiment),
    )
    return {
        "memory": measured.peak,
        "memory_of": f"{measured.batch_size} crops of {_pixels(measured.size)}, {measured.precision}",
        "memory_method": measured.method,
    }


def _time_per_epoch(experiment: Experiment) -> dict[str, Any]:
    """Take the time per epoch from the run that bears the experiment's name, if it did the same work."""
    try:
        record = find_run(experiment.name).record()
    except RunError:
        return {}
    return _time_of(experiment, record)


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
    if cost is None:
        return {}
    return {
        "published_parameters": cost.parameters,
        "published_checkpoint_bytes": cost.checkpoint_bytes,
        "published_seconds_per_epoch": cost.seconds_per_epoch,
        "published_on": HARDWARE,
    }


def _crop(experiment: Experiment) -> Size:
    side = experiment.crop_size
    return (side, side) if isinstance(side, int) else side


def _pixels(size: Size) -> str:
    return f"{size[0]} × {size[1]}"


def _cell(value: Any, unit: float | None) -> Any:
    if value is None:
        return math.nan
    if isinstance(value, list):
        return _pixels(value)
    return value if unit is None else value / unit
