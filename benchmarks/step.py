"""The training step: what each choice of the training loop adds, beside the same network in plain float32 PyTorch.

"Plain" is the network, eager, in float32 and PyTorch's own memory layout, with nn.PReLU, the loss of the whole batch at
full size, argmax by max(1) and the default SGD. Each further row keeps what the rows above it have. A step is forward
pass, loss, confusion matrix, backward pass and update, on a batch that is on the device already; no data is read.

On a CUDA device the tables also say how busy it is: share of its bfloat16 peak, idle share, time of an epoch.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.profiles import busy_table, profile_table
from benchmarks.results import Goal, Result, Table
from nnti.device import autocast, compiled, resolve_device, resolve_precision
from nnti.experiment import Experiment
from nnti.inference.speed import Timing, compare
from nnti.loss import CrossEntropy, LossSum
from nnti.metrics import ConfusionMatrix
from nnti.models import Outputs, build_model, final_logits
from nnti.models.blocks import grow
from nnti.models.enet import PReLU
from nnti.training.optimizer import build_optimizer

PLAIN = "plain float32, eager"
COMPILED = "+ torch.compile"


@dataclass(frozen=True)
class Task:
    """One network and the batch that it is timed on: that of the report on CUDA, a smaller one on a CPU."""

    experiment: str
    classes: int
    goal: float  # times the plain step, on a CPU
    batch: int
    crop: int
    cpu_batch: int
    cpu_crop: int
    compile_on_cpu: bool = False
    arguments: dict[str, Any] = field(default_factory=dict)


TASKS = (
    Task("pspnet_cityscapes", 19, 2.0, 3, 512, 2, 256, arguments={"pretrained": False}),
    Task("r2unet_cityscapes", 19, 2.0, 3, 512, 2, 160),
    Task("enet_voc", 21, 2.3, 8, 380, 4, 380, compile_on_cpu=True),
)


@dataclass(frozen=True)
class Variant:
    """Which of the training loop's choices a step makes."""

    channels_last: bool = False
    dtype: torch.dtype = torch.float32
    loss_in_parts: bool = False
    own_prelu: bool = False
    fused: bool = False
    compiled: bool = False


def measure() -> Result:
    """Time the variants of all three networks' steps, and profile the last one of each."""
    result = Result("step", "Training step")
    device = resolve_device()
    with tempfile.TemporaryDirectory() as cache:  # so that the time to compile is that of a first run
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache
        for task in TASKS:
            _measure(result, task, device)
    return result


def _measure(result: Result, task: Task, device: torch.device) -> None:
    variants = _variants(task, device)
    steps = {name: _step(task, variant, device) for name, variant in variants.items()}
    compiling = {name: _seconds(steps[name]) for name in steps if name == COMPILED}
    timings = compare(steps, blocks=5, limit=25)
    result.tables.append(_table(task, device, timings, compiling))
    last = list(steps)[-1]
    profiled = profile_table(steps[last], f"{_title(task)}: where the time of the last row goes")
    result.tables.append(profiled)
    if device.type == "cuda":
        result.tables.append(busy_table(_title(task), steps[last], _size(task, device)[0]))
    result.goals.append(_goal(task, device, timings, profiled))


def _goal(task: Task, device: torch.device, timings: dict[str, Timing], profiled: Table) -> Goal:
    best = round(max(timings[PLAIN].median / timing.median for timing in timings.values()), 2)
    aim, first = task.goal if device.type == "cpu" else 2.0, profiled.rows[0]
    limit = f"{first['operator']}, PyTorch's own, takes {first['share, %']} % of the last row's time (profile)"
    return Goal(
        f"{_title(task)}: training step beside plain float32",
        aim,
        best,
        limit=limit if best < aim else "",
    )


def _variants(task: Task, device: torch.device) -> dict[str, Variant]:
    """Return the rows: each adds one thing to the one before."""
    dtype = resolve_precision("auto", device)
    now = Variant()
    variants = {PLAIN: now}
    steps: list[tuple[str, dict[str, Any]]] = [
        ("+ channels_last", {"channels_last": True}),
        (f"+ autocast {str(dtype).removeprefix('torch.')}", {"dtype": dtype}),
        ("+ loss and argmax of nnti", {"loss_in_parts": True}),
        ("+ PReLU of nnti", {"own_prelu": True}),
        ("+ fused SGD", {"fused": True}),
        (COMPILED, {"compiled": True}),
    ]
    for name, change in steps:
        if name == "+ PReLU of nnti" and (task.experiment != "enet_voc" or device.type != "cpu"):
            continue
        if name == COMPILED and device.type == "cpu" and not task.compile_on_cpu:
            continue
        now = replace(now, **change)
        variants[name] = now
    return variants


