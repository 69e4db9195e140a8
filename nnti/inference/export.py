"""Modules that stand in for others where a network is exported for images of any size: same weights, same values.

An exporter follows sizes as symbols. It has to decide every comparison of two of them, and what it has decided holds
for the sizes of one example only. These modules therefore compare no sizes: where one of PyTorch's rounds up, or grows
to a given size, they always make a little more than is needed and cut the rest off.

Trained networks as files that run without this project: ONNX, and `torch.export` programs.

Either takes `image`, RGB, uint8 (B, 3, H, W), any batch and size, normalises it itself, and gives `logits`, float32
(B, C, H, W): a pixel's class is the largest of its C. Both compute in float32, with the batch normalisations folded
into the convolutions (see `nnti.inference.deploy`). An ONNX file takes images from 1 × 1 pixel, a program from 32 × 32: it
refuses smaller ones. PyTorch promises to read programs of its own version only.

What a network is travels inside, each as JSON: `class_names`, `palette` (RGB of each class), `experiment`, `epoch`,
`scores`, `smallest_side`. `read_metadata` reads it; without this project:

    json.loads(onnxruntime.InferenceSession("x.onnx").get_modelmeta().custom_metadata_map["class_names"])
    torch.export.load("x.pt2", extra_files=(extra := {"metadata.json": ""})); json.loads(extra["metadata.json"])
"""

import json
import logging
import math
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from nnti.augment import normalize
from nnti.errors import RunError, SettingError
from nnti.folders import write_whole
from nnti.inference.deploy import deploy
from nnti.models.saved import load_model
from nnti.training.run_folder import RunFolder

__all__ = [
    "Difference",
    "FORMATS",
    "average_cells",
    "export_run",
    "exported_program",
    "load_exported",
    "onnx_bytes",
    "onnx_network",
    "read_metadata",
    "verify",
    "with_dynamic_sizes",
    "write_exported",
]


def with_dynamic_sizes(model: nn.Module) -> nn.Module:
    """Replace, in the model itself, every module that cannot be exported for sizes that are not known; return it."""
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            for kind, (fits, stand_in) in STAND_INS.items():
                if type(child) is kind and fits(child):
                    setattr(parent, name, stand_in(child).train(child.training))
    return model


def average_cells(x: Tensor, size: tuple[int | None, int | None]) -> Tensor:
    """Average a map (B, C, H, W) over a grid of cells: (B, C, *size), as `F.adaptive_avg_pool2d`; None keeps a side.

    Cell i of n covers the pixels from ⌊i · H / n⌋ up to, not including, ⌈(i + 1) · H / n⌉. With a row of weights for
    each cell, the means are two matrix products: (rows, H) · (B, C, H, W) · (W, columns).
    """
    rows, columns = size
    if columns is not None:
        x = x @ _cell_weights(x, x.shape[-1], columns).T  # (B, C, H, columns)
    if rows is not None:
        x = _cell_weights(x, x.shape[-2], rows) @ x  # (B, C, rows, columns)
    return x


class RoundedUpMaxPool(nn.Module):
    """Max-pooling in cells of k × k that rounds up: (B, C, H, W) → (B, C, ⌈H/k⌉, ⌈W/k⌉), perhaps with indices.

    The indices number the pixels of a map of (H + k − 1, W + k − 1), as `MaxUnpool` expects.
    """

    def __init__(self, pool: nn.MaxPool2d):
        super().__init__()
        self.cell, self.return_indices = _side(pool.kernel_size), pool.return_indices

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return F.max_pool2d(_extend(x, self.cell - 1, float("-inf")), self.cell, return_indices=self.return_indices)


class MaxUnpool(nn.Module):
    """Max-unpooling with the indices of `RoundedUpMaxPool`: two maps (B, C, h, w) → (B, C, *output_size)."""

    def __init__(self, unpool: nn.MaxUnpool2d):
        super().__init__()
        self.cell = _side(unpool.kernel_size)

    def forward(self, x: Tensor, indices: Tensor, output_size: tuple[int, int]) -> Tensor:
        height, width = output_size
        more = self.cell - 1
        extended = F.max_unpool2d(x, indices, self.cell, output_size=(height + more, width + more))
        return extended[..., :height, :width]


class GrowingConvTranspose(nn.Module):
    """A transposed convolution that is told its output's size: (B, in, h, w) → (B, out, *output_size)."""

    def __init__(self, conv: nn.ConvTranspose2d):
        super().__init__()
        self.conv = conv

    def forward(self, x: Tensor, output_size: tuple[int, int] | None = None) -> Tensor:
        if output_size is None:
            return self.conv(x)
        height, width = output_size
        return self.conv(_extend(x, 1, 0.0))[..., :height, :width]  # a zero adds nothing to what is kept


