"""What a machine may refuse in the middle of a run, told with what to change: memory, shared memory, processes."""

import errno
import gc
import inspect
import json
import re
import shlex
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch import distributed, nn

from nnti.data import DataError
from nnti.device import resolve_precision
from nnti.errors import MachineError, SettingError
from nnti.experiment import Experiment, crop_shape
from nnti.inference.evaluate import evaluate, normalization_gap
from nnti.loaders import loader_workers
from nnti.models import build_model
from nnti.models.cost import measure_training_memory
from nnti.training.optimizer import build_optimizer

__all__ = ["explained"]


GIB = 2**30
CROP_STEP = 8  # pixels; also the smallest crop that an experiment may have
SHARE = 3 / 4  # of a side, that a smaller crop keeps

# what PyTorch and the system say, for most of it comes as a plain RuntimeError or OSError
DEVICE_MEMORY = r"MPS backend out of memory|CUDA error: out of memory|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED"
HOST_MEMORY = r"DefaultCPUAllocator: (can't allocate|not enough) memory|std::bad_alloc|\[Errno 12\]"
SHARED_MEMORY = r"unable to \w+ .*(shared memory|</torch_)|signal: Bus error"
OPEN_FILES = r"Too many open files|received 0 items of ancdata"
DEAD_WORKER = (
    r"DataLoader worker \(pid.*(exited unexpectedly|killed by signal)|Pin memory thread exited unexpectedly|"
    r"Caught (Connection\w+|EOFError) in pin memory thread"
)
IN_WORKER = r"Caught \w+ in DataLoader worker process"
VALIDATIONS = tuple(inspect.unwrap(function).__code__ for function in (evaluate, normalization_gap))
FILES = "too many open files; every batch that a reading process hands over counts"
SHARED = "no room in shared memory (/dev/shm), through which the reading processes hand over their batches"
KILLED = "a process that reads data died, as when the system has no memory left"
DIED = "a process that reads data died"
HOST = "the computer's memory is full"
INTACT = "What was saved (last.pt) is intact."
IN_NOTEBOOK = "In a notebook, `--set key=value` is experiment.replace(key=value)."
ANEW = (
    "changes the experiment.\nA run that has trained goes on with its own settings only: take another run_dir "
    "(--run-dir) as well, or start over with restart=True (--restart)"
)


@contextmanager
def explained(experiment: Experiment, model: nn.Module, device: torch.device, num_classes: int) -> Iterator[None]:
    """Turn what a training step or validation may die of into an error that says what to do.

    Lack of memory and dead reading processes become a MachineError, and what the failed step held in memory is freed,
    so that a notebook's next cell finds room. An error of this package that comes from a reading process is raised as
    if it had happened here. All else passes unchanged.

    Args:
        experiment: of the run. model: that it trains, without wrappers. device: that the model is on.
        num_classes: that the model distinguishes; the memory that a change would need is estimated on models of it.
    """
    try:
        yield
    except Exception as error:
        better = _from_worker(error, model, device) or _machine_error(error, experiment, model, device, num_classes)
        if better is None:
            raise
        raise better from None


def _from_worker(error: Exception, model: nn.Module, device: torch.device) -> Exception | None:
    """Return an error of this package without the report of the process that it comes from, which holds it as text."""
    text, kind = str(error), type(error)
    if not isinstance(error, DataError | SettingError) or not re.match(IN_WORKER, text):
        return None
    _, found, message = text.rpartition(f"\n{kind.__module__}.{kind.__qualname__}: ")  # the last: others are its causes
    if not found:
        return None
    _free(error, model, device)  # the reading processes, too, live as long as the traceback
    return kind(message.rstrip("\n"))


def _machine_error(
    error: Exception, experiment: Experiment, model: nn.Module, device: torch.device, num_classes: int
) -> MachineError | None:
    """Return what to raise for a fault of the machine, its memory freed; None for any other error."""
    if type(error).__module__.startswith("nnti."):  # says what to do already
        return None
    advice = _reading_advice(error, experiment, device)
    if advice is None and not _lacks_memory(error):
        return None
    protocol = _validated_by(error)
    _free(error, model, device)
    if advice is None and protocol:
        advice = _validation_advice(experiment, device, protocol)
    if advice is None:
        advice = _training_advice(experiment, model, device, num_classes)
    lines = str(error.__cause__ or error).strip().splitlines() or [type(error).__name__]
    reason = lines[-1 if re.match(IN_WORKER, lines[0]) else 0]  # the last line of a traceback, when it is text
    return MachineError(f"{advice}\n{IN_NOTEBOOK}\nThe error was: {reason}")


# which fault it is


def _lacks_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or _says(error, f"{DEVICE_MEMORY}|{HOST_MEMORY}")


