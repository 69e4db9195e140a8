"""Inference: one picture at a time through each form of ENet, and PSPNet in sliding windows.

"Plain" is the network, eager, in float32 and PyTorch's own memory layout, with nn.PReLU. What is timed goes from a
normalised picture, on the device, to its logits there. Whether a faster form sees the same is checked on ENet after a
minute of training on the miniature of Cityscapes, whose validation pictures are tiled to 512 × 1024.
"""

import copy
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.profiles import profile_table
from benchmarks.results import Goal, Result, Table
from benchmarks.windows import window_tables
from nnti.augment import normalize
from nnti.data import load_dataset
from nnti.device import compiled, resolve_device
from nnti.experiment import Experiment
from nnti.inference.deploy import deploy
from nnti.inference.export import onnx_network
from nnti.inference.speed import Timing, compare
from nnti.metrics import ConfusionMatrix
from nnti.models import build_model
from nnti.models.enet import PReLU
from nnti.models.saved import load_model
from nnti.training.loop import fit

__all__ = ["measure"]

PLAIN, CHANNELS_LAST = "plain float32, eager", "float32, channels last"
DEPLOYED, COMPILED = "deployed in bfloat16", "deployed in bfloat16, compiled"
USE = {
    CHANNELS_LAST: "`nnti.inference.image.predict`",
    DEPLOYED: "`nnti.inference.files.predict_files`",
    COMPILED: "`compile=True`",
}
GRID = (4, 4)  # pictures of 128 × 256 in one of 512 × 1024
PICTURES = 2
OTHERS = {  # title → name, arguments, size of the picture
    "PSPNet, 256 × 512": ("pspnet", {"pretrained": False}, (256, 512)),
    "R2U-Net, 128 × 256": ("r2unet", {}, (128, 256)),
}
Logits = Callable[[Tensor], Tensor]


@dataclass
class Form:
    """One form of a network: images (1, 3, H, W) → logits, and the seconds until its first result."""

    logits: Logits
    seconds: float | None = None


def measure() -> Result:
    """Train ENet, time its forms and compare what they see, then the other networks, then sliding windows."""
    result, device = Result("inference", "Inference"), resolve_device()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder  # so that the time to compile is that of a first run
        with torch.inference_mode(False):
            model = _trained(Path(folder), device)
        pictures, labels = _pictures(device)
        forms, failures = _forms(model, pictures[:1])
        timings = compare(_calls(forms, pictures[:1]), blocks=7, limit=60)
        result.tables.append(_table(forms, timings, pictures, labels, failures))
        result.tables += [_profile(forms[name], name, pictures[:1]) for name in (PLAIN, DEPLOYED)]
        result.goals.append(_goal(timings, result.tables[-1]))
        result.tables.append(_other_networks(device))
    window_tables(result)
    return result


def _trained(folder: Path, device: torch.device) -> nn.Module:
    """Train ENet on the miniature of Cityscapes for about a minute."""
    experiment = Experiment.load("enet_voc_miniature").replace(
        name="enet_inference",
        dataset="cityscapes_miniature",
        base_size=256,
        crop_size=(96, 192),
        val_size=128,
        epochs=12,
        val_every=12,
        cache="none",
        device=device.type,
    )
    for _ in fit(experiment, folder / "run", progress=False):
        pass
    return load_model(folder / "run", device)[0]


def _pictures(device: torch.device) -> tuple[Tensor, Tensor]:
    """Return validation pictures of the miniature, tiled: (B, 3, 512, 1024), normalised, and labels (B, 512, 1024)."""
    dataset, (rows, columns) = load_dataset("cityscapes_miniature", "val"), GRID
    samples = [dataset[at] for at in range(PICTURES * rows * columns)]

    def together(parts: list[Tensor]) -> Tensor:
        lines = [torch.cat(parts[at : at + columns], -1) for at in range(0, len(parts), columns)]
        return torch.stack([torch.cat(lines[at : at + rows], -2) for at in range(0, len(lines), rows)])

    images, labels = (together([sample[part] for sample in samples]) for part in (0, 1))
    return normalize(images.to(device)), labels


def _forms(model: nn.Module, image: Tensor) -> tuple[dict[str, Form], list[str]]:
    """Return every form that this machine can make, and a sentence about each that it cannot."""
    channels_last = _channels_last(model)
    forms = {
        PLAIN: Form(_plain(model)),
        CHANNELS_LAST: Form(channels_last),
        "bfloat16 by autocast, channels last": Form(_autocast(channels_last, image.device)),
        "bfloat16 weights, channels last": Form(_in_bfloat16(model)),
        "deployed in float32": Form(deploy(model, "float32")),
        DEPLOYED: Form(deploy(model, "bfloat16")),
    }
    makers: dict[str, Callable[[], Logits]] = {
        "float32, channels last, compiled": lambda: _channels_last(compiled(model)),
        COMPILED: lambda: deploy(model, "bfloat16", compile=True),
    }
    if image.device.type == "cpu":
        makers["float32 with folded normalisations, ONNX Runtime"] = lambda: _onnx(model, image)
    failures = []
    for name, make in makers.items():
        started = time.perf_counter()
        try:
            logits = make()
            logits(image)
        except Exception as error:  # no compiler, no ONNX Runtime: the table's note says why a row is missing
            failures.append(f"Not available here: {name} ({str(error).strip().splitlines()[0]}).")
        else:
            forms[name] = Form(logits, time.perf_counter() - started)
    return forms, failures


