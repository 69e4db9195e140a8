"""Faults of the machine: real ones where they can be had, and what is said about each."""

import errno
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import textwrap
import weakref
from functools import partial
from pathlib import Path

import pytest
import torch
from layouts import write_voc
from torch import nn
from torch.utils.data import DataLoader, Dataset

from nnti.data import DataError
from nnti.errors import MachineError, RunError, SettingError
from nnti.experiment import Experiment, crop_shape, parse_setting
from nnti.inference.evaluate import evaluate
from nnti.loaders import load_split
from nnti.models import build_model
from nnti.models.cost import measure_training_memory
from nnti.training import faults
from nnti.training.faults import explained
from nnti.training.optimizer import build_optimizer

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
CLASSES = 5
R2UNET = Experiment(
    model="r2unet", model_arguments={"widths": [32, 64]}, batch_size=3, crop_size=(256, 520), precision="float32",
    num_workers=4,
)  # fmt: skip
PSPNET = Experiment(
    model="pspnet", model_arguments={"backbone": "resnet18", "pretrained": False}, batch_size=2, crop_size=512,
    precision="float32",
)  # fmt: skip
MEMORY = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

needs_linux = pytest.mark.skipif(sys.platform != "linux", reason="limits and namespaces of Linux")


@pytest.fixture(autouse=True)
def fast_bfloat16(monkeypatch):
    """Whatever runs the tests stands for a device with bfloat16."""

    def resolve(name: str, device: torch.device) -> torch.dtype:
        return torch.bfloat16 if name == "auto" else getattr(torch, name)

    monkeypatch.setattr(faults, "resolve_precision", resolve)


@pytest.fixture
def no_estimates(monkeypatch):
    """They take a second, and most tests do not need them."""
    monkeypatch.setattr(faults, "_peaks", lambda experiments, num_classes: None)


def built(experiment: Experiment) -> nn.Module:
    return build_model(experiment.model, CLASSES, experiment.model_arguments, pretrained=False)


def said(error: BaseException, experiment: Experiment = R2UNET, device: torch.device = CPU) -> str:
    """What a MachineError says in the place of `error`."""
    with pytest.raises(MachineError) as caught, explained(experiment, built(experiment), device, CLASSES):
        raise error
    assert str(error).splitlines()[0] in str(caught.value)
    return str(caught.value)


def changes(message: str) -> list[dict]:
    """The settings that a message offers, each read as the command line reads it."""
    offered = re.findall(r"^  (--set .*?)(?:  |$)", message, re.MULTILINE)
    return [dict([parse_setting(shlex.split(line)[1])]) for line in offered]


# memory of a training step


@pytest.mark.parametrize("experiment", [R2UNET, PSPNET.replace(batch_size=5)])
def test_out_of_memory_names_what_each_change_saves(experiment):
    message, model = said(MEMORY, experiment), built(experiment)

    def gib(changed: Experiment) -> float:
        size, optimizer = crop_shape(changed.crop_size), partial(build_optimizer, changed)
        options = {"precision": changed.precision, "optimizer": optimizer}
        return measure_training_memory(built(changed), size, changed.batch_size, "cpu", **options).peak / 2**30

    shown = [float(number) for number in re.findall(r"(\d+\.\d\d) GiB(?:  saves|\n)", message)]
    saved = [float(number) for number in re.findall(r"saves +(\d+\.\d\d) GiB", message)]
    peaks = [gib(experiment.replace(**change)) for change in ({}, *changes(message))]
    assert shown == pytest.approx(peaks, abs=0.006)
    assert saved == pytest.approx([peaks[0] - peak for peak in peaks[1:]], abs=0.006)
    assert len(saved) >= 3 and model.training


def test_what_is_offered_is_smaller_and_can_be_typed():
    smaller = {"widths": [32, 64], "checkpoint_activations": True}
    message = said(MEMORY, R2UNET, CUDA)
    assert changes(message) == [
        {"batch_size": 1}, {"crop_size": [192, 384]}, {"precision": "bfloat16"}, {"model_arguments": smaller},
    ]  # fmt: skip
    assert "now: batch_size=3 crop_size=[256, 520] precision=float32 checkpoint_activations=false" in message
    assert "R2U-Net on cuda" in message
    assert "last.pt" in message and "--run-dir" in message and "restart=True" in message
    assert all(len(line) < 160 for line in message.splitlines())


