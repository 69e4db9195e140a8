"""Growth: samples per second and seconds per epoch against the number of images and of reading processes.

The miniature of Cityscapes is copied, file by file, to 1, 2, 4, 8 and 16 times its size. The training loader's batches
are read and sampled into crops on the processor, from the files and from the decoded copy; the sizes take turns, 160
images at a time, each in the random order of its own epochs. What an image costs must not depend on how many others
there are.
"""

import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from benchmarks.results import Curve, Goal, Result, Table
from nnti.augment import Batch, prepare
from nnti.data import Cityscapes, attach_cache, load_dataset
from nnti.experiment import Experiment
from nnti.inference.speed import compare
from nnti.loaders import train_loader

__all__ = ["measure"]

SIZES, WORKERS = (1, 2, 4, 8, 16), (0, 1, 2)
WORKERS_AT = 2  # times the miniature
BATCHES = 20  # of each size in turn
CACHES = {"files": "none", "decoded copy": "disk"}
PARTS = {"leftImg8bit": "leftImg8bit", "gtFine": "gtFine_labelIds"}  # folder → what its files' names end with
EXPERIMENT = Experiment.load("pspnet_cityscapes_miniature")
CPU = torch.device("cpu")


def measure() -> Result:
    """Measure epochs of growing data sets, and of one data set with more and more workers."""
    result = Result("growth", "Growth")
    with _folders() as root:
        datasets = {size: _copies(root / f"{size}", size) for size in SIZES}
        rates = {}
        for source, cache in CACHES.items():
            rows = [_built(source, size, dataset, cache) for size, dataset in datasets.items()]
            rates[source] = _by_size(datasets)
            _add_sizes(result, source, rows, rates[source])
            rates[source, "workers"] = _by_workers(datasets[WORKERS_AT])
    _add_curves(result, rates)
    _add_workers(result, rates)
    return result


@contextmanager
def _folders():
    """Give a temporary folder for the copies, and let decoded copies go there too."""
    before = os.environ.get("NNTI_CACHE")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NNTI_CACHE"] = f"{folder}/cache"
        try:
            yield Path(folder)
        finally:
            del os.environ["NNTI_CACHE"]
            if before is not None:
                os.environ["NNTI_CACHE"] = before


def _copies(root: Path, times: int) -> Cityscapes:
    """Write `times` copies of each training picture of the miniature in Cityscapes' layout; return the split."""
    for pair in load_dataset("cityscapes_miniature", "train").files:
        for path, (part, ending) in zip(pair, PARTS.items(), strict=True):
            city, sequence, frame = path.name.removesuffix(f"_{ending}.png").split("_")
            folder = root / part / "train" / city
            folder.mkdir(parents=True, exist_ok=True)
            for copy in range(times):
                shutil.copyfile(path, folder / f"{city}_{copy:02}{sequence[2:]}_{frame}_{ending}.png")
    return Cityscapes("train", root)


def _built(source: str, size: int, dataset: Cityscapes, cache: str) -> dict[str, str]:
    """Attach the cache; return the beginning of the size's row."""
    started = time.perf_counter()
    attach_cache(dataset, cache, progress=False)
    row = {"read from": source, "size": f"{size} ×", "images": f"{len(dataset):,}"}
    return {**row, "made once, s": f"{time.perf_counter() - started:.1f}" if cache != "none" else "–"}


def _by_size(datasets: dict[int, Cityscapes]) -> dict[int, float]:
    """Return samples per second of each size, read in this process."""
    readers = {str(size): _reader(dataset) for size, dataset in datasets.items()}
    timings = compare(readers, blocks=7, block_seconds=0.1)
    return {size: BATCHES * EXPERIMENT.batch_size / timings[str(size)].median for size in datasets}


def _reader(dataset: Cityscapes) -> Callable[[], None]:
    """Return a function that reads the next batches of a data set, epoch after epoch, and samples their crops."""
    batches = _endless(train_loader(EXPERIMENT.replace(num_workers=0), dataset, CPU))

    def read() -> None:
        for batch in itertools.islice(batches, BATCHES):
            prepare(batch, EXPERIMENT, CPU)

    return read


def _endless(loader: DataLoader) -> Iterator[Batch]:
    for epoch in itertools.count():
        loader.sampler.set_epoch(epoch)
        yield from loader


def _by_workers(dataset: Cityscapes) -> dict[int, float]:
    """Return samples per second for each number of workers; they are idle while another number's epoch runs."""
    epochs = {str(workers): _epoch(dataset, workers) for workers in WORKERS}
    timings = compare(epochs, blocks=5, block_seconds=0.1)
    return {workers: len(dataset) / timings[str(workers)].median for workers in WORKERS}


def _epoch(dataset: Cityscapes, workers: int) -> Callable[[], None]:
    """Return a function that reads an epoch and samples its crops."""
    loader = train_loader(EXPERIMENT.replace(num_workers=workers), dataset, CPU)

    def epoch() -> None:
        for batch in loader:
            prepare(batch, EXPERIMENT, CPU)

    return epoch


def _add_sizes(result: Result, source: str, rows: list[dict[str, str]], rates: dict[int, float]) -> None:
    first, last = rates[SIZES[0]], rates[SIZES[-1]]
    for row, size in zip(rows, SIZES, strict=True):
        seconds = f"{int(row['images'].replace(',', '')) / rates[size]:.2f}"
        row |= {"samples/s": round(rates[size]), "s/epoch": seconds, "cost of an image": f"{first / rates[size]:.2f} ×"}
    if not result.tables:
        note = (
            f"Training loader and sampling of crops, {EXPERIMENT.crop_size} × {EXPERIMENT.crop_size} from pictures of "
            "256 × 128, batch 8, in one process; medians of 7 blocks of 160 images, the sizes taking turns; an epoch "
            "is all images at that cost. All sizes fit the system's memory: what does not is read from the disk again."
        )
        result.tables.append(Table("Epochs of growing data sets", [], note))
    result.tables[0].rows += rows
    name = f"samples/s at {SIZES[-1]} × against {SIZES[0]} ×, from {source}"
    result.goals.append(Goal(name, 0.9, round(last / first, 2)))


def _add_workers(result: Result, rates: dict) -> None:
    rows = [
        {"workers": workers}
        | {
            f"from {source}": f"{rate:.0f} samples/s, {rate / rates[source, 'workers'][0]:.2f} ×"
            for source in CACHES
            for rate in [rates[source, "workers"][workers]]
        }
        for workers in WORKERS
    ]
    note = (
        f"At {WORKERS_AT} × the miniature on {os.cpu_count()} cores, which also sample the crops; ratios to no worker."
    )
    result.tables.append(Table("Reading processes", rows, note))


def _add_curves(result: Result, rates: dict) -> None:
    sizes, images = list(SIZES), len(load_dataset("cityscapes_miniature", "train"))
    speed = {source: (sizes, [round(rates[source][size], 1) for size in sizes]) for source in CACHES}
    seconds = {source: (sizes, [round(images * size / rates[source][size], 2) for size in sizes]) for source in CACHES}
    workers = {
        source: (list(WORKERS), [round(rate, 1) for rate in rates[source, "workers"].values()]) for source in CACHES
    }
    result.curves += [
        Curve("Samples per second by size", "times the miniature", "samples/s", speed, log_x=True),
        Curve("Seconds per epoch by size", "times the miniature", "s", seconds, log_x=True),
        Curve("Samples per second by workers", "workers", "samples/s", workers),
    ]
