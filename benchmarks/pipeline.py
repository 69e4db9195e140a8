"""The input pipeline: samples a second from files and from decoded pixels, beside torchvision v2 and albumentations.

All do what the report's augmentation does, in its order: scale, rotation, padding and crop, flip, blur. The peers do it
on the host. Here the host plans and cuts, and the device resamples once; on a CPU both are the same processor's work.
"""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path

import albumentations
import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import io, tv_tensors
from torchvision.transforms import InterpolationMode, v2

from benchmarks.pictures import write_cityscapes_like, write_voc_like
from benchmarks.results import Goal, Result, Table
from nnti.augment import MEAN_COLOR, collate, cut, draw, place_random, warp
from nnti.data import VOC, Cityscapes, SegmentationDataset, attach_cache
from nnti.data.files import read_image
from nnti.device import resolve_device
from nnti.experiment import Experiment
from nnti.inference.speed import Timing, compare
from nnti.loaders import train_loader

STREETS, PHOTOS = 24, 96
REPEATED = 2  # files are listed so often in an epoch of the measurement with workers
LIMIT = 15.0  # seconds for each table

# names of the variants that goals and ratios refer to
V2_FILES, V2_DECODED = "torchvision v2, files read with Pillow", "torchvision v2, decoded pixels"
OUR_FILES, OUR_DISK = "nnti, files", "nnti, decoded copy"


def measure() -> Result:
    """Time all ways to a training sample, at Task II and III's settings and at Task I's."""
    result = Result("pipeline", "Input pipeline")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["NNTI_CACHE"] = str(Path(folder) / "cache")
        street = Cityscapes("train", write_cityscapes_like(Path(folder) / "streets", STREETS))
        photo = VOC("train", write_voc_like(Path(folder) / "photos", PHOTOS))
        timings = _one_process(result, street, Experiment.load("pspnet_cityscapes"), "Cityscapes-shaped PNGs")
        _goals(result, timings)
        result.tables.append(_shares(street, Experiment.load("pspnet_cityscapes")))
        _one_process(result, photo, Experiment.load("enet_voc"), "VOC-shaped JPEGs")
        _workers(result, street, Experiment.load("pspnet_cityscapes"))
    return result


def _one_process(result: Result, dataset: SegmentationDataset, experiment: Experiment, what: str) -> dict[str, Timing]:
    """Time one batch of each variant without workers; return seconds per sample."""
    variants = {name: _endless(loader) for name, loader in _loaders(dataset, experiment, 0).items()}
    steps: dict[str, Callable[[], object]] = {name: lambda it=it: next(it) for name, it in variants.items()}
    device = resolve_device()
    for name in (OUR_FILES, OUR_DISK):
        steps[f"{name}, with the device's part"] = lambda it=variants[name]: _to_device(next(it), device)
    timings = {name: _per_sample(t, experiment) for name, t in compare(steps, limit=LIMIT).items()}
    height, width = dataset.read(0)[1].shape
    result.tables.append(
        Table(
            f"{what}, one process",
            [_row(name, timing, timings[V2_FILES], timings[V2_DECODED]) for name, timing in timings.items()],
            f"{width} × {height}, base_size {experiment.base_size}, crop {experiment.crop_size}, batches of "
            f"{experiment.batch_size}; medians of alternating blocks. Device: {device}. All files stay in the page "
            f"cache. Peers: torchvision {version('torchvision')}, albumentations {version('albumentations')}.",
        )
    )
    return timings


