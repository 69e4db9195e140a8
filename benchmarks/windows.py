"""Sliding windows: what they take of memory, measured on the process, and of time."""

from pathlib import Path

import torch
from torch import nn

from benchmarks.processes import MEMORY_IS_READABLE, RETURN_AT_ONCE, in_fresh_process, peak_resident, resident
from benchmarks.results import Goal, Result, Table
from nnti.device import resolve_device
from nnti.inference.deploy import deploy
from nnti.inference.image import Inference, predict
from nnti.inference.speed import compare
from nnti.models import build_model

__all__ = ["window_tables"]

CLASSES, FLOAT = 19, 4  # bytes
MEGA = 1e6
WINDOW = 512
SIZES = ((512, 1024), (1024, 2048), (2048, 4096))
WHOLE_SIZES = SIZES[:2]
TIMED_SIZE, TIMED_WINDOW = (512, 512), 256
OVERLAPS = {"none": 0.0, "a third": 1 / 3}
TILE_BATCHES = (1, 2, 4)


def window_tables(result: Result) -> None:
    """Add the tables and the goal about sliding windows to a result."""
    if MEMORY_IS_READABLE:
        _memory(result)
    result.tables.append(_speed())


def _memory(result: Result) -> None:
    sliding = Inference(protocol="sliding", crop_size=WINDOW, overlap=0)
    cases = [("whole", Inference(), size) for size in WHOLE_SIZES] + [("windows", sliding, size) for size in SIZES]
    rows, taken = [], {}
    for name, inference, size in cases:
        megabytes = in_fresh_process(_peak, inference, size, environment=RETURN_AT_ONCE) / MEGA
        one_sum = CLASSES * FLOAT * size[0] * size[1] / MEGA
        taken[name, size] = megabytes
        rows.append(
            {
                "PSPNet": name,
                "picture": f"{size[1]} × {size[0]}",
                "peak, MB": round(megabytes),
                "of it the sum of probabilities, MB": round(one_sum) if name == "windows" else "",
                "the rest, MB": round(megabytes - one_sum) if name == "windows" else "",
            }
        )
    small, large = SIZES[0], SIZES[-1]
    per_pixel = (taken["windows", large] - taken["windows", small]) * MEGA / (_area(large) - _area(small))
    note = (
        f"ResNet-50, {CLASSES} classes, deployed, on the processor; windows of {WINDOW} × {WINDOW} without overlap, "
        "one at a time. The most that was resident in a process of its own while `predict` ran, less what was before, "
        f"which includes the network. In windows, a further pixel takes {per_pixel:.0f} bytes: {CLASSES * FLOAT} of "
        "the sum, 12 of the normalised picture, the rest when classes are chosen."
    )
    result.tables.append(Table("Memory of whole pictures and of sliding windows", rows, note))
    reached = round(per_pixel / (CLASSES * FLOAT), 2)
    result.goals.append(Goal("sliding windows: memory of a further pixel, in float32 sums", 1.3, reached, at_most=True))


def _area(size: tuple[int, int]) -> int:
    return size[0] * size[1]


def _peak(inference: Inference, size: tuple[int, int]) -> int:
    """Return how much memory the segmentation of one picture took, in bytes."""
    model = _pspnet(torch.device("cpu"))
    predict(model, _picture((64, 64)))  # libraries load themselves at their first use
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again
    image = _picture(size)
    before = resident()
    predict(model, image, inference)
    return peak_resident() - before


def _pspnet(device: torch.device) -> nn.Module:
    return deploy(build_model("pspnet", CLASSES, {"pretrained": False}).to(device))


def _picture(size: tuple[int, int]) -> torch.Tensor:
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8)


def _speed() -> Table:
    model, image = _pspnet(resolve_device()), _picture(TIMED_SIZE)
    ways = {"whole": Inference()}
    for overlap, share in OVERLAPS.items():
        for batch in TILE_BATCHES:
            ways[f"windows, overlap {overlap}, {batch} at once"] = Inference(
                protocol="sliding", crop_size=TIMED_WINDOW, overlap=share, tile_batch=batch
            )
    calls = {name: (lambda way=way: predict(model, image, way)) for name, way in ways.items()}
    timings = compare(calls, blocks=3, limit=30)
    rows = [
        {"PSPNet": name, "time": f"{timing.median / timings['whole'].median:.2f} ×"} for name, timing in timings.items()
    ]
    height, width = TIMED_SIZE
    note = (
        f"`predict` on a picture of {height} × {width}, times the whole picture in one pass; windows of "
        f"{TIMED_WINDOW} × {TIMED_WINDOW}: four without overlap, nine with a third. Deployed, medians of three blocks."
    )
    return Table("Time of sliding windows", rows, note)