class CellAverage(nn.Module):
    """`average_cells` as a module."""

    def __init__(self, pool: nn.AdaptiveAvgPool2d):
        super().__init__()
        size = pool.output_size
        self.size = tuple(size) if isinstance(size, tuple | list) else (size, size)

    def forward(self, x: Tensor) -> Tensor:
        return average_cells(x, self.size)


def _cell_weights(x: Tensor, length: int, cells: int) -> Tensor:
    """Return what each pixel of a side adds to each cell's mean: (cells, length), rows add up to 1."""
    cell = torch.arange(cells, device=x.device)[:, None]
    pixel = torch.arange(length, device=x.device)
    inside = ((pixel + 1) * cells > cell * length) & (pixel * cells < (cell + 1) * length)
    return inside.to(x.dtype) / inside.sum(1, keepdim=True)


def _extend(x: Tensor, pixels: int, value: float) -> Tensor:
    """Add pixels below and to the right."""
    return F.pad(x, (0, pixels, 0, pixels), value=value)


def _side(kernel_size: int | tuple[int, int]) -> int:
    return kernel_size if isinstance(kernel_size, int) else kernel_size[0]


def _in_cells(pool: nn.MaxPool2d | nn.MaxUnpool2d) -> bool:
    """Whether the windows are squares that touch each other."""
    kernel, stride, padding = ((side, side) if isinstance(side, int) else tuple(side)
                               for side in (pool.kernel_size, pool.stride, pool.padding))  # fmt: skip
    return kernel == stride and kernel[0] == kernel[1] and padding == (0, 0)


# type → (which of its modules need it, what takes their place)
STAND_INS = {
    nn.MaxPool2d: (lambda pool: pool.ceil_mode and _in_cells(pool) and pool.dilation == 1, RoundedUpMaxPool),
    nn.MaxUnpool2d: (_in_cells, MaxUnpool),
    nn.ConvTranspose2d: (lambda conv: conv.stride != (1, 1), GrowingConvTranspose),
    nn.AdaptiveAvgPool2d: (lambda pool: True, CellAverage),
}

SMALLEST_SIDE = 32  # pixels, of a program: it is traced for maps of at least two by two at every depth
TRACED = (2, 65, 97)  # images, height, width of the example; all sizes that are checked are others
CHECKED = ((1, 33, 47), (2, 64, 80), (1, 99, 40))
DRAWS = 3  # pictures of a size, see `verify`
TOLERANCE = 1e-4  # of the largest logit
METADATA = "metadata.json"  # a program's extra file
WITHOUT_RUNTIME = "onnxruntime, which runs ONNX files, is not installed: pip install onnxruntime"
Network = Callable[[Tensor], Tensor]  # images, uint8 (B, 3, H, W) → logits, float32 (B, C, H, W)


@dataclass(frozen=True)
class Difference:
    """How far exported logits are from the model's own: the largest difference, beside the largest logit."""

    largest: float
    logit: float
    sizes: tuple[tuple[int, int, int], ...]  # B, H, W

    def __str__(self) -> str:
        """Say it in one line."""
        sizes = ", ".join(" × ".join(map(str, size)) for size in self.sizes)
        differ = f"largest difference from PyTorch {self.largest:.1e}, of logits up to {self.logit:.1f}"
        return f"{differ}; images (B × H × W): {sizes}"


def export_run(run: RunFolder, format: str, output: str | Path = "exports") -> tuple[Path, Difference | None]:
    """Export a run's best checkpoint to OUTPUT/<run>.onnx or .pt2, then compare the file with the model.

    Returns the path, and None for the difference where onnxruntime is not installed. Raises RunError where the network
    cannot be exported, a package is missing, or the file gives other logits, in which case it is removed.
    """
    model, checkpoint = load_model(run.best)
    path = Path(output) / (run.path.resolve().name + _format(format).ending)
    write_exported(model, checkpoint, path, format)
    if format == "onnx" and not has_onnxruntime():
        return path, None
    try:
        return path, verify(model, load_exported(path), FORMATS[format].smallest_side)
    except Exception as error:  # every runtime has kinds of its own
        path.unlink()
        raise RunError(f"{path} was removed, it does not do what the network does: {_reason(error)}") from error