def _plain(model: nn.Module) -> nn.Module:
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, PReLU):
            module.__class__ = nn.PReLU
    return model


def _channels_last(model: Logits) -> Logits:
    return lambda images: model(images.contiguous(memory_format=torch.channels_last))


def _autocast(model: Logits, device: torch.device) -> Logits:
    def logits(images: Tensor) -> Tensor:
        with torch.autocast(device.type, torch.bfloat16):
            return model(images)

    return logits


def _in_bfloat16(model: nn.Module) -> Logits:
    model = copy.deepcopy(model).to(torch.bfloat16)
    return lambda images: model(images.to(torch.bfloat16, memory_format=torch.channels_last))


def _onnx(model: nn.Module, image: Tensor) -> Logits:
    """Export for pictures of this size; `nnti.inference.export` does it for any size, normalisation included."""
    network, names = _plain(deploy(model, "float32").model), {"input_names": ["image"], "output_names": ["logits"]}
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings(action="ignore"):
        program = torch.onnx.export(network, (image.clone(),), dynamo=True, verbose=False, **names)
    return onnx_network(program.model_proto.SerializeToString())


def _calls(forms: dict[str, Form], image: Tensor) -> dict[str, Callable[[], None]]:
    def call(form: Form) -> Callable[[], None]:
        def run() -> None:
            form.logits(image)
            if image.device.type != "cpu":
                torch.accelerator.synchronize(image.device)

        return run

    return {name: call(form) for name, form in forms.items()}


def _table(forms: dict[str, Form], timings: dict[str, Timing], pictures: Tensor, labels: Tensor, failures) -> Table:
    expected, rows = _classes(forms[PLAIN], pictures), []
    for name, form in forms.items():
        found, matrix = _classes(form, pictures), ConfusionMatrix(19)
        matrix.update(found, labels)
        rows.append(
            {
                "ENet": name,
                "frames/s": f"{timings[name].per_second:.1f}",
                "against plain": _times(timings[PLAIN], timings[name]),
                "pixels as plain, %": f"{100 * (found == expected).float().mean():.2f}",
                "mean IoU": f"{matrix.compute()['mean_iou']:.4f}",
                "first call after, s": "" if form.seconds is None else f"{form.seconds:.0f}",
                "used by": USE.get(name, ""),
            }
        )
    height, width = pictures.shape[-2:]
    note = (
        f"{height} × {width}, one picture, medians of {timings[PLAIN].blocks} alternating blocks. Deployed: "
        "`nnti.inference.deploy.deploy`, batch normalisations folded into the convolutions, channels last. Pixels and "
        f"mean IoU: ENet after a short training, {PICTURES * GRID[0] * GRID[1]} validation pictures of the Cityscapes "
        "miniature."
    )
    return Table("One picture through ENet", rows, " ".join([note, *failures]))


def _classes(form: Form, pictures: Tensor) -> Tensor:
    return torch.cat([form.logits(image[None]).max(1).indices.cpu() for image in pictures])


def _times(plain: Timing, timing: Timing) -> str:
    return f"{plain.median / timing.median:.2f} ×"


def _profile(form: Form, name: str, image: Tensor) -> Table:
    return profile_table(lambda: form.logits(image), f"ENet, {name}: where the time goes")


def _goal(timings: dict[str, Timing], profiled: Table) -> Goal:
    ratios = {name: timings[PLAIN].median / timings[name].median for name in (DEPLOYED, COMPILED) if name in timings}
    best, first = max(ratios, key=ratios.get), profiled.rows[0]
    limit = f"{first['operator']} takes {first['share, %']} % of the eager form; see the profile"
    return Goal(f"ENet, 512 × 1024, {best}: times plain float32", 3.0, round(ratios[best], 2), limit=limit)


def _other_networks(device: torch.device) -> Table:
    rows: dict[str, dict[str, Any]] = {}
    for title, (name, arguments, size) in OTHERS.items():
        model = build_model(name, 19, arguments).to(device).eval()
        image = torch.randn(1, 3, *size, device=device)
        channels_last = _channels_last(model)
        forms = {
            PLAIN: Form(model),
            CHANNELS_LAST: Form(channels_last),
            "bfloat16 by autocast, channels last": Form(_autocast(channels_last, device)),
            "deployed in float32": Form(deploy(model, "float32")),
            DEPLOYED: Form(deploy(model, "bfloat16")),
        }
        timings = compare(_calls(forms, image), blocks=3, limit=20)
        for form, timing in timings.items():
            rows.setdefault(form, {"network": form})[title] = _times(timings[PLAIN], timing)
    note = (
        "Times the same network in plain float32; one picture, untrained weights, medians of three alternating blocks."
    )
    return Table("The other networks", list(rows.values()), note)
