"""The cost of a network: multiply-adds, bytes on disk, memory of a training step. No data is needed."""

import copy
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nnti.data import DATASETS
from nnti.device import autocast, resolve_device, resolve_precision
from nnti.experiment import Experiment
from nnti.loss import CrossEntropy
from nnti.models import build_model
from nnti.models.blocks import trace

Size = tuple[int, int]  # height, width in pixels
OptimizerOf = Callable[[nn.Module], torch.optim.Optimizer]

ALLOCATED = "torch.cuda.max_memory_allocated"
COUNTED = (
    "added up on tensors without values, with the batch and what autograd keeps for the backward pass, without "
    "gradients of activations, half-precision copies of weights and the workspace of kernels"
)


@dataclass(frozen=True)
class Operations:
    """Multiply-adds of one forward pass of one image in eval mode.

    As in the literature, only convolutions and matrix products count. PyTorch counts two operations for each of their
    multiply-adds, including those with zeros of the padding; they are halved here.

    Attributes:
        multiply_adds: in the whole network.
        per_block: name of a block of `model.blocks()` → multiply-adds in it; empty if the model has no `blocks`.
    """

    multiply_adds: int
    per_block: dict[str, int]


@dataclass(frozen=True)
class TrainingMemory:
    """Memory of a training step in bytes, how it was measured (`ALLOCATED` or `COUNTED`), and the precision used."""

    peak: int
    method: str
    precision: str


def without_values(experiment: Experiment) -> nn.Module:
    """Build an experiment's network on the meta device: its shapes, for counting and drawing; needs no data."""
    classes = len(DATASETS[experiment.dataset].class_names)
    with torch.device("meta"):
        return build_model(experiment.model, classes, experiment.model_arguments, pretrained=False)


