"""What a model costs: operations, bytes on disk and time per image; `nnti.models.cost` has the memory of a training step.

Peak memory of a training step: what CUDA allocates, or without it what all tensors alive at once add up to.

For the latter a step is taken with tensors that have sizes but no values (PyTorch's fake tensors): it takes about a
second for any size of image, and does not depend on the machine.
"""

import copy
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from nnti.device import autocast, resolve_device, resolve_precision
from nnti.loss import CrossEntropy
from nnti.models import trace

__all__ = [
    "ALLOCATED",
    "Operations",
    "TRACKED",
    "TrainingMemory",
    "checkpoint_bytes",
    "count_operations",
    "measure_training_memory",
    "sgd",
    "training_step",
    "weight_bytes",
]


Size = tuple[int, int]  # height, width in pixels
OptimizerOf = Callable[[nn.Module], torch.optim.Optimizer]

# operators that move or make values without calculating any; views need not be listed, PyTorch marks them
WITHOUT_ARITHMETIC = {
    "_to_copy", "cat", "clone", "constant_pad_nd", "copy", "empty", "empty_like", "empty_strided", "fill", "full",
    "index_select", "new_empty", "new_full", "new_zeros", "stack", "zero", "zeros", "zeros_like",
}  # fmt: skip


@dataclass(frozen=True)
class Operations:
    """Multiply-adds of one forward pass of one image in eval mode.

    Only convolutions and matrix products are counted, as they are in the literature. PyTorch's counter gives two
    operations for each of their multiply-adds, padding's zeros included; they are halved here.

    Attributes:
        size: (H, W) of the image. multiply_adds: in the whole network.
        per_block: name of a block of `model.blocks()` → multiply-adds in it; empty if the model has no `blocks`.
        uncounted: operator that calculates but is not counted → (calls, elements of all its outputs).
    """

    size: Size
    multiply_adds: int
    per_block: dict[str, int]
    uncounted: dict[str, tuple[int, int]]


