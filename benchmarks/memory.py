"""Memory: of a training step by batch size and crop, checked against real steps; of data sets; epoch after epoch.

`nnti.models.cost` counts the bytes of a step from the sizes of its tensors. The same step is then really taken in a
process of its own, whose resident memory the system measures. A list of files is compared with the list of `Path`
pairs that it replaces.
"""

import gc
import multiprocessing
import os
import pickle
import tempfile
import tracemalloc
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from benchmarks.processes import (
    MEMORY_IS_READABLE,
    RETURN_AT_ONCE,
    in_fresh_process,
    own_memory,
    peak_resident,
    resident,
)
from benchmarks.results import Curve, Goal, Result, Table
from nnti.data import DATASETS, Cityscapes, attach_cache
from nnti.device import DTYPES, resolve_precision
from nnti.experiment import Experiment
from nnti.inference.speed import compare
from nnti.loaders import load_split, train_loader
from nnti.models import build_model
from nnti.models.cost import measure_training_memory, sgd, training_step

__all__ = ["measure"]

NETWORKS = {
    "ENet": "enet_voc",
    "R2U-Net": "r2unet_cityscapes",
    "R2U-Net, checkpointing": "r2unet_cityscapes_8gb",
    "PSPNet": "pspnet_cityscapes",
}
BATCHES, CROPS, CROP = (1, 2, 3, 4, 8, 16), (256, 384, 512, 713), 512
CARDS = {"8 GB": 8e9, "15 GB (Colab's T4)": 15e9, "24 GB": 24e9}  # bytes
USABLE = 0.9  # of a card; the rest is for the driver, workspaces and what the allocator cannot use
NARROW = {"widths": (16, 32, 64, 128, 256)}
AT_ONCE, LATER = "at once", "when it likes (default)"
REAL_STEPS = (  # network, model's name, arguments, classes, crop, batch size; when freed memory goes back to the system
    ("ENet", ("enet", {}, 21, 320, 4), AT_ONCE),
    ("ENet", ("enet", {}, 21, 320, 4), LATER),
    ("R2U-Net, quarter width", ("r2unet", NARROW, 19, 224, 4), AT_ONCE),
    (
        "R2U-Net, quarter width, checkpointing",
        ("r2unet", NARROW | {"checkpoint_activations": True}, 19, 224, 4),
        AT_ONCE,
    ),
)
IMAGES, CITIES = 20_000, 20
EPOCHS, SETTLED, PICTURES = 16, 2, 80
READINGS = {"files, 0 workers": (0, "none"), "files, 2 workers": (2, "none"), "cache, 2 workers": (2, "disk")}
GIGA, MEGA = 1e9, 1e6


def measure() -> Result:
    """Measure everything; what needs Linux's /proc is left out elsewhere."""
    result = Result("memory", "Memory")
    for part in (_peaks, _recomputing, _listing, *((_reality, _epochs) if MEMORY_IS_READABLE else ())):
        part(result)
    if torch.cuda.is_available():
        _allocated(result)
    return result


def _peaks(result: Result) -> None:
    """Peak of a training step for each network, batch size and crop."""
    gigabytes = {
        (name, batch, column): _peak(model, batch, *column)
        for name, model in ((name, _network(config)) for name, config in NETWORKS.items())
        for batch in BATCHES
        if batch >= getattr(model, "smallest_batch", 1)
        for column in (*((crop, "bfloat16") for crop in CROPS), (CROP, "float32"))
    }
    at_crop = {
        name: {
            batch: peak for (of, batch, column), peak in gigabytes.items() if (of, *column) == (name, CROP, "bfloat16")
        }
        for name in NETWORKS
    }
    result.tables += [_peak_table(gigabytes), _card_table(at_crop)]
    lines = {name: (list(peaks), list(peaks.values())) for name, peaks in at_crop.items()}
    result.curves.append(Curve(f"Training, {CROP} × {CROP}, 16 bits", "batch size", "peak, GB", lines, log_x=True))
    reached = gigabytes["R2U-Net, checkpointing", 3, (CROP, "bfloat16")]
    what = f"R2U-Net, {CROP} × {CROP}, batch 3, bfloat16, checkpointing: peak ({reached * GIGA / 2**30:.2f} GiB)"
    result.goals.append(Goal(what, 8, round(reached, 2), "GB", at_most=True))


def _network(config: str) -> nn.Module:
    experiment = Experiment.load(config)
    classes = len(DATASETS[experiment.dataset].class_names)
    return build_model(experiment.model, classes, experiment.model_arguments, pretrained=False)


def _peak(model: nn.Module, batch: int, crop: int, precision: str) -> float:
    return measure_training_memory(model, (crop, crop), batch, "cpu", precision=precision).peak / GIGA