def _shares(dataset: SegmentationDataset, experiment: Experiment) -> Table:
    """Time the parts of a sample that is read from files: what a missed goal has its limit in."""
    image_path, label_path = dataset.files[0]
    image, label = dataset.read(0)
    numbers = itertools.count()

    def plan_and_cut() -> None:
        drawn, crop = draw(experiment, 0, next(numbers)), (experiment.crop_size, experiment.crop_size)
        collate([cut(image, label, place_random(drawn, label.shape, experiment.base_size, crop))])

    parts = {
        "decode the image": lambda: Image.open(image_path).load(),
        "image to tensor": lambda: read_image(image_path),
        "decode the label, turn its ids into classes": lambda: dataset.read_label(label_path),
        "check the label's values": lambda: dataset.check_label(label, label_path),
        "plan, cut, stack": plan_and_cut,
    }
    seconds = {name: timing.median for name, timing in compare(parts, limit=LIMIT / 3).items()}
    seconds["image to tensor"] -= seconds["decode the image"]
    total = sum(seconds.values())
    rows = [{"part": name, "share": f"{spent / total:.0%}"} for name, spent in seconds.items()]
    return Table("Where a sample from files spends its time", rows, "nnti, Cityscapes-shaped PNGs, host side.")


def _goals(result: Result, timings: dict[str, Timing]) -> None:
    ratios = {
        "decoded copy, host, against torchvision v2 on decoded pixels": (5.0, V2_DECODED, OUR_DISK),
        "files, host, against torchvision v2 from files": (1.5, V2_FILES, OUR_FILES),
    }
    for name, (target, peer, ours) in ratios.items():
        reached = timings[peer].median / timings[ours].median
        limit = "decoding the PNGs, which is most of a sample (table of shares) and the same for both"
        result.goals.append(Goal(name, target, round(reached, 2), limit=limit if reached < target else ""))


def _workers(result: Result, dataset: SegmentationDataset, experiment: Experiment) -> None:
    """Time whole epochs through a DataLoader with 0, 1 and 2 workers."""
    dataset.files = [pair for _ in range(REPEATED) for pair in dataset.files]
    device, rates = resolve_device(), {}
    for workers in (0, 1, 2):
        loaders = _loaders(dataset, experiment, workers)
        for name in (V2_FILES, V2_DECODED, OUR_FILES, OUR_DISK):
            batches = _endless(loaders[name])
            epoch = len(loaders[name])

            def run(batches=batches, epoch=epoch, ours=name in (OUR_FILES, OUR_DISK)) -> None:
                for _ in range(epoch):
                    batch = next(batches)
                    if ours:
                        _to_device(batch, device)

            timing = compare({name: run}, blocks=2)[name]
            rates.setdefault(name, {})[workers] = epoch * experiment.batch_size / timing.median
    rows = [
        {"variant": name, **{f"{workers} workers, samples/s": round(rate) for workers, rate in by_workers.items()}}
        for name, by_workers in rates.items()
    ]
    note = f"whole epochs of {len(dataset)} samples, Cityscapes-shaped, the device's part included ({device})"
    result.tables.append(Table("Through a DataLoader", rows, note))