def count_operations(model: nn.Module, size: Size) -> Operations:
    """Count the multiply-adds of one forward pass; nothing is computed and the model is left as it was."""
    blocks, spent = list(getattr(model, "blocks", list)()), {}
    counter, uncounted = FlopCounterMode(display=False), _Uncounted()
    hooks = []
    for block in blocks:
        spent[block.name] = 0
        for module in (*block.before, block.module):
            hooks += _counting_hooks(module, block.name, spent, counter)
    try:
        with counter, uncounted:
            trace(model, size, training=False, images=1)
    finally:
        for hook in hooks:
            hook.remove()
    per_block = {name: operations // 2 for name, operations in spent.items()}
    return Operations(tuple(size), counter.get_total_flops() // 2, per_block, uncounted.found)


def weight_bytes(model: nn.Module) -> int:
    """Return the size of the file that `torch.save(model.state_dict(), …)` writes, without writing it."""
    return _saved_bytes(model.state_dict())


def sgd(model: nn.Module) -> torch.optim.SGD:
    """Return SGD with the 2021 report's momentum, which keeps one further number per parameter."""
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)


def checkpoint_bytes(model: nn.Module, optimizer: OptimizerOf = sgd) -> int:
    """Return the size of a checkpoint to go on training from: weights and the optimiser's state after a step.

    The step is made on a copy, with gradients of zero.
    """
    model = copy.deepcopy(model)
    stepped = optimizer(model)
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    stepped.step()
    return _saved_bytes({"model": model.state_dict(), "optimizer": stepped.state_dict()})


class _Uncounted(TorchDispatchMode):
    """Notes the operators that calculate something and for which the counter has no formula."""

    def __init__(self):
        super().__init__()
        self.found: dict[str, tuple[int, int]] = {}

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        output = operator(*arguments, **(options or {}))
        packet = operator._overloadpacket
        name = operator._schema.name.removeprefix("aten::").removesuffix("_")  # relu_ is relu in place
        tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
        if tensors and packet not in flop_registry and not operator.is_view and name not in WITHOUT_ARITHMETIC:
            calls, elements = self.found.get(name, (0, 0))
            self.found[name] = (calls + 1, elements + tensors[0].numel())  # the first is the result, others are aids
        return output


class _ByteCounter:
    """A file that forgets what is written and remembers how much it was."""

    def __init__(self):
        self.bytes = 0

    def write(self, data) -> int:
        self.bytes += memoryview(data).nbytes
        return memoryview(data).nbytes

    def flush(self) -> None:
        """Nothing is kept back."""


def _saved_bytes(content: dict) -> int:
    file = _ByteCounter()
    torch.save(content, file)
    return file.bytes


def _counting_hooks(module: nn.Module, name: str, spent: dict[str, int], counter: FlopCounterMode) -> list:
    """Add to `spent[name]` what the counter gains while `module` runs."""

    def before(module, inputs) -> None:
        spent[name] -= counter.get_total_flops()

    def after(module, inputs, output) -> None:
        spent[name] += counter.get_total_flops()

    return [module.register_forward_pre_hook(before), module.register_forward_hook(after)]


TRACKED = "sizes of all tensors alive at once, added up without computing; no workspace, no allocator's rounding"
ALLOCATED = "torch.cuda.max_memory_allocated"


@dataclass(frozen=True)
class TrainingMemory:
    """Peak of a training step: weights, gradients, optimiser state, activations and the batch, in bytes."""

    peak: int
    method: str
    size: Size
    batch_size: int
    precision: str


def measure_training_memory(
    model: nn.Module,
    size: Size,
    batch_size: int,
    device: str = "auto",
    *,
    precision: str = "auto",
    optimizer: OptimizerOf = sgd,
) -> TrainingMemory:
    """Return the peak memory of a training step that is not the first: forward, loss, backward, update.

    On a CUDA device it is what PyTorch has allocated there. Elsewhere, and where that device is too small, all tensors
    are added up that would be alive at the same time; `method` says which.

    Args:
        model: is copied, and left as it was; its tensors may be on any device, "meta" too.
        size, batch_size: of the training crops, (H, W).
        device, precision: as the settings of an experiment; the device "meta" adds up, whatever the machine has.
        optimizer: makes the optimiser of a model.
    """
    device = resolve_device(device)
    dtype = resolve_precision(precision, device)
    peak, method = None, ALLOCATED
    if device.type == "cuda":
        peak = _allocated_peak(model, size, batch_size, device, dtype, optimizer)
    if peak is None:
        peak, method = _tracked_peak(model, size, batch_size, dtype, optimizer), TRACKED
    return TrainingMemory(peak, method, tuple(size), batch_size, str(dtype).removeprefix("torch."))


def training_step(
    model: nn.Module, size: Size, batch_size: int, device: torch.device, dtype: torch.dtype, optimizer: OptimizerOf
) -> Callable[[], None]:
    """Return a function that takes one training step on one batch of zeros, as the training loop does.

    Gradients and the optimiser's state are there already, as after an earlier step. The model itself is trained; it is
    to be on `device` and in training mode. The step does not wait for the device.
    """
    images = torch.zeros(batch_size, 3, *size, device=device)
    label = torch.zeros(batch_size, *size, dtype=torch.long, device=device)
    loss, updater = CrossEntropy(), optimizer(model)
    for parameter in filter(lambda parameter: parameter.requires_grad, model.parameters()):
        parameter.grad = torch.zeros_like(parameter)
    updater.step()

    def step() -> None:
        with autocast(device, dtype):
            outputs = model(images)
        updater.zero_grad(set_to_none=True)
        loss(outputs, label).objective.backward()
        updater.step()

    return step


class _AliveBytes(TorchDispatchMode):
    """Adds up the memory of all tensors, each piece of memory once, and keeps the peak."""

    def __init__(self):
        super().__init__()
        self.alive = self.peak = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        output = operator(*arguments, **(options or {}))
        for leaf in tree_leaves(output):
            if isinstance(leaf, Tensor):
                self.add(leaf)
        return output

    def add(self, tensor: Tensor) -> None:
        """Count a tensor's memory until nothing refers to it any more."""
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()  # the address: views of one tensor share it
        if key in self.known:
            return
        self.known.add(key)
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self.known.discard(key)
        self.alive -= size


def _tracked_peak(model: nn.Module, size: Size, batch_size: int, dtype: torch.dtype, optimizer: OptimizerOf) -> int:
    """Return the peak of a step of a copy whose tensors have sizes but no values."""
    fake, tracker = FakeTensorMode(), _AliveBytes()
    with fake:
        stand_ins = {id(tensor): _stand_in(tensor) for tensor in (*model.parameters(), *model.buffers())}
    model = copy.deepcopy(model, stand_ins).train()  # deepcopy takes what it is given for tensors "copied" already
    with fake, tracker:
        for tensor in (*model.parameters(), *model.buffers()):
            tracker.add(tensor)
        step = training_step(model, size, batch_size, torch.device("cpu"), dtype, optimizer)
        tracker.peak = tracker.alive
        step()
        return tracker.peak


def _stand_in(tensor: Tensor) -> Tensor:
    """Return a tensor or parameter of the same kind on the CPU, where the tracked step runs; without values."""
    empty = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device="cpu")
    return nn.Parameter(empty, tensor.requires_grad) if isinstance(tensor, nn.Parameter) else empty


def _allocated_peak(
    model: nn.Module, size: Size, batch_size: int, device: torch.device, dtype: torch.dtype, optimizer: OptimizerOf
) -> int | None:
    """Return the peak of a step as CUDA's allocator saw it; None where the device is too small for it."""
    before = torch.cuda.memory_allocated(device)
    try:
        model = copy.deepcopy(model).to(device).train()
        step = training_step(model, size, batch_size, device, dtype, optimizer)
        torch.cuda.reset_peak_memory_stats(device)
        step()
        return torch.cuda.max_memory_allocated(device) - before
    except torch.OutOfMemoryError:
        return None
