"""Which device and which number format a run uses, and what the machine is called in its record.

torch.compile for who may not have a compiler: what cannot be compiled runs as it is.
"""

import os
import platform
import re
import subprocess
import warnings
from contextlib import nullcontext
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch import nn

from nnti.errors import SettingError
from nnti.folders import home

__all__ = [
    "Compiled",
    "autocast",
    "commit",
    "device_name",
    "readable_device",
    "resolve_device",
    "resolve_precision",
    "versions",
]


DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def resolve_device(name: str = "auto") -> torch.device:
    """Return the device that a `device` setting means; 'auto' takes CUDA, then MPS, then the CPU."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise SettingError(f"device={name!r} cannot be used here ({reason}); set device to 'auto' or 'cpu'") from error
    return device


def resolve_precision(name: str, device: torch.device) -> torch.dtype:
    """Return the autocast type that a `precision` setting means on this device.

    'auto' is bfloat16 where the hardware multiplies it (Ampere or newer, CPUs with AVX512-BF16), float16 on older CUDA
    devices, float32 elsewhere.
    """
    if name != "auto":
        return DTYPES[name]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.get_device_capability(device) >= (8, 0) else torch.float16
    if device.type == "cpu" and _cpu_has_bfloat16():
        return torch.bfloat16
    return torch.float32


def autocast(device: torch.device, dtype: torch.dtype):
    """Return a context in which the networks compute in `dtype`."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)


def device_name(device: torch.device) -> str:
    """Return the device's marketing name, and for a CPU the number of threads in use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type == "mps":
        return f"Apple {platform.machine()} GPU"
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name, threads = names[0] if names else platform.processor() or platform.machine(), torch.get_num_threads()
    return readable_device(f"{name}, {threads} threads")


def readable_device(name: str) -> str:
    """Return a device's name as it is shown: "1 thread" where an early record says "1 threads"."""
    return re.sub(r"\b1 threads\b", "1 thread", name)


def versions(*more: str) -> dict[str, str]:
    """Return the versions that a result depends on; `more` names further packages."""
    found = {"python": platform.python_version()}
    for package in ("torch", "torchvision", "numpy", "pillow", *more):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def commit() -> str | None:
    """Return the checkout's commit, with '-dirty' behind it where files differ from it; None outside a checkout."""
    try:
        options = {"cwd": home(), "capture_output": True, "text": True, "check": True, "timeout": 20}
        head = subprocess.run(["git", "rev-parse", "HEAD"], **options).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], **options).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}-dirty" if changed else head


def _cpu_has_bfloat16() -> bool:
    if os.environ.get("ATEN_CPU_CAPABILITY") == "default":
        return False
    supported = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # not public; absent means: do not assume it
    return bool(supported and supported())


class Compiled:
    """Calls a module in compiled form, made at the first call; where that fails, as it is, after one warning.

    One form serves one shape of inputs, which suits training: a further shape is a further compilation, of the same
    length.
    """

    def __init__(self, module: nn.Module):
        import torch._dynamo.exc  # an import of seconds, only for those who ask for it

        self.module = module
        self._failure = torch._dynamo.exc.TorchDynamoException
        self._compiled = torch.compile(module, dynamic=False)

    def __call__(self, *inputs: Any) -> Any:
        if self._compiled is not None:
            try:
                return self._compiled(*inputs)
            except self._failure as error:
                self._compiled = None
                reason = str(error).strip().splitlines()[0]
                warnings.warn(
                    f"{type(self.module).__name__} runs uncompiled, to the same results: torch.compile failed "
                    f"({reason}). It needs a C++ compiler (CPU: for example g++; CUDA: Triton as well); set "
                    "compile=False to do without",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return self.module(*inputs)