def _loaders(dataset: SegmentationDataset, experiment: Experiment, workers: int) -> dict[str, DataLoader]:
    """Make the loader of every variant; all give batches of the same size."""
    pixels = [dataset.read(at) for at in range(len(dataset) // REPEATED or 1)]
    decoded = lambda at: pixels[at % len(pixels)]  # noqa: E731
    peers = {
        V2_FILES: _V2(experiment, len(dataset), lambda at: _with_pillow(dataset, at)),
        "torchvision v2, files read with torchvision.io": _V2(
            experiment, len(dataset), lambda at: _with_torchvision(dataset, at)
        ),
        V2_DECODED: _V2(experiment, len(dataset), decoded),
        "albumentations, decoded pixels": _Albumentations(experiment, len(dataset), decoded),
    }
    options = {"batch_size": experiment.batch_size, "drop_last": True, "num_workers": workers}
    loaders = {
        name: DataLoader(peer, shuffle=True, persistent_workers=workers > 0, **options) for name, peer in peers.items()
    }
    ours = experiment.replace(num_workers=workers)
    for name, mode in ((OUR_FILES, "none"), (OUR_DISK, "disk")):
        own = type(dataset)(dataset.split, dataset.root)
        own.files = list(dataset.files)
        attach_cache(own, mode, progress=False)
        loaders[name] = train_loader(ours, own, torch.device("cpu"))
    return loaders


class _V2(Dataset):
    """The report's augmentation with torchvision's transforms v2."""

    def __init__(self, experiment: Experiment, length: int, read: Callable[[int], tuple[Tensor, Tensor]]):
        self.length, self.read = length, read
        fill = {tv_tensors.Image: list(MEAN_COLOR), tv_tensors.Mask: 255}
        crop, base = experiment.crop_size, experiment.base_size
        height, width = read(0)[1].shape
        target = (round(base * height / max(height, width)), round(base * width / max(height, width)))
        self.transform = v2.Compose(
            [
                v2.ScaleJitter(target, experiment.scale),
                v2.RandomRotation(experiment.rotate, InterpolationMode.BILINEAR, fill=fill),
                v2.RandomCrop(crop, pad_if_needed=True, fill=fill),
                v2.RandomHorizontalFlip(experiment.flip),
                v2.GaussianBlur(7, (1e-3, experiment.blur)),
            ]
        )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.read(index)
        return self.transform(tv_tensors.Image(image), tv_tensors.Mask(label))


class _Albumentations(Dataset):
    """The same with albumentations, which takes arrays (H, W, 3)."""

    def __init__(self, experiment: Experiment, length: int, read: Callable[[int], tuple[Tensor, Tensor]]):
        self.length, self.read = length, read
        cv2.setNumThreads(0)
        height, width = read(0)[1].shape
        low, high = (factor * experiment.base_size / max(height, width) - 1 for factor in experiment.scale)
        fill = {"fill": MEAN_COLOR, "fill_mask": 255}
        crop = experiment.crop_size
        self.transform = albumentations.Compose(
            [
                albumentations.RandomScale((low, high), p=1),
                albumentations.Rotate(experiment.rotate, p=1, **fill),
                albumentations.PadIfNeeded(crop, crop, **fill),
                albumentations.RandomCrop(crop, crop),
                albumentations.HorizontalFlip(p=experiment.flip),
                albumentations.GaussianBlur((7, 7), (1e-3, experiment.blur), p=1),
            ]
        )

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.read(index)
        done = self.transform(image=np.ascontiguousarray(image.permute(1, 2, 0).numpy()), mask=label.numpy())
        return torch.from_numpy(done["image"]).permute(2, 0, 1), torch.from_numpy(done["mask"])


def _with_pillow(dataset: SegmentationDataset, index: int) -> tuple[Tensor, Tensor]:
    image_path, label_path = dataset.files[index]
    return v2.functional.pil_to_tensor(Image.open(image_path).convert("RGB")), dataset.read_label(label_path)


def _with_torchvision(dataset: SegmentationDataset, index: int) -> tuple[Tensor, Tensor]:
    image_path, label_path = dataset.files[index]
    return io.decode_image(str(image_path), io.ImageReadMode.RGB), dataset.read_label(label_path)


def _to_device(batch, device: torch.device) -> None:
    warp(batch.to(device))
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _endless(loader: DataLoader) -> Iterator:
    epoch = 0
    while True:
        epoch += 1
        if hasattr(loader.sampler, "set_epoch"):
            loader.sampler.set_epoch(epoch)
        yield from loader


def _per_sample(timing: Timing, experiment: Experiment) -> Timing:
    size = experiment.batch_size
    return Timing(timing.median / size, timing.low / size, timing.high / size, timing.blocks)


def _row(name: str, timing: Timing, files: Timing, decoded: Timing) -> dict[str, str | float]:
    return {
        "variant": name,
        "samples/s": round(timing.per_second, 1),
        "quartiles": f"{1 / timing.high:.1f} … {1 / timing.low:.1f}",
        "against v2 from files": f"{files.median / timing.median:.2f} ×",
        "against v2 on decoded": f"{decoded.median / timing.median:.2f} ×",
    }
