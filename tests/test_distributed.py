"""Two processes on one machine, exchanging through gloo, beside one process with the same batches."""

import json
import multiprocessing
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from layouts import write_voc

from nnti.data import load_dataset
from nnti.errors import SettingError
from nnti.experiment import Experiment
from nnti.loaders import train_loader, val_loader
from nnti.models import build_model
from nnti.models.saved import load_checkpoint
from nnti.training.loop import fit
from nnti.training.optimizer import check_batch
from nnti.training.parallel import ALONE, World
from nnti.training.run_folder import RunFolder
from nnti.training.stopping import StopSignal

CPU = torch.device("cpu")
# a server process that has imported everything: each training is a fresh copy of it, started in a moment
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["nnti.training.loop", "nnti.__main__"])
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Experiment:
    """Two epochs of two steps; without dropout, whose draws differ from process to process."""
    write_voc(tmp_path / "data")
    for name in ("data", "runs", "cache"):
        monkeypatch.setenv(f"NNTI_{name.upper()}", str(tmp_path / name))
    return Experiment(
        name="tiny", model_arguments={"dropout": [0, 0]}, train_split="trainval", batch_size=2, epochs=2, val_every=1,
        base_size=64, crop_size=48, val_size=32, precision="float32", device="cpu", class_weighting="enet",
        learning_rate=0.005, keep_every=1, seed=1,
    )  # fmt: skip


def torchrun(experiment: Experiment, folder: Path, *options: str) -> subprocess.CompletedProcess:
    file = folder.parent / f"{folder.name}.json"
    experiment.save(file)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command += ["-m", "nnti", "train", str(file), "--quiet", "--run-dir", str(folder), *options]
    return subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True)


def two(experiment: Experiment, folder: Path, stopped_epoch: int | None = None) -> list[int]:
    """Train in two processes, as torchrun starts them, but in a moment; return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [SERVER.Process(target=_rank, args=(rank, port, experiment, folder, stopped_epoch)) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    return [process.exitcode for process in both]


def _rank(rank: int, port: int, experiment: Experiment, folder: Path, stopped_epoch: int | None) -> None:
    torch.set_num_threads(1)
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    if rank == 1 and stopped_epoch is not None:  # the signal reaches the second process alone
        _signal_in_epoch(stopped_epoch)
    list(fit(experiment, folder, progress=False))


def _signal_in_epoch(number: int) -> None:
    enter, epochs = StopSignal.__enter__, iter(range(1, 100))

    def entered(self: StopSignal) -> StopSignal:
        enter(self)
        if next(epochs) == number:
            os.kill(os.getpid(), signal.SIGTERM)
        return self

    StopSignal.__enter__ = entered


def assert_close(one: Path, other: Path) -> None:
    a, b = (RunFolder(folder).history().drop(columns=["train_seconds", "val_seconds"]) for folder in (one, other))
    pd.testing.assert_frame_equal(a, b, **CLOSE)
    a, b = (load_checkpoint(folder / "last.pt") for folder in (one, other))
    for name, value in a["model"].items():
        torch.testing.assert_close(value, b["model"][name], rtol=1e-3, atol=1e-4, msg=name)
    a, b = (RunFolder(folder).record() for folder in (one, other))
    assert a.keys() == b.keys()
    assert {key: a[key] for key in ("experiment", "data", "parameters", "epochs", "best_epoch")} == {
        key: b[key] for key in ("experiment", "data", "parameters", "epochs", "best_epoch")
    }
    for protocol in ("report", "full"):
        for name in ("loss", "mean_iou", "pixel_accuracy"):
            assert a["validation"][protocol][name] == pytest.approx(b["validation"][protocol][name], rel=1e-5, abs=1e-5)
        assert a["validation"][protocol]["pixels_per_class"] == b["validation"][protocol]["pixels_per_class"]


def test_two_processes_do_what_one_does_and_either_goes_on_with_the_others_run(tiny, tmp_path):
    list(fit(tiny, tmp_path / "one", progress=False))
    assert two(tiny, tmp_path / "two") == [0, 0]
    assert_close(tmp_path / "one", tmp_path / "two")
    record = RunFolder(tmp_path / "two").record()
    assert (record["processes"], len(record["sessions"])) == (2, 1)

    for _ in fit(tiny, tmp_path / "one_two", progress=False):
        break
    assert two(tiny, tmp_path / "one_two") == [0, 0]
    assert_close(tmp_path / "one", tmp_path / "one_two")
    sessions = RunFolder(tmp_path / "one_two").record()["sessions"]
    assert [(one["epoch"], one["processes"]) for one in sessions] == [(1, 1), (2, 2)]


def test_a_run_of_two_processes_that_stopped_within_an_epoch_is_finished_by_one(tiny, tmp_path):
    """The sums of the epoch's first part are those of both processes."""
    list(fit(tiny, tmp_path / "one", progress=False))
    assert two(tiny, tmp_path / "cut", stopped_epoch=2)[1] == 143
    saved = load_checkpoint(tmp_path / "cut" / "last.pt")
    assert (saved["epoch"], saved["partial"]["step"]) == (1, 1)
    list(fit(tiny, tmp_path / "cut", progress=False))
    assert_close(tmp_path / "one", tmp_path / "cut")