def test_what_does_not_apply_is_not_offered(no_estimates):
    least = R2UNET.replace(
        batch_size=1, crop_size=8, precision="bfloat16", model_arguments={"checkpoint_activations": True}
    )
    message = said(MEMORY, least)
    assert changes(message) == [] and "smaller network" in message
    assert "checkpoint_activations=true" in message
    assert [list(change) for change in changes(said(MEMORY, PSPNET))] == [["crop_size"], ["precision"]]  # two at least


def test_what_saves_nothing_is_not_offered(monkeypatch):
    monkeypatch.setattr(faults, "_peaks", lambda experiments, num_classes: [4 * 2**30, 2**30, 4 * 2**30, 5 * 2**30])
    message = said(MEMORY, PSPNET.replace(batch_size=4))
    assert changes(message) == [{"batch_size": 2}] and "saves   3.00 GiB, 75 %" in message


def test_precision_is_what_the_run_and_the_device_have(no_estimates, monkeypatch):
    monkeypatch.setattr(faults, "resolve_precision", lambda name, device: torch.float32)
    message = said(MEMORY, R2UNET.replace(precision="auto"))
    assert "precision=float32" in message and {"precision": "bfloat16"} not in changes(message)

    def broken(name: str, device: torch.device) -> torch.dtype:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(faults, "resolve_precision", broken)
    assert {"batch_size": 1} in changes(said(MEMORY, R2UNET.replace(precision="auto"), CUDA))


def test_several_processes_share_a_batch(monkeypatch):
    alone = said(MEMORY, R2UNET.replace(batch_size=4))
    monkeypatch.setattr(faults, "_processes", lambda: 2)
    message = said(MEMORY, R2UNET.replace(batch_size=8))
    assert changes(message)[0] == {"batch_size": 4}
    assert re.findall(r"\d+\.\d\d GiB", message) == re.findall(r"\d+\.\d\d GiB", alone)
    monkeypatch.setattr(faults, "_peaks", lambda experiments, num_classes: None)
    assert "batch_size" not in changes(said(MEMORY, PSPNET.replace(batch_size=4)))[0]


def test_an_estimate_that_fails_does_not_hide_the_error(monkeypatch):
    def broken(*arguments, **options):
        raise ValueError("no estimate")

    monkeypatch.setattr(faults, "measure_training_memory", broken)
    message = said(MEMORY, R2UNET)
    assert len(changes(message)) == 4 and "GiB  saves" not in message and "no estimate" not in message


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 9.31 GiB for an array"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried to …"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] data. DefaultCPUAllocator: not enough memory: you tried …"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.98 GB, max allowed: 18.13 GB)."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_every_form_of_lacking_memory_is_known(no_estimates, error):
    assert {"batch_size": 1} in changes(said(error))


def test_what_the_failed_step_held_is_freed(no_estimates):
    model, held = built(R2UNET), []

    def step() -> None:
        activations = model(torch.zeros(1, 3, 16, 16))
        held.append(weakref.ref(activations))
        activations.sum().backward()
        raise MEMORY

    with pytest.raises(MachineError) as caught, explained(R2UNET, model, CPU, CLASSES):
        step()
    assert held[0]() is None, "the exception, which a notebook keeps, still refers to the activations"
    assert all(parameter.grad is None for parameter in model.parameters())
    assert caught.value.__suppress_context__


@needs_linux
def test_a_real_lack_of_memory_on_the_cpu():
    message = run_alone("""
        import resource
        pages = int(open("/proc/self/statm").read().split()[0])
        limit = pages * resource.getpagesize() + 2**31
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        with explained(experiment, model, torch.device("cpu"), 5):
            torch.empty(2**33, dtype=torch.uint8)
        """)
    assert message.startswith("out of memory in a training step")
    assert {"batch_size": 1} in changes(message)
    assert "GiB  saves" in message, "the estimate itself takes little memory"


