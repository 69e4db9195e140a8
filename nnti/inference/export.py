"""Trained networks as ONNX files, which run without this project.

A file takes `image`, RGB, uint8 (B, 3, H, W), any batch and any size from 1 × 1 pixel, normalises it itself, and gives
`logits`, float32 (B, C, H, W): a pixel's class is the largest of its C. What the network is travels inside, each as
JSON: `class_names`, `palette` (RGB of each class), `experiment`, `epoch`, `scores`. To read it:

    json.loads(onnxruntime.InferenceSession("x.onnx").get_modelmeta().custom_metadata_map["class_names"])
"""

import importlib.util
import json
import logging
import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnti.augment import normalize
from nnti.errors import RunError
from nnti.folders import make_folder, plain, write_whole
from nnti.inference.deploy import fold_batch_norms
from nnti.models.saved import load_model

TRACED = (2, 65, 97)  # images, height, width of the example; all sizes that are checked are others
CHECKED = ((1, 33, 47), (2, 64, 80), (1, 99, 40), (1, 1, 2))
DRAWS = 3  # pictures of a size, see `verify`
TOLERANCE = 1e-4  # of the largest logit
DESCRIPTION = ("class_names", "palette", "experiment", "epoch", "scores")
WITHOUT_RUNTIME = "onnxruntime, which runs ONNX files, is not installed: pip install onnxruntime"
Network = Callable[[Tensor], Tensor]  # images, uint8 (B, 3, H, W) → logits, float32 (B, C, H, W)


@dataclass(frozen=True)
class Difference:
    """Largest difference of exported logits from the model's own, and the largest logit."""

    largest: float
    logit: float

    def __str__(self) -> str:
        """Return one line of text."""
        sizes = ", ".join(" × ".join(map(str, size)) for size in CHECKED)
        differ = f"largest difference from PyTorch {self.largest:.1e}, of logits up to {self.logit:.1f}"
        return f"{differ}; images (B × H × W): {sizes}"


def export_run(run: str | Path, output: str | Path = "exports") -> tuple[Path, Difference | None]:
    """Export the best checkpoint of a run folder to OUTPUT/<run>.onnx, then compare the file with the network.

    Returns the path, and None for the difference where onnxruntime is not installed. Raises RunError where the network
    cannot be exported, a package is missing, or the file gives other logits, in which case it is removed.
    """
    make_folder(Path(output))
    model, checkpoint = load_model(run)
    content = onnx_bytes(model, {key: checkpoint[key] for key in DESCRIPTION})
    path = Path(output) / f"{Path(run).resolve().name}.onnx"
    write_whole(path, content)
    if not has_onnxruntime():
        return path, None
    try:
        return path, verify(model, onnx_network(str(path)))
    except Exception as error:  # the runtime has kinds of its own
        path.unlink()
        raise RunError(f"{path} was removed, its results differ from the network's: {_reason(error)}") from error


def onnx_bytes(model: nn.Module, description: dict[str, Any] | None = None) -> bytes:
    """Return a model as the content of an ONNX file, weights included; the model is left as it was.

    Each value of `description` becomes JSON among the file's metadata; NaN becomes null.
    Raises RunError if a package is missing, or with the exporter's reason if the network cannot be exported.
    """
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise RunError(
            f"writing ONNX needs {error.name}: pip install onnx onnxscript onnxruntime (the last one runs and checks "
            "the file)"
        ) from error
    image = torch.zeros(TRACED[0], 3, *TRACED[1:], dtype=torch.uint8, device=next(model.parameters()).device)
    axes = {0: "batch", 2: "height", 3: "width"}
    logging.getLogger("onnx_ir").setLevel(logging.ERROR)  # its warnings are about the exporter's own attributes
    try:
        with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings(action="ignore"):
            program = torch.onnx.export(
                _WithNormalization(model).eval(),
                (image,),
                input_names=["image"],
                output_names=["logits"],
                dynamic_shapes={"image": axes},
                dynamo=True,
                verbose=False,
            )
    except Exception as error:  # many kinds, depending on the network
        raise RunError(
            f"{type(model).__name__} cannot be exported for images of any size: {_reason(error)}. Modules in the way "
            "need a stand-in in nnti/inference/export.py"
        ) from error
    proto = program.model_proto
    graph = proto.graph
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")  # the exporter's notes for itself, with paths of this machine
    for axis, name in axes.items():  # the exporter writes them as terms of the input's
        graph.output[0].type.tensor_type.shape.dim[axis].dim_param = name
    for key, value in (description or {}).items():
        proto.metadata_props.add(key=key, value=json.dumps(plain(value), ensure_ascii=False))
    return proto.SerializeToString()


