"""Two processes on one machine, beside one process with the same batches."""

import os
import signal
import socket
import subprocess
import sys
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import SERVER, train
from torch import nn

import nnti.models
from nnti.errors import SettingError
from nnti.experiment import Experiment
from nnti.loaders import load_split, train_loader, val_loader
from nnti.models import Outputs, build_model
from nnti.models.saved import load_checkpoint
from nnti.training.loop import Fit, fit
from nnti.training.monitors import Monitor
from nnti.training.optimizer import check_batch
from nnti.training.parallel import join
from nnti.training.run_folder import RunFolder

CPU = torch.device("cpu")


class Plain(nn.Module):
    """A network without batch normalisation, whose statistics differ from process to process on CPUs."""

    def __init__(self, num_classes: int):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1), nn.ReLU())
        self.head, self.auxiliary = nn.Conv2d(8, num_classes, 1), nn.Conv2d(8, num_classes, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor | Outputs:
        features = self.features(images)
        if self.training:
            return Outputs(self.head(features), self.auxiliary(features))
        return nn.functional.interpolate(self.head(features), images.shape[-2:], mode="bilinear", align_corners=False)


@pytest.fixture
def plain(tiny, monkeypatch) -> Experiment:
    """Two epochs of two steps with `Plain` in ENet's place."""
    monkeypatch.setitem(nnti.models.MODELS, "enet", Plain)
    settings = {"batch_size": 2, "epochs": 2, "class_weighting": "enet", "learning_rate": 0.05}
    return tiny.replace(model="enet", model_arguments={}, **settings)


class Terminated(Monitor):
    """Gets the system's request to stop in a step of an epoch."""

    def __init__(self, *place: int):
        self.place = place

    def step(self, run: Fit, loss) -> None:
        if (run.state.done + 1, run.state.step) == self.place:
            os.kill(os.getpid(), signal.SIGTERM)


def two(experiment: Experiment, folder: Path, stopped_at: tuple[int, int] | None = None) -> list[int]:
    """Train in two processes as torchrun starts them, but in a moment; return their exit codes."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    both = [SERVER.Process(target=_rank, args=(rank, port, experiment, folder, stopped_at)) for rank in (0, 1)]
    for process in both:
        process.start()
    for process in both:
        process.join(120)
    return [process.exitcode for process in both]


def _rank(rank: int, port: int, experiment: Experiment, folder: Path, stopped_at: tuple[int, int] | None) -> None:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": 2, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    os.environ.update({name: str(value) for name, value in place.items()})
    nnti.models.MODELS["enet"] = Plain
    run = fit(experiment, folder, progress=False)
    if rank == 1 and stopped_at:  # the signal reaches the second process alone
        run.monitors.members.append(Terminated(*stopped_at))
    list(run)


def assert_close(one: Path, other: Path) -> None:
    a, b = (RunFolder(folder).history().drop(columns=["train_seconds", "val_seconds"]) for folder in (one, other))
    pd.testing.assert_frame_equal(a, b, rtol=1e-4, atol=1e-5)
    a, b = (load_checkpoint(folder / "last.pt")["model"] for folder in (one, other))
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=1e-4, atol=1e-6)
    a, b = (RunFolder(folder).record() for folder in (one, other))
    for key in ("experiment", "data", "parameters", "epochs", "best_epoch", "finished"):
        assert a[key] == b[key]
    for protocol in ("report", "full"):
        first, second = (record["validation"][protocol] for record in (a, b))
        assert first["pixels_per_class"] == second["pixels_per_class"]
        for name in ("loss", "mean_iou", "pixel_accuracy"):
            assert first[name] == pytest.approx(second[name], rel=1e-4)


def test_two_processes_compute_what_one_does_and_each_goes_on_with_the_others_run(plain, tmp_path):
    """Gradients, class weights, auxiliary head and metrics, although the shares of a batch differ in void pixels."""
    one, changing = tmp_path / "one", tmp_path / "changing"
    train(plain, one)
    assert two(plain, changing, stopped_at=(1, 1))[1] == 128 + signal.SIGTERM
    saved = load_checkpoint(changing / "last.pt")
    assert (saved["epoch"], saved["partial"]["step"]) == (0, 1)  # both have stopped, and the sums are those of both
    next(iter(fit(plain, changing, progress=False)))
    assert two(plain, changing) == [0, 0]
    assert_close(one, changing)
    record = RunFolder(changing).record()
    places = [(session["epoch"], session["step"], session["processes"]) for session in record["sessions"]]
    assert places == [(1, 0, 2), (1, 1, 1), (2, 0, 2)] and record["processes"] == 2


def test_torchrun_starts_the_command_line_and_one_process_speaks(tiny, tmp_path):
    """With normalisation, whose statistics are each process's own here, and with checkpointed activations."""
    arguments = {"widths": [4, 6], "checkpoint_activations": True}
    tiny.replace(model_arguments=arguments, batch_size=4, epochs=1).save(tmp_path / "tiny.json")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "nnti"]
    command += ["train", str(tmp_path / "tiny.json"), "--quiet", "--run-dir", str(tmp_path / "a")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/1") == done.stdout.count("best epoch") == 1
    assert RunFolder(tmp_path / "a").record()["processes"] == 2


def test_the_shares_of_a_batch_together_are_the_batch(tiny):
    def batches(*share: int) -> list[list[int]]:
        loader = train_loader(tiny.replace(batch_size=2), load_split(tiny, "trainval"), CPU, *share)
        loader.sampler.set_epoch(3)
        assert len(loader) == 2
        return [batch.indices for batch in loader]

    assert [one + other for one, other in zip(batches(0, 2), batches(1, 2), strict=True)] == batches()
    with pytest.raises(SettingError, match="batch_size=2 is that of all 3 processes.*set batch_size to 3"):
        batches(0, 3)


@pytest.mark.parametrize(("protocol", "processes"), [("report", 2), ("full", 3), ("report", 7)])
def test_each_validation_image_is_measured_once(tiny, protocol, processes):
    share = partial(val_loader, tiny, load_split(tiny, "trainval"), CPU, protocol, processes=processes)
    found = [index for rank in range(processes) for batch in share(rank=rank) for index in batch.indices]
    assert sorted(found) == list(range(5))


def test_a_network_that_needs_two_images_needs_them_in_each_process(tiny):
    model = build_model("pspnet", 21, {"backbone": "resnet10t", "pretrained": False})
    check_batch(tiny.replace(batch_size=2), model)
    with pytest.raises(SettingError, match="in each process.*set batch_size to 4 or more"):
        check_batch(tiny.replace(batch_size=2), model, processes=2)


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_more_processes_than_gpus_are_refused(tiny, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with pytest.raises(SettingError, match="each process needs a GPU of its own, and this machine has 0"):
        join(torch.device("cuda"))