def write_exported(model: nn.Module, checkpoint: dict[str, Any], path: Path, format: str) -> None:
    """Write a model with its description to a file; its folder is made if need be.

    Args:
        model: is left as it was. checkpoint: as `nnti.models.saved.load_model` returns it beside the model.
        format: "onnx" or "torch".
    """
    kind = _format(format)
    if format == "onnx":
        check_onnx()
    metadata = {key: checkpoint[key] for key in ("class_names", "palette", "experiment", "epoch", "scores")}
    metadata = _without_nan({**metadata, "smallest_side": kind.smallest_side})
    content = kind.to_bytes(exported_program(model), metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, content)


def exported_program(model: nn.Module) -> ExportedProgram:
    """Return a copy of a model as a program, on the model's device: image, uint8 (B, 3, H, W) → logits (B, C, H, W).

    Raises RunError, with the exporter's reason, where it cannot be had.
    """
    device = next(model.parameters()).device
    image = torch.zeros(TRACED[0], 3, *TRACED[1:], dtype=torch.uint8, device=device)
    sides = {2: Dim("height", min=SMALLEST_SIDE), 3: Dim("width", min=SMALLEST_SIDE)}
    try:
        with torch.inference_mode(False), torch.no_grad(), _quiet():
            program = torch.export.export(
                _WithNormalization(model),
                (image,),
                dynamic_shapes={"image": {0: Dim("batch", min=1), **sides}},
                # not every equality of two maps' sizes can be proved for all images: the program checks them as it runs
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except Exception as error:  # many kinds, by what in the network is in the way
        raise RunError(
            f"{type(model).__name__} cannot be exported for images of any size from {SMALLEST_SIDE} × {SMALLEST_SIDE} "
            f"pixels: {_reason(error, lines=2)}. What stands in for a module in the way belongs into nnti/dynamic.py"
        ) from error
    for node in program.graph.nodes:
        node.meta.pop("stack_trace", None)  # paths of the machine that it was exported on
    return program


def onnx_bytes(program: ExportedProgram, metadata: dict[str, Any] | None = None) -> bytes:
    """Return a program as the content of an ONNX file, weights included; `metadata` becomes metadata_props of JSON."""
    check_onnx()
    names = {"input_names": ["image"], "output_names": ["logits"]}
    axes = {"image": {0: "batch", 2: "height", 3: "width"}}
    try:
        with _quiet():
            proto = torch.onnx.export(program, dynamo=True, verbose=False, dynamic_shapes=axes, **names).model_proto
    except Exception as error:
        raise RunError(f"this network cannot be written as ONNX: {_reason(error)}") from error
    graph = proto.graph
    for part in (*graph.node, *graph.value_info, *graph.input, *graph.output, *graph.initializer):
        part.ClearField("metadata_props")  # the exporter's notes for itself
    for key, value in (metadata or {}).items():
        proto.metadata_props.add(key=key, value=json.dumps(value, ensure_ascii=False))
    return proto.SerializeToString()


def onnx_network(content: bytes | str) -> Network:
    """Return a function that runs an ONNX file, or the content of one, on the CPU, on as many threads as PyTorch.

    Raises RunError where onnxruntime is missing.
    """
    if not has_onnxruntime():
        raise RunError(WITHOUT_RUNTIME)
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda images: torch.from_numpy(session.run(["logits"], {"image": images.numpy(force=True)})[0])


def load_exported(path: str | Path) -> Network:
    """Return a function that runs an exported file; its ending says of which format it is."""
    return _format_of(Path(path)).load(Path(path))


def read_metadata(path: str | Path) -> dict[str, Any]:
    """Return what an exported file says of itself: class_names, palette, experiment, epoch, scores, smallest_side."""
    path = Path(path)
    try:
        return _format_of(path).metadata(path)
    except (RunError, ImportError):
        raise
    except Exception as error:  # many kinds, by what the damage hits
        raise RunError(f"{path} cannot be read as an exported network: {_reason(error)}; export it again") from error


def verify(model: nn.Module, exported: Network, smallest_side: int = SMALLEST_SIDE) -> Difference:
    """Compare an exported network with its model, in float32, on images of several sizes; odd ones too.

    Max-pooling takes the larger of two values even where they differ in the last digit alone, and unpooling puts it
    where it was: there, both networks may be right and still differ. A fault shows in every picture, so of each size
    the best of up to three counts.

    Raises RunError where logits differ by more than `TOLERANCE` of the largest.
    """
    sizes = (*CHECKED, (1, smallest_side, smallest_side + 1))
    found = [_difference(model, exported, size) for size in sizes]
    largest, logit = (max(values) for values in zip(*found, strict=True))
    difference = Difference(largest, logit, sizes)
    if not all(off <= TOLERANCE * most for off, most in found):
        raise RunError(f"{difference}; allowed are {TOLERANCE:g} of the largest logit")
    return difference


def has_onnxruntime() -> bool:
    """Return whether ONNX files can be run here."""
    try:
        import onnxruntime  # noqa: F401
    except ImportError:
        return False
    return True


def check_onnx() -> None:
    """Raise RunError, with what to do, where ONNX files cannot be written here."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise RunError(
            f"writing ONNX needs {error.name}: pip install onnx onnxscript onnxruntime (the last one runs and checks "
            "the file); or take --format torch, which needs nothing more"
        ) from error


class _WithNormalization(nn.Module):
    """What is exported: a model behind the normalisation, deployed in float32 and free of fixed sizes."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.network = with_dynamic_sizes(deploy(model, "float32").model)

    def forward(self, image: Tensor) -> Tensor:
        return self.network(normalize(image).contiguous(memory_format=torch.channels_last))


@torch.no_grad()
def _difference(model: nn.Module, exported: Network, size: tuple[int, int, int]) -> tuple[float, float]:
    """Return the largest difference and the largest logit of the picture, of `DRAWS`, in which they agree best."""
    images, *sides = size
    random, found = torch.Generator().manual_seed(0), []
    for _ in range(DRAWS):
        image = torch.randint(0, 256, (images, 3, *sides), dtype=torch.uint8, generator=random)
        expected, logits = model(normalize(image)), exported(image)
        if logits.shape != expected.shape or logits.dtype != torch.float32:
            raise RunError(f"logits are {logits.dtype} {tuple(logits.shape)}, not float32 {tuple(expected.shape)}")
        off = (logits - expected).abs().max().item()
        found.append((off if math.isfinite(off) else math.inf, expected.abs().max().item()))
        if off <= TOLERANCE * found[-1][1]:
            break
    return min(found)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep exporters from printing and warning of what is no concern of who exports."""
    logger = logging.getLogger("onnx_ir")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        with redirect_stdout(StringIO()), warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(level)


def _program_bytes(program: ExportedProgram, metadata: dict[str, Any]) -> bytes:
    file = BytesIO()
    try:
        with _quiet():
            torch.export.save(program, file, extra_files={METADATA: json.dumps(metadata, ensure_ascii=False)})
    except Exception as error:
        raise RunError(f"this network cannot be written as a torch.export program: {_reason(error)}") from error
    return file.getvalue()


def _load_program(path: Path) -> Network:
    return torch.export.load(str(path)).module()


def _program_metadata(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:  # torch.export.load would build the whole network first
        name = next(name for name in archive.namelist() if name.endswith(f"/extra/{METADATA}"))
        return json.loads(archive.read(name))


def _onnx_metadata(path: Path) -> dict[str, Any]:
    check_onnx()
    import onnx

    return {entry.key: json.loads(entry.value) for entry in onnx.load(path).metadata_props}


@dataclass(frozen=True)
class _Format:
    """How a kind of file is called, which images it takes, and how it is written and read."""

    ending: str
    smallest_side: int
    to_bytes: Callable[[ExportedProgram, dict[str, Any]], bytes]
    load: Callable[[Path], Network]
    metadata: Callable[[Path], dict[str, Any]]


FORMATS = {
    "onnx": _Format(".onnx", 1, onnx_bytes, lambda path: onnx_network(str(path)), _onnx_metadata),
    "torch": _Format(".pt2", SMALLEST_SIDE, _program_bytes, _load_program, _program_metadata),
}


def _format(name: str) -> _Format:
    if name not in FORMATS:
        raise SettingError(f"format={name!r}: it must be one of {', '.join(FORMATS)}")
    return FORMATS[name]


def _format_of(path: Path) -> _Format:
    if not path.is_file():
        raise RunError(f"{path} does not exist; make it: python -m nnti export RUN --format {' or '.join(FORMATS)}")
    for format in FORMATS.values():
        if path.suffix == format.ending:
            return format
    endings = " or ".join(format.ending for format in FORMATS.values())
    raise RunError(f"{path} is no exported network: its name must end in {endings}")


def _without_nan(value: Any) -> Any:
    """Return a value as JSON has it: what is not known is null."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _reason(error: Exception, lines: int = 1) -> str:
    return " ".join(str(error).strip().splitlines()[:lines]) or type(error).__name__