def test_without_synchronised_normalisation_each_process_uses_its_own_statistics(tiny, tmp_path):
    assert two(tiny.replace(sync_batch_norm=False, epochs=1), tmp_path / "apart") == [0, 0]
    list(fit(tiny.replace(epochs=1), tmp_path / "one", progress=False))
    a, b = (load_checkpoint(tmp_path / name / "last.pt")["model"] for name in ("apart", "one"))
    variances = [name for name in a if name.endswith("running_var")]
    differ = [name for name in variances if not torch.allclose(a[name], b[name], rtol=1e-3, atol=1e-4)]
    assert len(differ) > len(variances) / 2  # the comparison of the other tests would notice


@pytest.mark.parametrize(
    ("model", "arguments"),
    [
        ("r2unet", {"widths": [4, 8], "checkpoint_activations": True}),
        ("pspnet", {"backbone": "resnet18", "pretrained": False, "dropout": 0.0}),
    ],
)
def test_the_other_networks_too(tiny, tmp_path, model, arguments):
    experiment = tiny.replace(model=model, model_arguments=arguments, epochs=1, learning_rate=0.001, batch_size=4)
    list(fit(experiment, tmp_path / "one", progress=False))
    assert two(experiment, tmp_path / "two") == [0, 0]
    losses = [RunFolder(tmp_path / name).history()[["train_loss", "val_loss"]].iloc[1] for name in ("one", "two")]
    pd.testing.assert_series_equal(*losses, rtol=1e-4)


def test_torchrun_starts_the_command_line_and_one_process_writes(tiny, tmp_path):
    list(fit(tiny, tmp_path / "one", progress=False))
    done = torchrun(tiny, tmp_path / "two")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/2") == 1
    assert done.stdout.count("best epoch") == 1
    assert_close(tmp_path / "one", tmp_path / "two")


def test_a_fault_ends_all_processes_and_is_said_in_plain_words(tiny, tmp_path):
    done = torchrun(tiny.replace(batch_size=3, train_limit=3), tmp_path / "a")
    assert done.returncode != 0
    assert "error: batch_size=3 is that of all 2 processes together" in done.stderr
    assert "set batch_size to 4" in done.stderr
    assert not (tmp_path / "a").exists()


# the shares


def test_batches_of_the_processes_together_are_those_of_one(tiny):
    data = load_dataset("voc", "trainval")
    shares = []
    for world in (ALONE, World(0, 2), World(1, 2)):
        loader = train_loader(tiny, data, CPU, world)
        loader.sampler.set_epoch(3)
        assert len(loader) == 2
        shares.append([batch.indices for batch in loader])
    assert [one + other for one, other in zip(*shares[1:], strict=True)] == shares[0]


def test_a_network_that_needs_two_images_needs_them_in_each_process(tiny):
    model = build_model("pspnet", 21, {"backbone": "resnet18", "pretrained": False})
    check_batch(tiny, model, ALONE)
    with pytest.raises(SettingError, match="in each of the 2 processes.*set batch_size to 4 or more"):
        check_batch(tiny, model, World(0, 2))


def test_an_epoch_may_begin_in_its_middle(tiny):
    loader = train_loader(tiny, load_dataset("voc", "trainval"), CPU)
    loader.sampler.set_epoch(3)
    whole = [batch.indices for batch in loader]
    loader.sampler.set_epoch(3, first_step=1)
    assert [batch.indices for batch in loader] == whole[1:]


@pytest.mark.parametrize("protocol", ["report", "full"])
@pytest.mark.parametrize("processes", [2, 3, 7])
def test_each_validation_image_is_measured_once(tiny, protocol, processes):
    data = load_dataset("voc", "trainval")
    loaders = [val_loader(tiny, data, CPU, protocol, World(rank, processes)) for rank in range(processes)]
    assert sorted(index for loader in loaders for batch in loader for index in batch.indices) == list(range(5))


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(SettingError, match="this machine has 2.*--nproc-per-node 2"):
        World(2, 3, 2).device(torch.device("cuda"))


def test_the_notebooks_process_is_alone(tiny, tmp_path):
    run = fit(tiny.replace(epochs=1), tmp_path / "a", progress=False)
    assert run.world == ALONE
    list(run)
    assert json.loads((tmp_path / "a" / "record.json").read_text())["processes"] == 1