def count_operations(model: nn.Module, size: Size) -> Operations:
    """Count the multiply-adds of one forward pass; nothing is computed and the model is left as it was."""
    with FlopCounterMode(display=False) as counter:
        trace(model, size, training=False, images=1)
    root = type(model).__name__  # the counter's names are those of `named_modules`, below the class of the whole
    counted = {name: sum(operations.values()) // 2 for name, operations in counter.get_flop_counts().items()}
    names = {module: f"{root}.{name}" for name, module in model.named_modules()}
    per_block = {
        block.name: sum(counted.get(names[module], 0) for module in (*block.before, block.module))
        for block in getattr(model, "blocks", list)()
    }
    return Operations(counter.get_total_flops() // 2, per_block)


def weight_bytes(model: nn.Module) -> int:
    """Return the size of the file that `torch.save(model.state_dict(), …)` writes, without writing it."""
    return _saved_bytes(model.state_dict())


def sgd(model: nn.Module) -> torch.optim.SGD:
    """Return SGD with the 2021 report's momentum, which keeps one more number per parameter."""
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def checkpoint_bytes(model: nn.Module, optimizer: OptimizerOf = sgd) -> int:
    """Return the size of a file of the weights and the optimiser's state after a step; the model is left as it was."""
    model = copy.deepcopy(model)
    stepped = _stepped(model, optimizer)
    return _saved_bytes({"model": model.state_dict(), "optimizer": stepped.state_dict()})


def measure_training_memory(
    model: nn.Module,
    size: Size,
    batch_size: int,
    device: str = "auto",
    precision: str = "auto",
    optimizer: OptimizerOf = sgd,
) -> TrainingMemory:
    """Return the memory of a training step that is not the first: forward, loss, backward, update.

    On a CUDA device it is the peak of PyTorch's allocations. Elsewhere, or if the device is too small, it is counted on
    tensors without values; `method` says which. The model is left as it was.

    `size` (H, W) is that of the training crops; device and precision are as the settings of an experiment.
    """
    device = resolve_device(device)
    dtype = resolve_precision(precision, device)
    peak, method = None, ALLOCATED
    if device.type == "cuda":
        peak = _allocated_peak(model, size, batch_size, device, dtype, optimizer)
    if peak is None:
        peak, method = _counted_memory(model, size, batch_size, dtype, optimizer), COUNTED
    return TrainingMemory(peak, method, str(dtype).removeprefix("torch."))


def training_step(
    model: nn.Module, size: Size, batch_size: int, device: torch.device, dtype: torch.dtype, optimizer: OptimizerOf
) -> Callable[[], None]:
    """Return a function that takes one training step on one batch of zeros, as the training loop does.

    Gradients and optimiser state already exist, as after an earlier step. The model itself is trained; it must be on
    `device` and in training mode. The step does not wait for the device.
    """
    images = torch.zeros(batch_size, 3, *size, device=device)
    label = torch.zeros(batch_size, *size, dtype=torch.long, device=device)
    loss, updater = CrossEntropy(), _stepped(model, optimizer)

    def step() -> None:
        with autocast(device, dtype):
            outputs = model(images)
        updater.zero_grad(set_to_none=True)
        loss(outputs, label).objective.backward()
        updater.step()

    return step


def _stepped(model: nn.Module, optimizer: OptimizerOf) -> torch.optim.Optimizer:
    """Return an optimiser with its state, after a step with gradients of zero."""
    stepped = optimizer(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter) if parameter.requires_grad else None
    stepped.step()
    return stepped


def _allocated_peak(
    model: nn.Module, size: Size, batch_size: int, device: torch.device, dtype: torch.dtype, optimizer: OptimizerOf
) -> int | None:
    """Return the peak of a step as CUDA's allocator saw it; None if the device is too small."""
    before = torch.cuda.memory_allocated(device)
    try:
        model = copy.deepcopy(model).to(device).train()
        step = training_step(model, size, batch_size, device, dtype, optimizer)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    except torch.OutOfMemoryError:
        return None


def _counted_memory(model: nn.Module, size: Size, batch_size: int, dtype: torch.dtype, optimizer: OptimizerOf) -> int:
    """Add up the tensors of a training step on the meta device; in half precision, activations have `dtype`."""
    model = copy.deepcopy(model).to("meta").train()
    states = _stepped(model, optimizer).state.values()
    state = [value for values in states for value in values.values() if isinstance(value, Tensor)]
    gradients = [parameter.grad for parameter in model.parameters() if parameter.requires_grad]
    weights = [*model.parameters(), *model.buffers()]
    images = torch.empty(batch_size, 3, *size, device="meta")
    label = torch.empty(batch_size, *size, dtype=torch.long, device="meta")
    held = [*weights, *gradients, *state, images, label]
    total = sum(tensor.nbytes for tensor in held)

    network, loss = model.to(dtype), CrossEntropy()
    objective, kept = _kept_for_backward(lambda: loss(network(images.to(dtype)), label).objective, held)
    again: list[tuple[nn.Module, tuple]] = []  # rerun by activation checkpointing in the backward pass
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: again.append((module, inputs)))
        for module in network.modules()
    ]
    objective.backward()
    for hook in hooks:
        hook.remove()
    recomputed = [_kept_for_backward(partial(module, *inputs), [*held, *inputs])[1] for module, inputs in again]
    return total + kept + max(recomputed, default=0)


def _kept_for_backward(function: Callable, held: Iterable[Tensor]) -> tuple:
    """Return a function's result and the bytes that autograd saves for its backward pass, except tensors in `held`.

    Tensors that share their memory count once.
    """
    own = {id(tensor.untyped_storage()) for tensor in held}
    found = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        found[id(storage)] = storage  # keeps it alive: no other one can get its id
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        result = function()
    return result, sum(storage.nbytes() for key, storage in found.items() if key not in own)


def _saved_bytes(content: dict) -> int:
    file = io.BytesIO()
    torch.save(content, file)
    return file.tell()
