"""The metrics: from logits to counts, beside torchmetrics, and their share of a training step.

Both sides are given the same logits and labels and add them to a confusion matrix that grows over the split. Ours takes
the most likely class from float32 logits of one image after the other, which the loss has made anyway: the row "as in
training" is what the metrics add to a step.
"""

import time
from collections.abc import Callable
from importlib.metadata import version

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix, MulticlassJaccardIndex

from benchmarks.results import Goal, Result, Table
from nnti.device import autocast, resolve_device, resolve_precision
from nnti.inference.speed import Timing, compare
from nnti.loss import CrossEntropy
from nnti.metrics import ConfusionMatrix
from nnti.models import build_model
from nnti.models.blocks import full_size_parts, most_likely

CLASSES, SHAPE = 19, (3, 512, 512)
OURS, PEER, INDEX = "nnti", "torchmetrics, MulticlassConfusionMatrix", "torchmetrics, MulticlassJaccardIndex"


def measure() -> Result:
    """Time both on float32 and on channels_last bfloat16 logits, and one step of PSPNet beside them."""
    result, device = Result("metrics", "Metrics"), resolve_device()
    logits, label = _logits(device)
    halves = logits.bfloat16().contiguous(memory_format=torch.channels_last)
    timings = _compared(result, "float32", logits, label)
    _compared(result, "bfloat16, channels_last", halves, label)
    result.goals.append(
        Goal("Metrics from float32 logits, times torchmetrics", 6.0, _ratio(timings[PEER], timings[OURS]))
        if device.type == "cpu"
        else Goal("Metrics from float32 logits, times torchmetrics (the goal is for a CPU)", 6.0, None)
    )
    _share_of_step(result, device, logits, label)
    return result


def _compared(result: Result, what: str, logits: Tensor, label: Tensor) -> dict[str, Timing]:
    """Add a table of both sides, and of our steps alone."""
    matrix = ConfusionMatrix(CLASSES)
    prediction = logits.max(1).indices
    options = {"num_classes": CLASSES, "ignore_index": 255}
    confusion = MulticlassConfusionMatrix(**options).to(logits.device)
    index = MulticlassJaccardIndex(**options).to(logits.device)
    functions = {
        OURS: lambda: _count(matrix, logits, label),
        PEER: lambda: confusion.update(logits, label),
        INDEX: lambda: index.update(logits, label),
        "PyTorch, argmax(1) alone": lambda: logits.argmax(1),
        "PyTorch, max(1) alone": lambda: logits.max(1),
        "nnti, counting alone": lambda: matrix.update(prediction, label),
    }
    timings = compare({name: _waiting(function) for name, function in functions.items()}, blocks=5, limit=8)
    rows = [
        {"from logits to counts": name, "times as fast as torchmetrics": f"{_ratio(timings[PEER], timing):.2f}"}
        for name, timing in timings.items()
    ]
    shape = " × ".join(map(str, logits.shape))
    note = f"Logits {shape}, a twentieth of the pixels void. torchmetrics {version('torchmetrics')}."
    result.tables.append(Table(f"Metrics, {what} logits", rows, note))
    return timings


def _share_of_step(result: Result, device: torch.device, logits: Tensor, label: Tensor) -> None:
    """Add the metrics' share of a training step of PSPNet on a batch of the same size."""
    matrix, step = ConfusionMatrix(CLASSES), _pspnet_step(device, label)

    def as_in_training() -> None:
        matrix.update(most_likely(logits), label)

    seconds = {"step": _fastest(step, 1), "metrics": _fastest(_waiting(as_in_training), 10)}
    share = 100 * seconds["metrics"] / seconds["step"]
    row = {"part": "metrics, as in training", "share of PSPNet's training step, %": f"{share:.2f}"}
    dtype = str(resolve_precision("auto", device)).removeprefix("torch.")
    note = f"Batch of {' × '.join(map(str, SHAPE))}, {dtype}, channels_last; the shortest of a few calls of each."
    result.tables.append(Table("Metrics: share of a training step", [row], note))
    result.goals.append(Goal("Metrics' share of PSPNet's training step", 1.0, round(share, 2), unit="%", at_most=True))


def _pspnet_step(device: torch.device, label: Tensor) -> Callable[[], None]:
    torch.manual_seed(0)
    model = build_model("pspnet", CLASSES, pretrained=False).train()
    model = model.to(device, memory_format=torch.channels_last)
    images = torch.randn(SHAPE[0], 3, *SHAPE[1:], device=device).contiguous(memory_format=torch.channels_last)
    loss, dtype = CrossEntropy(), resolve_precision("auto", device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)

    def step() -> None:
        with autocast(device, dtype):
            outputs = model(images)
        optimizer.zero_grad(set_to_none=True)
        loss(outputs, label).objective.backward()
        optimizer.step()

    return _waiting(step)


def _count(matrix: ConfusionMatrix, logits: Tensor, label: Tensor) -> None:
    for part, truth in full_size_parts(logits, label):
        matrix.update(most_likely(part), truth)


def _logits(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return logits (B, C, H, W) whose prediction is right for about three pixels of four, and labels (B, H, W)."""
    torch.manual_seed(0)
    label = torch.randint(0, CLASSES, SHAPE)
    logits = torch.randn(SHAPE[0], CLASSES, *SHAPE[1:])
    logits.scatter_add_(1, label[:, None], torch.full((SHAPE[0], 1, *SHAPE[1:]), 2.5))
    label[:, : SHAPE[1] // 20] = 255
    return logits.to(device), label.to(device)


def _ratio(peer: Timing, ours: Timing) -> float:
    return round(peer.median / ours.median, 2)


def _waiting(function: Callable[[], object]) -> Callable[[], None]:
    """Return a function that has finished its work on the device when it returns."""

    def call() -> None:
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    return call


def _fastest(function: Callable[[], None], times: int) -> float:
    """Return the seconds of the shortest of some calls, after one that is not timed."""
    function()
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
