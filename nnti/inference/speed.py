"""Time variants of one thing against each other in one run.

A shared machine varies in speed, so only what ran in the same minutes can be compared. Variants therefore take turns in
short blocks, and every figure that is quoted is a ratio of medians within one run.
"""

import copy
import statistics
import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nnti.augment import normalize
from nnti.device import autocast, resolve_device, resolve_precision
from nnti.errors import RunError
from nnti.inference.deploy import deploy
from nnti.inference.export import has_onnxruntime, onnx_bytes, onnx_network
from nnti.models.cost import Size


@dataclass(frozen=True)
class Timing:
    """Seconds per call of one variant: `median` and quartiles `low` and `high` over `blocks` alternating blocks."""

    median: float
    low: float
    high: float
    blocks: int

    @property
    def per_second(self) -> float:
        """Calls per second."""
        return 1 / self.median


def compare(
    variants: Mapping[str, Callable[[], object]], *, blocks: int = 7, block_seconds: float = 0.3, limit: float = 60.0
) -> dict[str, Timing]:
    """Call each variant in turn, `blocks` times round, as often in each block as fits into `block_seconds`.

    Args:
        variants: name → function without arguments; it must have finished its work when it returns.
        blocks: rounds; each gives one number per variant, the mean of that block.
        block_seconds: length of a block; a call that takes longer is a block of its own.
        limit: seconds after which no further round begins; at least three rounds are made.
    """
    calls = {}
    for name, function in variants.items():
        seconds = _seconds(function, 1)
        calls[name] = max(1, min(10_000, round(block_seconds / max(seconds, 1e-7))))
    measured: dict[str, list[float]] = {name: [] for name in variants}
    started = time.perf_counter()
    for done in range(blocks):
        if done >= 3 and time.perf_counter() - started > limit:
            break
        for name, function in variants.items():
            measured[name].append(_seconds(function, calls[name]) / calls[name])
    quartiles = {name: statistics.quantiles(seconds, method="inclusive") for name, seconds in measured.items()}
    return {name: Timing(median, low, high, len(measured[name])) for name, (low, median, high) in quartiles.items()}


def _seconds(function: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        function()
    return time.perf_counter() - started


def measure_latency(
    model: nn.Module,
    size: Size,
    device: str = "auto",
    *,
    precision: str = "auto",
    channels_last: bool = True,
    onnx: bool = True,
) -> dict[str, Timing]:
    """Time the inference of one image at a time, in every form of the network that is available here, taking turns.

    The forms: "eager", the network itself, and "deployed" (`nnti.inference.deploy`), from a normalised image on the
    device to its logits; and, on CPUs with onnxruntime, "ONNX Runtime", in float32 and from a uint8 image.

    `size` is (H, W) of the image; device, precision and channels_last are those of the first two forms, as the settings
    of an experiment. `onnx=False` leaves out the last form, whose export takes longest. The model is left as it was.
    """
    device = resolve_device(device)
    dtype = resolve_precision(precision, device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = copy.deepcopy(model).to(device, memory_format=layout).eval()
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, device=device)
    normalized = normalize(image).contiguous(memory_format=layout)
    deployed = deploy(model, str(dtype).removeprefix("torch."))

    def eager(images: Tensor) -> Tensor:
        with autocast(device, dtype):
            return model(images)

    forms = {"eager": (eager, normalized), "deployed": (deployed, normalized)}
    if onnx and device.type == "cpu" and has_onnxruntime():
        try:
            forms["ONNX Runtime"] = (onnx_network(onnx_bytes(model)), image)
        except RunError as error:
            warnings.warn(f"ONNX Runtime is not timed: {error}", stacklevel=2)
    calls = {name: _waiting(network, given, device) for name, (network, given) in forms.items()}
    with torch.inference_mode():
        return compare(calls, blocks=30, block_seconds=0, limit=120)


def _waiting(network: Callable[[Tensor], Tensor], image: Tensor, device: torch.device) -> Callable[[], None]:
    """Return a call that ends when the device has finished."""

    def call() -> None:
        network(image)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    return call
