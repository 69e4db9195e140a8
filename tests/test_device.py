"""Devices, precisions, and what is said when the machine gives up."""

import subprocess
import sys

import pytest
import torch

from nnti.device import (
    commit,
    compiled,
    device_name,
    machine_explained,
    resolve_device,
    resolve_precision,
    versions,
)
from nnti.errors import DataError, MachineError, SettingError

CPU = torch.device("cpu")


def test_a_device_that_is_not_there_is_named_with_the_way_out():
    assert resolve_device("cpu") == CPU
    for name in ("cuda:99", "gpu"):
        with pytest.raises(SettingError, match=f"device='{name}' cannot be used here .*'auto' or 'cpu'"):
            resolve_device(name)


def test_precision_is_what_the_setting_or_the_device_says():
    assert resolve_precision("float16", CPU) == torch.float16
    assert resolve_precision("auto", CPU) in (torch.bfloat16, torch.float32)


def test_a_record_can_name_the_machine(monkeypatch, tmp_path):
    assert "thread" in device_name(CPU)
    assert versions("no-such-package")["no-such-package"] == "not installed"
    assert versions()["torch"] == torch.__version__.partition("+")[0]
    assert commit() is None or len(commit().removesuffix("-dirty")) == 40
    monkeypatch.setenv("PATH", str(tmp_path))  # no git
    assert commit() is None


def test_without_a_compiler_compile_is_refused_with_the_fix(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(SettingError, match="C.. compiler.*compile=False"):
        compiled(torch.nn.Identity())


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."), "batch_size"),
        (MemoryError(), "crop_size"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory"), "precision"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 17.98 GB)"), "checkpoint_activations"),
        (RuntimeError("DataLoader worker (pid 7) is killed by signal: Bus error."), "--shm-size"),
        (RuntimeError("unable to write to file </torch_7_1>: No space left on device (28)"), "num_workers=0"),
        (EOFError(), "num_workers=0"),
    ],
)
def test_what_the_machine_refuses_names_the_settings_to_change(error, message):
    with pytest.raises(MachineError, match=rf"(?s)last.pt.*{message}.*The error was: .") as caught, machine_explained():
        raise error
    assert str(error) in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [DataError("out of memory.png is damaged"), KeyboardInterrupt(), RuntimeError("The size of tensor a must match")],
)
def test_other_errors_pass_unchanged(error):
    with pytest.raises(type(error)) as caught, machine_explained():
        raise error
    assert caught.value is error


UNGUARDED = """
import multiprocessing
import torch
from nnti.device import machine_explained
multiprocessing.set_start_method("spawn", force=True)
with machine_explained():
    print(list(torch.utils.data.DataLoader([1, 2], num_workers=1)))
"""


def test_a_script_that_starts_itself_again_is_told_so_and_not_of_memory(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(UNGUARDED)
    done = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert done.returncode == 1 and "MachineError: A process that reads data died: it imported this" in done.stderr
    assert "no memory" not in done.stderr
    head, loop = UNGUARDED.split("with machine")
    script.write_text(f'{head}\nif __name__ == "__main__":\n  with machine' + loop.replace("\n    ", "\n      "))
    assert "tensor([1])" in subprocess.run([sys.executable, script], capture_output=True, text=True).stdout