def _peak_table(gigabytes: dict) -> Table:
    columns = {f"{crop} × {crop}": (crop, "bfloat16") for crop in CROPS} | {
        f"{CROP} × {CROP}, float32": (CROP, "float32")
    }
    rows = [
        {
            "network": name,
            "batch size": batch,
            **{title: _cell(gigabytes.get((name, batch, key))) for title, key in columns.items()},
        }
        for name in NETWORKS
        for batch in BATCHES
    ]
    note = (
        "GB = 10⁹ bytes; bfloat16 unless the column says float32, and float16 takes the same: weights, gradients, "
        "SGD's momentum, the batch and the activations that the backward pass needs, counted from their sizes. A CUDA "
        "card needs room for its driver, for kernels and for PyTorch's allocator as well. "
        "PSPNet does not train on one image: its smallest bin would normalise over single values."
    )
    return Table("Peak memory of a training step, GB", rows, note)


def _card_table(at_crop: dict[str, dict[int, float]]) -> Table:
    def largest(peaks: dict[int, float], card: float) -> int | str:
        return max((batch for batch, peak in peaks.items() if peak * GIGA <= USABLE * card), default="none")

    rows = [
        {"network": name, **{title: largest(peaks, card) for title, card in CARDS.items()}}
        for name, peaks in at_crop.items()
    ]
    note = f"Of the batch sizes of the table above; the tensors may fill {USABLE:.0%} of the card."
    return Table(f"Largest batch that fits a card, {CROP} × {CROP}, bfloat16 or float16", rows, note)


def _cell(gigabytes: float | None) -> str:
    return "–" if gigabytes is None else f"{gigabytes:.2f}"


def _recomputing(result: Result) -> None:
    """Time of a real step with and without recomputation of activations."""
    device, batch, crop = torch.device("cpu"), 2, 128
    dtype = resolve_precision("auto", device)
    steps = {}
    for name in ("R2U-Net", "R2U-Net, checkpointing"):
        model = _network(NETWORKS[name]).train().to(memory_format=torch.channels_last)
        steps[name] = training_step(model, (crop, crop), batch, device, dtype, sgd)
    timings = compare(steps, blocks=3)
    whole = timings["R2U-Net"].median
    rows = [{"network": name, "time of a step": f"{timing.median / whole:.2f} ×"} for name, timing in timings.items()]
    note = (
        f"Real steps on the processor, {batch} crops of {crop} × {crop}, {_name(dtype)}, channels_last; medians of "
        f"{timings['R2U-Net'].blocks} alternating blocks."
    )
    result.tables.append(Table("What recomputing the activations costs in time", rows, note))


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _listing(result: Result) -> None:
    """Time and memory of a data set object of 20,000 images."""
    with _quick_folder() as root:
        _write_coarse(root)
        seconds = compare({"list": lambda: Cityscapes("train_extra", root)}, blocks=5)["list"].median
        dataset = Cityscapes("train_extra", root)
        ours = _footprint(lambda: Cityscapes("train_extra", root).files)
        plain = _footprint(lambda: list(dataset.files))
    names = sum(len(path.name) for pair in dataset.files for path in pair) / IMAGES
    rows = [
        {"kept as": title, **{what: round(value) for what, value in found.items()}}
        for title, found in (("`nnti.data.base.FilePairs`", ours), ("a list of pairs of `Path`", plain))
    ]
    note = (
        f"{IMAGES:,} images with coarse labels in {CITIES} cities (empty files in memory), four label files each. The "
        f"names alone are {names:.0f} bytes an image. A listing takes {seconds:.2f} s."
    )
    result.tables.append(Table("A data set object, bytes an image", rows, note))
    result.goals += [
        Goal(f"list {IMAGES:,} images", 1, round(seconds, 2), "s", at_most=True),
        Goal("data set object against the files' names", 1.25, round(ours["in memory"] / names, 2), at_most=True),
    ]


def _footprint(make) -> dict[str, float]:
    """Return bytes an image of what `make` makes: as an object, after every path was used once, and pickled."""
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        files = make()
        gc.collect()
        made = tracemalloc.get_traced_memory()[0] - before
        for pair in files:
            for path in pair:
                os.fspath(path)
        gc.collect()
        used = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    found = {"in memory": made, "after use": used, "sent to a new process": len(pickle.dumps(files))}
    return {what: value / len(files) for what, value in found.items()}