def onnx_network(content: bytes | str) -> Network:
    """Return a function that runs an ONNX file, or the content of one, on the CPU, on as many threads as PyTorch."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"image": images.numpy(force=True)})[0])


def has_onnxruntime() -> bool:
    """Return whether onnxruntime is installed."""
    return importlib.util.find_spec("onnxruntime") is not None


def verify(model: nn.Module, exported: Network) -> Difference:
    """Compare an exported network with its model, in float32, on images of several sizes; odd ones too.

    Max-pooling takes the larger of two values even where they differ in the last digit alone, and unpooling puts it
    where it was: there, both networks may be right and still differ. A fault shows in every picture, so of each size
    the best of up to three counts.

    Raises RunError where logits differ by more than `TOLERANCE` of the largest.
    """
    found = [_difference(model, exported, size) for size in CHECKED]
    difference = Difference(*(max(values) for values in zip(*found, strict=True)))
    if not all(off <= TOLERANCE * most for off, most in found):
        raise RunError(f"{difference}; allowed are {TOLERANCE:g} of the largest logit")
    return difference


@torch.no_grad()
def _difference(model: nn.Module, exported: Network, size: tuple[int, int, int]) -> tuple[float, float]:
    """Return the largest difference and the largest logit of the picture, of `DRAWS`, in which they agree best."""
    images, *sides = size
    random, found = torch.Generator().manual_seed(0), []
    for _ in range(DRAWS):
        image = torch.randint(0, 256, (images, 3, *sides), dtype=torch.uint8, generator=random)
        expected, logits = model(normalize(image)), exported(image)
        if logits.shape != expected.shape:
            raise RunError(f"logits are {tuple(logits.shape)}, not {tuple(expected.shape)}")
        off = (logits - expected).abs().max().item()
        found.append((off if math.isfinite(off) else math.inf, expected.abs().max().item()))
        if off <= TOLERANCE * found[-1][1]:
            break
    return min(found)


class _WithNormalization(nn.Module):
    """What is exported: a model behind the normalisation, folded and free of fixed sizes."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.network = with_dynamic_sizes(fold_batch_norms(model))

    def forward(self, image: Tensor) -> Tensor:
        return self.network(normalize(image))


def with_dynamic_sizes(model: nn.Module) -> nn.Module:
    """Replace, in the model itself, every module that cannot be exported for images of any size; return the model.

    An exporter follows sizes as symbols, and what it decides by comparing two of them holds for its example only. The
    stand-ins compare no sizes: where PyTorch's module rounds up, or grows to a given size, they always make a little
    more than is needed and cut the rest off. Weights and values are the same.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if type(child) is nn.MaxPool2d and child.return_indices:
                setattr(parent, name, _MaxPoolWithIndices())
            elif type(child) is nn.MaxUnpool2d:
                setattr(parent, name, _MaxUnpool())
            elif type(child) is nn.ConvTranspose2d and child.stride != (1, 1):
                setattr(parent, name, _GrowingConvTranspose(child))
            elif type(child) is nn.AdaptiveAvgPool2d:
                setattr(parent, name, CellAverage(child.output_size))
    return model


class _MaxPoolWithIndices(nn.Module):
    """Max-pooling of 2 × 2 cells that rounds up: (B, C, H, W) → (B, C, ⌈H/2⌉, ⌈W/2⌉) and indices of the same shape.

    The indices number the pixels of a map of (H + 1, W + 1), as `_MaxUnpool` expects.
    """

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return F.max_pool2d(F.pad(x, (0, 1, 0, 1), value=float("-inf")), 2, return_indices=True)


class _MaxUnpool(nn.Module):
    """Max-unpooling of 2 × 2 cells, with the indices of `_MaxPoolWithIndices`: (B, C, h, w) → (B, C, *output_size)."""

    def forward(self, x: Tensor, indices: Tensor, output_size: tuple[int, int]) -> Tensor:
        height, width = output_size
        return F.max_unpool2d(x, indices, 2, output_size=(height + 1, width + 1))[..., :height, :width]


class _GrowingConvTranspose(nn.Module):
    """A transposed convolution that is told its output's size: (B, in, h, w) → (B, out, *output_size)."""

    def __init__(self, conv: nn.ConvTranspose2d):
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, output_size: tuple[int, int]) -> Tensor:
        height, width = output_size
        return self.conv(F.pad(x, (0, 1, 0, 1)))[..., :height, :width]  # a zero adds nothing to what is kept


class CellAverage(nn.Module):
    """Average a map (B, C, H, W) over a grid of cells: (B, C, *size), as `nn.AdaptiveAvgPool2d`.

    Cell i of n covers the pixels from ⌊i · H / n⌋ up to, not including, ⌈(i + 1) · H / n⌉. With a row of weights for
    each cell, the means are two matrix products: (rows, H) · (B, C, H, W) · (W, columns).
    """

    def __init__(self, size: int | tuple[int, int]):
        super().__init__()
        self.rows, self.columns = (size, size) if isinstance(size, int) else size

    def forward(self, x: Tensor) -> Tensor:
        return _cell_weights(x, x.shape[-2], self.rows) @ x @ _cell_weights(x, x.shape[-1], self.columns).T


def _cell_weights(x: Tensor, length: int, cells: int) -> Tensor:
    """Return what each pixel of a side adds to each cell's mean: (cells, length), rows add up to 1."""
    cell = torch.arange(cells, device=x.device)[:, None]
    pixel = torch.arange(length, device=x.device)
    inside = ((pixel + 1) * cells > cell * length) & (pixel * cells < (cell + 1) * length)
    return inside.to(x.dtype) / inside.sum(1, keepdim=True)


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