def run_alone(program: str, shell: str = "exec {}") -> str:
    """Run a program in a new process, through a command of the shell; return what its MachineError says."""
    prelude = """
        import torch
        from torch.utils.data import DataLoader
        from nnti import Experiment
        from nnti.training.faults import explained
        from nnti.models import build_model
        torch.set_num_threads(1)
        experiment = Experiment(model="r2unet", model_arguments={"widths": [8, 16]}, batch_size=2, num_workers=1)
        model = build_model("r2unet", 5, experiment.model_arguments)
        """
    whole = textwrap.dedent(prelude) + textwrap.dedent(program)
    command = shell.format(shlex.join([sys.executable, "-c", whole]))
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=Path(__file__).parents[1])
    before, found, message = done.stderr.partition("nnti.errors.MachineError: ")
    assert found, before
    return message


def small_shared_memory() -> str:
    """Return the command of a shell that runs a program with 1 MB of /dev/shm."""
    small = "unshare --user --map-root-user --mount sh -c 'mount -t tmpfs -o size=1m tmpfs /dev/shm && exec \"$@\"' sh "
    if subprocess.run(["sh", "-c", f"{small} true"], capture_output=True).returncode:
        pytest.skip("this machine allows no mount namespaces")
    return f"exec {small} {{}}"


# memory of a validation


class Full(nn.Module):
    """A network for which no image is small enough."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        raise MEMORY


@pytest.mark.parametrize("protocol", ["report", "full"])
def test_out_of_memory_in_a_validation_has_words_of_its_own(tmp_path, monkeypatch, protocol):
    write_voc(tmp_path)
    monkeypatch.setenv("NNTI_DATA", str(tmp_path))
    experiment, model = R2UNET.replace(protocol=protocol, val_size=32, device="cpu", num_workers=0), Full()
    data = load_split(experiment, "val")
    with pytest.raises(MachineError) as caught, explained(experiment, model, CUDA, data.num_classes):
        evaluate(model, experiment, data, progress=False)
    message = str(caught.value)
    offered = {key for change in changes(message) for key in change}
    assert f"by the protocol '{protocol}'" in message and "training step" not in message
    assert offered == {"device", "precision"} | ({"protocol"} if protocol == "full" else {"batch_size", "val_size"})
    assert ("--sliding" in message) == (protocol == "full")
    assert model.training  # the mode does not tell


# processes that read


class Samples(Dataset):
    """Two samples, whose second does something."""

    def __init__(self, action):
        self.action = action

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        if index:
            self.action()
        return index


def read(action, experiment: Experiment = R2UNET, device: torch.device = CPU) -> None:
    with explained(experiment, built(R2UNET), device, CLASSES):
        list(DataLoader(Samples(action), num_workers=1))


def kill(number: signal.Signals) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("number", "what", "offered"),
    [
        (signal.SIGKILL, "no memory left", [{"num_workers": 0}, {"num_workers": 2}, {"cache": "disk"}]),
        (signal.SIGBUS, "shared memory", [{"num_workers": 0}, {"num_workers": 2}]),
        (signal.SIGTERM, "died", [{"num_workers": 0}, {"num_workers": 2}]),
    ],
)
def test_a_reading_process_that_dies(number, what, offered):
    with pytest.raises(MachineError, match=what) as caught:
        read(partial(kill, number))
    assert changes(str(caught.value)) == offered
    assert ("--shm-size" in str(caught.value)) == (number == signal.SIGBUS)
    assert "last.pt" in str(caught.value) and "batch_size" not in str(caught.value)


@needs_linux
def test_shared_memory_that_is_full():
    message = run_alone(
        """
        with explained(experiment, model, torch.device("cpu"), 5):
            list(DataLoader(torch.zeros(1, 2**20), num_workers=1))
        """,
        small_shared_memory(),
    )
    assert message.startswith("no room in shared memory")
    assert changes(message) == [{"num_workers": 0}]
    assert "No space left on device" in message.splitlines()[-1]


@needs_linux
def test_our_own_batches_do_not_wait_for_shared_memory_that_is_full():
    """Left to the queue's own thread, the lack of room would be printed there, and the training would wait for ever."""
    message = run_alone(
        """
        from nnti.loaders import _collate
        from nnti.augment import HostSample
        def sample(at):
            big = torch.zeros(3, 900, 900, dtype=torch.uint8)
            return HostSample(big, big[0], torch.eye(2, 3), 1, 0.0, (8, 8), at)
        class Samples(torch.utils.data.Dataset):
            def __len__(self):
                return 1
            def __getitem__(self, at):
                return sample(at)
        with explained(experiment, model, torch.device("cpu"), 5):
            list(DataLoader(Samples(), num_workers=1, collate_fn=_collate))
        """,
        small_shared_memory(),
    )
    assert message.startswith("no room in shared memory")