def _write_coarse(root: Path) -> None:
    kinds = ("labelIds.png", "instanceIds.png", "color.png", "polygons.json")
    for city in (f"city{number:02}" for number in range(CITIES)):
        images, labels = (root / part / "train_extra" / city for part in ("leftImg8bit", "gtCoarse"))
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for name in (f"{city}_{number:06}_000019" for number in range(IMAGES // CITIES)):
            (images / f"{name}_leftImg8bit.png").touch()
            for kind in kinds:
                (labels / f"{name}_gtCoarse_{kind}").touch()


@contextmanager
def _quick_folder():
    """Give a temporary folder, in memory where the system offers one: 100,000 files take a disk a minute."""
    memory = Path("/dev/shm")
    place = memory if os.access(memory, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=place) as folder:
        yield Path(folder)


def _reality(result: Result) -> None:
    """The counted bytes beside the growth of a real process."""
    precision = _name(resolve_precision("auto", torch.device("cpu")))
    rows = []
    for title, step, freed in REAL_STEPS:
        name, arguments, classes, crop, batch = step
        model = build_model(name, classes, arguments, pretrained=False)
        counted = measure_training_memory(model, (crop, crop), batch, "cpu", precision=precision).peak
        environment = RETURN_AT_ONCE if freed == AT_ONCE else {}
        real = in_fresh_process(_resident_growth, *step, precision, environment=environment)
        row = {"network": title, "batch": f"{batch} × {crop} × {crop}", "freed memory goes back": freed}
        found = {"counted, MB": round(counted / MEGA), "resident, MB": round(real / MEGA)}
        rows.append({**row, **found, "resident / counted": f"{real / counted:.2f}"})
    settings = " ".join(f"{key}={value}" for key, value in RETURN_AT_ONCE.items())
    note = (
        f"Two real steps on the processor, {precision}, channels_last, in a process of their own: the most that was "
        "resident, less what was before the model was built, so that libraries that are loaded on first use count as "
        f"well. The C library keeps what a program frees for its next requests; 'at once' is with {settings}."
    )
    result.tables.append(Table("Counted bytes beside real ones", rows, note))


def _resident_growth(name: str, arguments: dict, classes: int, crop: int, batch: int, precision: str) -> int:
    """Return how much memory a model and two real steps of it took, in bytes."""
    before = resident()
    model = build_model(name, classes, arguments, pretrained=False).train().to(memory_format=torch.channels_last)
    step = training_step(model, (crop, crop), batch, torch.device("cpu"), DTYPES[precision], sgd)
    step()
    step()
    return peak_resident() - before


def _allocated(result: Result) -> None:
    """The counted peaks beside what PyTorch's allocator counts on a CUDA card."""
    rows = []
    for name, config in NETWORKS.items():
        model = _network(config)
        counted = _peak(model, 3, CROP, "bfloat16")
        found = measure_training_memory(model, (CROP, CROP), 3, "cuda", precision="bfloat16")
        ratio = f"{found.peak / GIGA / counted:.2f}"
        allocated = {"allocated, GB": round(found.peak / GIGA, 2), "allocated / counted": ratio, "method": found.method}
        rows.append({"network": name, "counted, GB": round(counted, 2), **allocated})
    result.tables.append(Table(f"Counted bytes beside the allocator's, 3 × {CROP} × {CROP}, bfloat16", rows))


def _epochs(result: Result) -> None:
    """Memory of the reading processes over epochs."""
    load_split(Experiment.load("pspnet_cityscapes_miniature"), "train")  # draws the miniature if need be
    shown = [1, 2, 4, 8, 16]
    rows, lines, growth = [], {}, []
    for title, (workers, cache) in READINGS.items():
        with tempfile.TemporaryDirectory() as folder:
            after = in_fresh_process(_memory_by_epoch, workers, cache, environment={"NNTI_CACHE": folder})
        lines[title] = (list(range(1, EPOCHS + 1)), after)
        growth.append(after[-1] / after[SETTLED - 1] - 1)
        epochs = {f"epoch {epoch}": round(after[epoch - 1], 1) for epoch in shown}
        rows.append({"reads": title, **epochs, f"epochs {SETTLED} to {EPOCHS}": f"{growth[-1]:+.1%}"})
    note = (
        f"{PICTURES} pictures of the miniature of Cityscapes, read through the training loader: MB of the process and "
        "its workers together that no file backs, what they share counted once. Mapped pages of the cache do not "
        "count: the system takes them back when it needs to."
    )
    result.tables.append(Table("Memory after each epoch of reading, MB", rows, note))
    result.curves.append(Curve("Memory of the reading processes", "epoch", "MB", lines))
    name = f"growth from epoch {SETTLED} to {EPOCHS}, largest of {len(rows)}"
    result.goals.append(Goal(name, 5, round(100 * max(growth), 1), "%", at_most=True))


def _memory_by_epoch(workers: int, cache: str) -> list[float]:
    """Read the training split EPOCHS times; return the memory after each, in MB."""
    experiment = Experiment.load("pspnet_cityscapes_miniature").replace(num_workers=workers)
    dataset = load_split(experiment, "train", PICTURES)
    attach_cache(dataset, cache, progress=False)
    loader, after = train_loader(experiment, dataset, torch.device("cpu")), []
    for epoch in range(1, EPOCHS + 1):
        loader.sampler.set_epoch(epoch)
        for _ in loader:
            pass
        gc.collect()
        processes = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
        after.append(round(own_memory(processes) / MEGA, 1))
    return after
