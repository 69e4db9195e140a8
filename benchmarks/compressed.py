"""Would a compressed copy be better than raw pixels? Bytes for an image, and crops a second, for both."""

import zlib
from collections.abc import Callable

import numpy as np
import torch
import zstandard

from benchmarks.results import Table
from nnti.augment import cut, draw, place_random
from nnti.data import SegmentationDataset, attach_cache
from nnti.experiment import Experiment
from nnti.inference.speed import compare

__all__ = ["compressed_table"]

BAND = 64  # rows that are compressed together: a crop needs some of them only

Coder = tuple[Callable[[bytes], bytes], Callable[[bytes], bytes]]


def compressed_table(dataset: SegmentationDataset, experiment: Experiment) -> Table:
    """Compare raw pixels, mapped, with bands of differences between neighbours, compressed."""
    attach_cache(dataset, "disk", progress=False)
    image, label = dataset[0]
    coders: dict[str, Coder] = {
        "zstd, level 1": (zstandard.ZstdCompressor(1).compress, zstandard.ZstdDecompressor().decompress),
        "zstd, level 6": (zstandard.ZstdCompressor(6).compress, zstandard.ZstdDecompressor().decompress),
        "zlib, level 1": (lambda data: zlib.compress(data, 1), zlib.decompress),
    }
    planes = np.concatenate([image.numpy(), label.numpy()[None]])
    kept = {name: _compress(planes, coder[0]) for name, coder in coders.items()}
    sizes = {"raw, mapped": planes.nbytes} | {name: sum(map(len, bands)) for name, bands in kept.items()}
    raw = torch.from_numpy(planes)
    steps = {"raw, mapped": _cropping(experiment, lambda rows: raw)}
    for name, (_, decode) in coders.items():
        steps[name] = _cropping(experiment, lambda rows, n=name, d=decode: _decompress(kept[n], d, planes.shape, rows))
    timings = compare(steps, limit=12)
    rows = [
        {
            "copy": name,
            "MB per image and label": round(sizes[name] / 1e6, 2),
            "crops/s": round(timing.per_second),
            "against raw": f"{timings['raw, mapped'].median / timing.median:.2f} ×",
        }
        for name, timing in timings.items()
    ]
    note = (
        f"Host side, one process, {planes.shape[2]} × {planes.shape[1]}, base_size {experiment.base_size}, crop "
        f"{experiment.crop_size}; only the bands of {BAND} rows that a crop touches are decompressed."
    )
    return Table("Raw or compressed copy", rows, note)


def _cropping(experiment: Experiment, read: Callable[[slice], torch.Tensor]) -> Callable[[], None]:
    """Return a function that cuts the next random crop; `read` gives planes (4, H, W) of which some rows are valid."""
    crop = (experiment.crop_size, experiment.crop_size)
    count = iter(range(10**9))
    size = tuple(read(slice(0, 1)).shape[1:])

    def one() -> None:
        placement = place_random(draw(experiment, 0, next(count)), size, experiment.base_size, crop)
        corners = placement.matrix @ np.array([[0, crop[1], 0, crop[1]], [0, 0, crop[0], crop[0]], [1, 1, 1, 1]])
        low, high = int(corners[1].min()) - 8, int(corners[1].max()) + 9
        planes = read(slice(max(0, low), min(size[0], high)))
        cut(planes[:3], planes[3], placement)

    return one


def _compress(planes: np.ndarray, encode: Callable[[bytes], bytes]) -> list[bytes]:
    """Compress bands of the differences between each pixel and its left neighbour."""
    differences = np.diff(planes, axis=2, prepend=np.uint8(0))
    return [encode(differences[:, top : top + BAND].tobytes()) for top in range(0, planes.shape[1], BAND)]


def _decompress(bands: list[bytes], decode: Callable, shape: tuple[int, ...], rows: slice) -> torch.Tensor:
    planes = np.empty(shape, dtype=np.uint8)  # memory that is never touched costs nothing
    for number in range(rows.start // BAND, (rows.stop - 1) // BAND + 1):
        differences = np.frombuffer(decode(bands[number]), dtype=np.uint8).reshape(shape[0], -1, shape[2])
        top = number * BAND
        np.cumsum(differences, axis=2, dtype=np.uint8, out=planes[:, top : top + differences.shape[1]])
    return torch.from_numpy(planes)