def _step(task: Task, variant: Variant, device: torch.device) -> Callable[[], None]:
    """Return a function that takes one training step and waits for its end."""
    torch.manual_seed(0)
    experiment = Experiment.load(task.experiment)
    model = build_model(experiment.model, task.classes, task.arguments).train()
    if not variant.own_prelu:
        _use_torchs_prelu(model)
    layout = torch.channels_last if variant.channels_last else torch.contiguous_format
    model = model.to(device, memory_format=layout)
    images, label = _batch(task, device)
    images, forward = images.contiguous(memory_format=layout), compiled(model) if variant.compiled else model
    loss, optimizer = CrossEntropy() if variant.loss_in_parts else _loss_of_batch, build_optimizer(experiment, model)
    optimizer = _updating(optimizer, variant.fused)
    scaler = torch.amp.GradScaler(device.type, enabled=variant.dtype == torch.float16)
    matrix = ConfusionMatrix(task.classes)

    def step() -> None:
        with autocast(device, variant.dtype):
            outputs = forward(images)
        found = loss(outputs, label)
        optimizer.zero_grad(set_to_none=True)
        scaler.scale(found.objective).backward()
        scaler.step(optimizer)
        scaler.update()
        matrix.update(found.prediction, label)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    return step


def _loss_of_batch(outputs: Tensor | Outputs, label: Tensor) -> LossSum:
    """Do what `CrossEntropy` does for the whole batch at once, in the layout that the network has."""
    logits = grow(final_logits(outputs).float(), label.shape[-2:])
    total, auxiliary = F.cross_entropy(logits, label, ignore_index=255, reduction="sum"), 0.0
    if isinstance(outputs, Outputs):
        second = grow(outputs.auxiliary.float(), label.shape[-2:])
        auxiliary = 0.4 * F.cross_entropy(second, label, ignore_index=255, reduction="sum")
    return LossSum(total, (label != 255).sum().float(), auxiliary, logits.detach().max(1).indices)


def _use_torchs_prelu(model: nn.Module) -> None:
    for module in model.modules():
        if isinstance(module, PReLU):
            module.__class__ = nn.PReLU


def _updating(optimizer: torch.optim.Optimizer, fused: bool) -> torch.optim.Optimizer:
    """Return the optimiser with fused updates, or as PyTorch makes it if nothing is said about that."""
    groups = [{k: v for k, v in group.items() if k not in ("fused", "foreach")} for group in optimizer.param_groups]
    return type(optimizer)(groups, lr=optimizer.defaults["lr"], fused=fused or None)


def _batch(task: Task, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return noise (B, 3, H, W) and labels (B, H, W) of large areas, a part of them void."""
    batch, crop = _size(task, device)
    images = torch.randn(batch, 3, crop, crop)
    label = torch.randint(0, task.classes, (batch, 8, 8)).repeat_interleave(crop // 8 + 1, 1)
    label = label.repeat_interleave(crop // 8 + 1, 2)[:, :crop, :crop].contiguous()
    label[:, : crop // 20] = 255
    return images.to(device), label.to(device)


def _size(task: Task, device: torch.device) -> tuple[int, int]:
    return (task.cpu_batch, task.cpu_crop) if device.type == "cpu" else (task.batch, task.crop)


def _title(task: Task) -> str:
    return {"pspnet_cityscapes": "PSPNet", "r2unet_cityscapes": "R2U-Net", "enet_voc": "ENet"}[task.experiment]


def _table(task: Task, device: torch.device, timings: dict[str, Timing], compiling: dict[str, float]) -> Table:
    batch, crop = _size(task, device)
    plain, rows = timings[PLAIN].median, []
    before = plain
    for name, timing in timings.items():
        rows.append(
            {
                "step": name,
                "× plain": f"{plain / timing.median:.2f}",
                "× the row above": f"{before / timing.median:.2f}",
                "quartiles, × plain": f"{plain / timing.high:.2f} … {plain / timing.low:.2f}",
                "images/s": f"{batch / timing.median:.2f}",
            }
        )
        before = timing.median
    note = f"Batch of {batch} crops of {crop} × {crop}, {task.classes} classes, untrained, random images."
    if task.experiment == "pspnet_cityscapes":
        note += " segmentation_models_pytorch's PSPNet ends its backbone at stride 8: another network, so no peer here."
    if compiling:
        note += f" The first step of the compiled network took {compiling[COMPILED]:.0f} s."
    return Table(f"{_title(task)}: training step", rows, note)


def _seconds(function: Callable[[], None]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started
