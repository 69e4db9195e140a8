"""What a model costs: operations, bytes on disk and time per image; `nnti.memory` has the memory of a training step."""

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode, flop_registry

from nnti.augment import normalize
from nnti.deploy import deploy
from nnti.device import autocast, device_name, resolve_device, resolve_precision
from nnti.export import FORMATS, exported_program, has_onnxruntime, onnx_bytes, onnx_network
from nnti.models import trace
from nnti.storage import RunError
from nnti.timing import compare

__all__ = [
    "FORMS",
    "Latency",
    "Operations",
    "checkpoint_bytes",
    "count_operations",
    "measure_latency",
    "sgd",
    "weight_bytes",
]

Size = tuple[int, int]  # height, width in pixels
OptimizerOf = Callable[[nn.Module], torch.optim.Optimizer]

# operators that move or make values without calculating any; views need not be listed, PyTorch marks them
WITHOUT_ARITHMETIC = {
    "_to_copy", "cat", "clone", "constant_pad_nd", "copy", "empty", "empty_like", "empty_strided", "fill", "full",
    "index_select", "new_empty", "new_full", "new_zeros", "stack", "zero", "zeros", "zeros_like",
}  # fmt: skip
FORMS = ("eager", "deployed", "torch.export", "ONNX Runtime")  # of a network, see `measure_latency`


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


@dataclass(frozen=True)
class Latency:
    """Seconds for one image: `median`, and the quartiles `low` and `high` of `repeats` measurements."""

    median: float
    low: float
    high: float
    repeats: int
    size: Size
    device: str
    precision: str

    @property
    def frames_per_second(self) -> float:
        """Images per second, one after the other."""
        return 1 / self.median


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


def measure_latency(
    model: nn.Module,
    size: Size,
    device: str = "auto",
    *,
    precision: str = "auto",
    channels_last: bool = True,
    repeats: int = 30,
    limit: float = 120.0,
) -> dict[str, Latency]:
    """Time the inference of one image at a time, in every form of the network that can be had here, taking turns.

    The forms, in the order of `FORMS`: the network itself, called eagerly, and `nnti.deploy.deploy`, both from a
    normalised image on the device to its logits; and what `nnti.export` makes of it, in float32, from a uint8 image. A
    form that cannot be had is left out: ONNX Runtime where it is not installed, and for other devices than a CPU; both
    exports for images smaller than a program takes.

    Args:
        model: is copied, and left as it was.
        size: (H, W) of the image.
        device, precision, channels_last: as the settings of an experiment; of the first two forms.
        repeats: rounds, each of one forward pass of every form.
        limit: seconds after which no further round begins; three are made in any case.
    """
    device = resolve_device(device)
    dtype = resolve_precision(precision, device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    model = copy.deepcopy(model).to(device, memory_format=layout).eval()
    image = torch.randint(0, 256, (1, 3, *size), dtype=torch.uint8, device=device)
    normalized = normalize(image).contiguous(memory_format=layout)
    named = str(dtype).removeprefix("torch.")
    deployed = deploy(model, named)

    def eager(images: Tensor) -> Tensor:
        with autocast(device, dtype):
            return model(images)

    forms = {"eager": (eager, normalized, named), "deployed": (deployed, normalized, named)}
    forms |= {name: (network, image, "float32") for name, network in _exported(model, size, device).items()}
    with torch.inference_mode():
        timings = compare(
            {name: _waiting(network, given, device) for name, (network, given, _) in forms.items()},
            blocks=repeats,
            block_seconds=0,
            limit=limit,
        )
    where = device_name(device)
    return {
        name: Latency(timing.median, timing.low, timing.high, timing.blocks, tuple(size), where, forms[name][2])
        for name, timing in timings.items()
    }


def _exported(model: nn.Module, size: Size, device: torch.device) -> dict[str, Callable[[Tensor], Tensor]]:
    """Return the exported forms that can be had for an image of this size."""
    if min(size) < FORMATS["torch"].smallest_side:
        return {}
    try:
        program = exported_program(model)
        forms = {"torch.export": program.module()}
        if device.type == "cpu" and has_onnxruntime():
            forms["ONNX Runtime"] = onnx_network(onnx_bytes(program))
    except RunError as error:
        warnings.warn(f"exported forms are not timed: {error}", stacklevel=2)
        return {}
    return forms


def _waiting(network: Callable[[Tensor], Tensor], image: Tensor, device: torch.device) -> Callable[[], None]:
    """Return a call that ends when the device has finished."""

    def call() -> None:
        network(image)
        if device.type != "cpu":
            torch.accelerator.synchronize(device)

    return call


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