def test_shared_memory_without_room_for_a_lock():
    lock = {"__name__": "multiprocessing.synchronize"}
    exec("def lock():\n    raise OSError(28, 'No space left on device')", lock)
    with pytest.raises(MachineError, match="no room in shared memory"), explained(R2UNET, nn.Identity(), CPU, CLASSES):
        lock["lock"]()


@needs_linux
def test_too_many_open_files():
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(os.listdir("/proc/self/fd")) + 2, before[1]))
    try:
        with pytest.raises(MachineError) as caught:
            read(int)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    message = str(caught.value)
    assert (
        message.startswith("too many open files") and "ulimit -n" in message and {"num_workers": 0} in changes(message)
    )


def no_memory() -> None:
    raise MemoryError


def test_memory_of_the_computer_is_not_that_of_the_gpu():
    with pytest.raises(MachineError) as caught:
        read(no_memory)
    for message in (str(caught.value), said(MemoryError("host"), device=CUDA)):
        assert "computer's memory" in message
        assert changes(message) == [{"num_workers": 0}, {"num_workers": 2}, {"cache": "disk"}]


def bad_data() -> None:
    try:
        raise DataError("an inner error")
    except DataError as error:
        raise DataError("images/ü 1.png is damaged;\nfetch it again:\n  python -m nnti data voc") from error


def bad_setting() -> None:
    raise SettingError("blur=2: it must be between 0 and 1")


def test_an_error_about_data_comes_out_of_its_process_as_it_was():
    with pytest.raises(DataError) as caught:
        read(bad_data)
    assert str(caught.value) == "images/ü 1.png is damaged;\nfetch it again:\n  python -m nnti data voc"
    assert caught.value.__suppress_context__
    with pytest.raises(SettingError) as caught:
        read(bad_setting)
    assert str(caught.value) == "blur=2: it must be between 0 and 1"


# everything else


def wrapped() -> RunError:
    error = RunError("runs/x cannot be written: the disk is full")
    error.__cause__ = OSError(errno.EMFILE, "Too many open files")
    return error


@pytest.mark.parametrize(
    "error",
    [
        KeyError("out of memory"), KeyboardInterrupt(), SystemExit(143), FloatingPointError("not finite"), wrapped(),
        RuntimeError("The size of tensor a (3) must match the size of tensor b (4)"), DataError("a.png is damaged"),
        OSError(errno.ENOSPC, "No space left on device", "runs/x/last.pt"), SettingError("lr"), MachineError("known"),
        RuntimeError("out of resource: shared memory, Required: 196608, Hardware limit: 101376"),
    ],
)  # fmt: skip
def test_other_errors_pass_unchanged(error):
    with pytest.raises(type(error)) as caught, explained(R2UNET, nn.Identity(), CPU, CLASSES):
        raise error
    assert caught.value is error and not isinstance(caught.value.__cause__, MachineError)


def test_an_error_in_a_reading_process_that_is_not_ours_passes():
    with pytest.raises(ZeroDivisionError, match="Original Traceback"):
        read(partial(divmod, 1, 0))


def test_no_error_is_no_error():
    with explained(R2UNET, nn.Identity(), CPU, CLASSES):
        pass