def _says(error: Exception, pattern: str) -> bool:
    """Whether an error of PyTorch or the system, or the cause of it, says this."""
    return isinstance(error, RuntimeError | OSError | EOFError | MemoryError) and any(
        re.search(pattern, str(one)) for one in (error, error.__cause__)
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and those that it was raised from, or meanwhile."""
    one, seen = error, set()
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _frames(error: BaseException) -> list[FrameType]:
    """Return the frames that an error has come through, the innermost last."""
    return [frame for frame, _ in traceback.walk_tb(error.__traceback__)]


def _validated_by(error: BaseException) -> str | None:
    """Return the protocol of the validation in which an error happened; None in training.

    The model's mode does not tell: a validation that fails leaves it as it was.
    """
    for frame in _frames(error):
        if frame.f_code in VALIDATIONS:
            return frame.f_locals.get("protocol") or "report"
    return None


def _no_semaphore(error: Exception) -> bool:
    """Whether shared memory had no room for a lock: the same error as for a full disk, but for where it happens."""
    full = isinstance(error, OSError) and error.errno == errno.ENOSPC
    return full and _frames(error)[-1].f_globals.get("__name__", "").startswith("multiprocessing")


def _free(error: BaseException, model: nn.Module, device: torch.device) -> None:
    """Let go of the tensors of a failed step; the lines of its traceback remain."""
    for one in _chain(error):
        traceback.clear_frames(one.__traceback__)
    model.zero_grad(set_to_none=True)
    gc.collect()
    with suppress(RuntimeError):  # a device in disorder must not hide the error
        if device.type == "cuda":
            torch.cuda.empty_cache()
        elif device.type == "mps":
            torch.mps.empty_cache()


# the processes that read, and the memory of the computer


def _reading_advice(error: Exception, experiment: Experiment, device: torch.device) -> str | None:
    """Say how to go on if the fault lies with the reading processes or the host's memory; else return None."""
    what = _reading_fault(error, device)
    if what is None:
        return None
    workers, ways = loader_workers(experiment, device), {}
    if workers:
        ways["--set num_workers=0"] = "read in the training's own process: slower, but nothing is handed over"
    if workers > 1:
        ways[f"--set num_workers={workers // 2}"] = f"fewer reading processes than {workers}"
    if what == FILES:
        ways["ulimit -n 65536"] = "allow more, in the shell that starts the training"
    if what == SHARED:
        ways["docker run --shm-size=8g"] = "start the container with more of it"
    if what in (KILLED, HOST):
        ways["--set cache=disk"] = "keep no decoded images in memory"
        ways["free memory"] = "shut down what else is running, such as other notebooks"
    return _advice(f"{what}.\n{INTACT} The same run goes on with any of these:", ways)


def _reading_fault(error: Exception, device: torch.device) -> str | None:
    if _says(error, OPEN_FILES):
        return FILES
    if _says(error, SHARED_MEMORY) or _no_semaphore(error):
        return SHARED
    if _says(error, DEAD_WORKER):
        by_whom = re.search(r"killed by signal: (\w+)", f"{error} {error.__cause__}")
        return KILLED if by_whom is None or by_whom[1] == "Killed" else DIED
    on_host = device.type != "cpu" and (isinstance(error, MemoryError) or _says(error, HOST_MEMORY))
    return HOST if _lacks_memory(error) and (on_host or _says(error, IN_WORKER)) else None


def _advice(what: str, ways: dict[str, str]) -> str:
    """Write what happened above a table of what to do."""
    width = max(map(len, ways), default=0)
    return "\n".join([what, "", *(f"  {way:{width}}  {why}".rstrip() for way, why in ways.items()), ""])


# validation


def _validation_advice(experiment: Experiment, device: torch.device, protocol: str) -> str:
    smaller = _precisions(experiment, device)[1]
    same, anew = {}, {}
    if device.type != "cpu":
        same["--set device=cpu"] = "the same run goes on in the computer's memory: slower"
    if protocol == "full":
        what = "by the protocol 'full', which takes every image whole"
        same["python -m nnti evaluate RUN --sliding"] = "measures best.pt in windows as large as the training crops"
        if experiment.protocol == "full":
            anew["--set protocol=report"] = "validates on crops; 'full' is measured once, at the end"
    else:
        batch, size = experiment.batch_size, experiment.val_size
        what = f"by the protocol 'report', with batch_size={batch} and val_size={size}"
        anew[f"--set {_setting('val_size', _smaller_crop(size))}"] = "smaller crops"
        if batch > 1:
            anew[f"--set batch_size={batch // 2}"] = "fewer of them at a time"
    if smaller:
        anew[f"--set precision={smaller}"] = "smaller activations"
    ways = {**same, **{way: f"{why} (*)" for way, why in anew.items()}}
    return _advice(f"out of memory in a validation {what}.\n{INTACT} What helps:", ways) + (
        f"\n(*) {ANEW}." if anew else ""
    )


# training


def _training_advice(experiment: Experiment, model: nn.Module, device: torch.device, num_classes: int) -> str:
    """Name the settings that a step's memory depends on, and what each change of them would save."""
    name, smaller = _precisions(experiment, device)
    experiment = experiment.replace(precision=name)
    argument = _checkpointing(model)
    now = [_setting(key, getattr(experiment, key)) for key in ("batch_size", "crop_size", "precision")]
    if argument:
        now.append(_setting(argument, experiment.model_arguments.get(argument, False)))
    changes = _changes(experiment, model, smaller, argument)
    peaks = _peaks([experiment, *(experiment.replace(**change) for change in changes)], num_classes)
    changed = [f"--set {shlex.quote(_setting(*next(iter(change.items()))))}" for change in changes]
    what = f"out of memory in a training step of {getattr(model, 'title', type(model).__name__)} on {device}.\n{INTACT}"
    if peaks:
        what += " Estimated peak of a step (its tensors alone), as it is and after one change:"
    table = _advice(what, _table(["now: " + " ".join(now), *changed], peaks))
    if not changes:
        return f"{table}\nNone of these can be reduced: take a smaller network (model_arguments), or another device."
    return f"{table}\nChanges can be combined. Each of them {ANEW}."


def _table(labels: list[str], peaks: list[int] | None) -> dict[str, str]:
    """Return what to write beside each label: its peak, and what it saves of the first one's, if it does."""
    if not peaks:
        return dict.fromkeys(labels, "")
    sizes = {label: f"{peak / GIB:7.2f} GiB" for label, peak in zip(labels, peaks, strict=True)}
    for label, peak in list(zip(labels, peaks, strict=True))[1:]:
        saved = peaks[0] - peak
        if saved <= 0:
            del sizes[label]
        else:
            sizes[label] += f"  saves {saved / GIB:6.2f} GiB, {100 * saved / peaks[0]:2.0f} %"
    return sizes


def _changes(
    experiment: Experiment, model: nn.Module, precision: str | None, checkpointing: str | None
) -> list[dict[str, Any]]:
    """Return the changes that apply, one setting each."""
    processes, changes = _processes(), []
    share = max(experiment.batch_size // processes // 2, getattr(model, "smallest_batch", 1))
    if share * processes < experiment.batch_size:
        changes.append({"batch_size": share * processes})
    if _smaller_crop(experiment.crop_size) != experiment.crop_size:
        changes.append({"crop_size": _smaller_crop(experiment.crop_size)})
    if precision:
        changes.append({"precision": precision})
    if checkpointing and not experiment.model_arguments.get(checkpointing, False):
        changes.append({"model_arguments": {**experiment.model_arguments, checkpointing: True}})
    return changes


def _peaks(experiments: list[Experiment], num_classes: int) -> list[int] | None:
    """Estimate the peak of a training step for each experiment, in bytes; None where that fails."""
    try:
        return [_peak(experiment, num_classes) for experiment in experiments]
    except Exception:  # what is to be explained must not be hidden by the explanation
        return None


def _peak(experiment: Experiment, num_classes: int) -> int:
    with torch.device("meta"):  # without memory
        model = build_model(experiment.model, num_classes, experiment.model_arguments, pretrained=False)
    measured = measure_training_memory(
        model,
        crop_shape(experiment.crop_size),
        max(1, experiment.batch_size // _processes()),
        "meta",
        precision=experiment.precision,
        optimizer=partial(build_optimizer, experiment),
    )
    return measured.peak


def _precisions(experiment: Experiment, device: torch.device) -> tuple[str, str | None]:
    """Return the precision in use, and a smaller one that the device computes fast, where it is not in use already."""
    try:
        dtypes = [resolve_precision(name, device) for name in (experiment.precision, "auto")]
    except (RuntimeError, AssertionError):  # of a device that gives no answer any more
        return experiment.precision, None
    now, fast = (str(dtype).removeprefix("torch.") for dtype in dtypes)
    return now, fast if now == "float32" != fast else None


def _checkpointing(model: nn.Module) -> str | None:
    """Return the constructor's argument that turns activation checkpointing on, if there is one."""
    arguments = inspect.signature(type(model)).parameters.values()
    return next((one.name for one in arguments if "checkpoint" in one.name and one.default is False), None)


def _smaller_crop(crop: int | tuple[int, int]) -> int | tuple[int, int]:
    """Return a crop of about three quarters of the side, a multiple of CROP_STEP."""
    if isinstance(crop, tuple):
        return tuple(_smaller_crop(side) for side in crop)
    return max(CROP_STEP, int(crop * SHARE) // CROP_STEP * CROP_STEP)


def _setting(key: str, value: Any) -> str:
    """Write a setting as the command line's --set takes it."""
    return f"{key}={value if isinstance(value, str) else json.dumps(value)}"


def _processes() -> int:
    """Return the number of processes that share a batch."""
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1
