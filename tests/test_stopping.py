"""Ctrl-C, SIGTERM and losses that are no numbers."""

import math
import os
import signal
import subprocess
import sys
import threading
import time

import pytest
import torch
from layouts import write_voc

from nnti.experiment import Experiment
from nnti.loaders import train_loader
from nnti.models.saved import load_checkpoint
from nnti.training.loop import fit
from nnti.training.run_folder import RunFolder
from nnti.training.stopping import LossWatch, StopSignal, all_finite


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Experiment:
    """Five steps an epoch."""
    write_voc(tmp_path / "data")
    for name in ("data", "runs", "cache"):
        monkeypatch.setenv(f"NNTI_{name.upper()}", str(tmp_path / name))
    return Experiment(
        name="tiny", train_split="trainval", batch_size=1, epochs=3, val_every=1, base_size=64, crop_size=48,
        val_size=32, precision="float32", device="cpu", checkpoint_every=None, cache="none",
    )  # fmt: skip


@pytest.fixture(autouse=True)
def interrupts():
    """Tests in the background of a shell find SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def at_step(run, number: int, action) -> None:
    """Do something while the number-th training step of a run is under way."""
    steps, forward = iter(range(1, 10**6)), run.model.forward

    def watched(images):
        if run.model.training and next(steps) == number:
            action()
        return forward(images)

    run.model.forward = watched


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_and_saves_it(tiny, tmp_path, number, capsys):
    list(fit(tiny, tmp_path / "whole", progress=False))
    run = fit(tiny, tmp_path / "cut", progress=False)
    at_step(run, 8, lambda: os.kill(os.getpid(), number))
    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt if number == signal.SIGINT else SystemExit) as stopped:
        list(run)
    said = str(stopped.value) if number == signal.SIGINT else capsys.readouterr().err
    assert "stopped in epoch 2 of 3 after step 3 of 5; saved in" in said
    assert number == signal.SIGINT or stopped.value.code == 143
    assert signal.getsignal(number) == before
    saved = load_checkpoint(tmp_path / "cut" / "last.pt")
    assert (saved["epoch"], saved["partial"]["step"]) == (1, 3)
    assert [row["epoch"] for row in fit(tiny, tmp_path / "cut", progress=False)] == [2, 3]
    assert same(*(load_checkpoint(tmp_path / name / "last.pt")["model"] for name in ("whole", "cut")))


def test_an_interrupt_during_validation_loses_no_step(tiny, tmp_path, monkeypatch):
    run = fit(tiny, tmp_path / "a", progress=False)
    rows = iter(run)
    next(rows)

    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("nnti.inference.evaluate.evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(rows)
    saved = load_checkpoint(tmp_path / "a" / "last.pt")
    assert (saved["epoch"], saved["partial"]["step"]) == (1, 5)


def test_a_second_signal_breaks_off_at_once():
    with pytest.raises(KeyboardInterrupt), StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        pytest.fail("the second signal was ignored")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_that_is_ignored_stays_ignored():
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number is None


def test_training_in_another_thread_leaves_signals_alone():
    found = []

    def work():
        with StopSignal() as stop:
            found.append(stop.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [None]


def test_workers_survive_the_interrupt_of_the_terminal(tiny):
    loader = iter(train_loader(tiny.replace(num_workers=1), fit(tiny, progress=False).train_data, torch.device("cpu")))
    next(loader)
    os.kill(loader._workers[0].pid, signal.SIGINT)
    assert len(list(loader)) == 4


def test_the_command_line_says_how_to_go_on(tiny, tmp_path):
    file = tmp_path / "tiny.json"
    tiny.replace(epochs=400, val_every=400).save(file)
    command = [sys.executable, "-m", "nnti", "train", str(file), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "epoch 1/400" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same call, or command, goes on from there" in said
    assert "Traceback" not in said


# losses that are no numbers


def test_a_loss_that_is_not_finite_stops_at_once_and_names_the_files(tiny, tmp_path):
    run = fit(tiny.replace(checkpoint_every="1 step"), tmp_path / "a", progress=False)
    weight = next(run.model.parameters())

    def spoil():
        with torch.no_grad():
            weight.fill_(math.nan)

    at_step(run, 8, spoil)
    with pytest.raises(
        FloatingPointError, match="loss is not finite in epoch 2, step 3 of 5; its images are"
    ) as raised:
        list(run)
    loader = train_loader(tiny, run.train_data, torch.device("cpu"))
    loader.sampler.set_epoch(2)
    (index,) = list(loader)[2].indices
    assert str(run.train_data.files[index][0]) in str(raised.value)
    saved = load_checkpoint(tmp_path / "a" / "last.pt")
    assert (saved["epoch"], saved["partial"]["step"]) == (1, 2)
    assert all(value.isfinite().all() for value in saved["model"].values())


def test_weights_that_are_not_finite_are_never_saved(tiny, tmp_path):
    """The last update of an epoch may spoil the weights after a loss that was still a number."""
    run = fit(tiny, tmp_path / "a", progress=False)
    rows = iter(run)
    next(rows)
    before = (tmp_path / "a" / "last.pt").read_bytes()
    update = run.optimizer.step
    run.optimizer.step = lambda: (update(), run.state.step == 4 and next(run.model.parameters()).data.fill_(math.inf))
    with pytest.raises(FloatingPointError, match="weights are not finite in epoch 2.*\n.*last.pt is from before"):
        next(rows)
    assert (tmp_path / "a" / "last.pt").read_bytes() == before
    assert not all_finite(run.model)
    assert RunFolder(tmp_path / "a").record()["epochs"] == 1


def test_the_watch_names_the_first_bad_step():
    watch = LossWatch()
    assert watch.add(torch.tensor(1.0), 1, [3]) is None
    assert watch.add(torch.tensor(math.inf), 2, [5]) == (2, [5])
    assert watch.settle() is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_watch_on_a_gpu_sees_it_at_the_latest_when_settled():
    watch = LossWatch()
    found = [
        watch.add(torch.tensor(value, device="cuda"), step, [step]) for step, value in enumerate([1.0, math.nan, 1.0])
    ]
    assert [bad for bad in (*found, watch.settle()) if bad] == [(1, [1])]
