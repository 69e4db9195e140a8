"""Device and precision of a run, and the name of the machine in its record."""

import multiprocessing
import os
import platform
import re
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch
from torch import nn

from nnti.errors import MachineError, SettingError, UserError
from nnti.folders import home

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
CPUINFO = Path("/proc/cpuinfo")
SETTINGS = "(--set key=value; in a notebook experiment.replace(key=value))"
MEMORY = f"""\
Out of memory. What was saved (last.pt) is intact. These settings need less of it {SETTINGS}:
  batch_size         fewer images per step (a new run: another run_dir, or restart=True)
  crop_size          smaller crops (a new run)
  precision          bfloat16 or float16: smaller activations (a new run)
  model_arguments    for R2U-Net {{"checkpoint_activations": True}}, on the command line
                     model_arguments.checkpoint_activations=true: less memory, more time (a new run)
  val_size           smaller crops, if it happened in a validation (a new run); for the protocol 'full' use
                     evaluate and predict with --sliding
  cache=disk, num_workers=0   if the computer's memory is full (the same run resumes)"""
WORKER = f"""\
A process that reads data died, because the system has no memory or no shared memory left. What was saved (last.pt) is
intact. The same run resumes with num_workers=0 {SETTINGS}.
In a container, more shared memory helps as well: docker run --shm-size=8g"""

UNGUARDED = """\
A process that reads data died: it imported this script, which then began to train there as well. What was saved is
intact. Put everything that the script does below a line  if __name__ == "__main__":  or set num_workers=0."""


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
    lines = CPUINFO.read_text().splitlines() if CPUINFO.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    name, threads = names[0] if names else platform.processor() or platform.machine(), torch.get_num_threads()
    return readable_device(f"{name}, {threads} threads")


def readable_device(name: str) -> str:
    """Return a device name for display: "1 thread" where an early record says "1 threads"."""
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
    """Return the checkout's commit, with '-dirty' appended if files have changed; None outside a checkout."""
    try:
        options = {"cwd": home(), "capture_output": True, "text": True, "check": True, "timeout": 20}
        head = subprocess.run(["git", "rev-parse", "HEAD"], **options).stdout.strip()
        changed = subprocess.run(["git", "status", "--porcelain", "--untracked-files=no"], **options).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None
    return f"{head}-dirty" if changed else head


def compiled(module: nn.Module) -> nn.Module:
    """Return the module in compiled form, made at its first call for inputs of one shape.

    Raises SettingError where there is no C++ compiler, without which `torch.compile` cannot work.
    """
    if not any(shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "c++", "cl")):
        raise SettingError(
            "compile=True needs a C++ compiler, and there is none here: install g++, or set compile=False "
            "(leave out --compile)"
        )
    return torch.compile(module, dynamic=False)


@contextmanager
def machine_explained() -> Iterator[None]:
    """Turn lack of memory, or a dead data worker, into a MachineError that names the settings to change.

    The memory of the failed step is freed for a notebook's next cell.
    """
    try:
        yield
    except UserError:
        raise
    except (MemoryError, RuntimeError, ConnectionError, EOFError) as error:
        text = str(error).strip() or type(error).__name__
        if isinstance(error, MemoryError) or "out of memory" in text or "DefaultCPUAllocator" in text:
            advice = MEMORY
        elif isinstance(error, ConnectionError | EOFError) or "DataLoader worker (pid" in text or "</torch_" in text:
            advice = UNGUARDED if _starts_itself() else WORKER
            with suppress(RuntimeError):  # PyTorch may report the dead worker a moment later
                time.sleep(1)
        else:
            raise
        reason = text.splitlines()[-1 if "Original Traceback" in text else 0]
        traceback.clear_frames(error.__traceback__)
    else:
        return
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    raise MachineError(f"{advice}\nThe error was: {reason}")


def _starts_itself() -> bool:
    """Whether new processes begin by importing this script, and nothing in it keeps them from running all of it."""
    script = getattr(sys.modules["__main__"], "__file__", None)
    if script is None or multiprocessing.get_start_method() == "fork" or not Path(script).is_file():
        return False
    return "__main__" not in Path(script).read_text(encoding="utf-8", errors="replace")


def _cpu_has_bfloat16() -> bool:
    """Whether the processor multiplies bfloat16 (AVX512-BF16), according to Linux."""
    if os.environ.get("ATEN_CPU_CAPABILITY") == "default" or not CPUINFO.is_file():
        return False
    return "avx512_bf16" in CPUINFO.read_text().split()
