"""What makes a training step fast leaves its numbers alone: transfer, compilation, fused updates, no waiting."""

import os
import subprocess
import sys
import warnings

import pytest
import torch
from layouts import write_cityscapes
from test_train_networks import ARGUMENTS
from torch.utils._python_dispatch import TorchDispatchMode

import nnti.augment
import nnti.metrics
import nnti.training.optimizer
from nnti.augment import prepare
from nnti.device import Compiled
from nnti.experiment import Experiment
from nnti.metrics import ConfusionMatrix
from nnti.models.saved import load_checkpoint
from nnti.training.loop import fit
from nnti.training.optimizer import build_optimizer
from nnti.training.parallel import on_device

CPU = torch.device("cpu")
READS = {"_local_scalar_dense", "equal", "is_nonzero", "masked_select", "nonzero", "_unique2", "unique_dim"}


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Experiment:
    write_cityscapes(tmp_path / "data")
    monkeypatch.setenv("NNTI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NNTI_RUNS", str(tmp_path / "runs"))
    return Experiment(
        name="tiny", dataset="cityscapes", batch_size=2, epochs=2, val_every=2, base_size=64, crop_size=32, val_size=32,
        precision="float32", model="r2unet", model_arguments={"widths": [4, 6, 8]},
    )  # fmt: skip


@pytest.fixture
def fused(monkeypatch):
    """Updates as they are made on a GPU."""
    monkeypatch.setattr(nnti.training.optimizer, "FUSED_DEVICES", ("cpu",))


class NoReading(TorchDispatchMode):
    """Refuses every operator whose result the host has to wait for."""

    def __torch_dispatch__(self, operator, types, arguments=(), options=None):
        name = operator.__name__.split(".")[0]
        masked = name in ("index", "index_put_") and any(
            at is not None and at.dtype == torch.bool for at in arguments[1]
        )
        assert name not in READS and not masked, f"{operator} makes the host wait for the device"
        return operator(*arguments, **(options or {}))


# nothing waits


def test_reading_a_value_is_noticed():
    with NoReading(), pytest.raises(AssertionError, match="wait for the device"):
        float(torch.ones(2).sum())
    with NoReading(), pytest.raises(AssertionError, match="wait for the device"):
        torch.ones(2)[torch.ones(2) > 0]


@pytest.mark.parametrize("model", ARGUMENTS)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_step_reads_nothing_back(tiny, fused, monkeypatch, model, optimizer):
    experiment = tiny.replace(
        model=model, model_arguments=ARGUMENTS[model], optimizer=optimizer, class_weighting="enet"
    )
    run = fit(experiment, progress=False)
    batch, run.state.partial = next(iter(run.loader)), run._nothing_yet()
    prepared = prepare(batch, experiment, CPU)
    monkeypatch.setattr("nnti.augment.prepare", lambda *_: prepared)
    monkeypatch.setattr(ConfusionMatrix, "update", lambda *_: None)  # on a CPU it looks for classes out of range
    run.model.train()
    with NoReading():
        loss = run._train_step(batch, 1, run.model)
    assert torch.isfinite(loss.total) and not loss.total.requires_grad


def test_counting_on_a_device_reads_nothing_back():
    counts = torch.zeros(5 * 5 + 2, dtype=torch.int64)
    with NoReading():
        nnti.metrics.add_without_waiting(counts, torch.randint(0, 5 * 5, (2 * 9 * 9,)))
    assert counts.sum() == 2 * 9 * 9


def test_sampling_the_crops_reads_nothing_back(tiny):
    batch = next(iter(fit(tiny, progress=False).loader))
    with NoReading():
        images, _ = nnti.augment._warp(batch, 255)
        nnti.augment.normalize(images)


# transfer


def test_batches_pass_through_in_order_and_one_at_a_time(tiny):
    loader = fit(tiny.replace(batch_size=1), progress=False).loader
    batches, fetched = list(loader), []

    def source():
        for batch in batches:
            fetched.append(batch)
            yield batch

    passed = on_device(source(), CPU)
    first = next(passed)
    assert len(fetched) == 1  # a CPU gains nothing from a batch that waits
    assert [batch.indices for batch in (first, *passed)] == [batch.indices for batch in batches]
    assert torch.equal(first.images, batches[0].images)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_batches_are_whole_when_they_arrive_on_a_cuda_device(tiny):
    cuda = torch.device("cuda")
    batches = [batch.pin_memory() for batch in fit(tiny.replace(batch_size=1), progress=False).loader] * 20
    sums = [batch.images.sum() for batch in on_device(batches, cuda)]  # no waiting in between
    assert [int(value) for value in sums] == [int(batch.images.sum()) for batch in batches]


# the update


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_updates_are_fused_where_that_helps(tiny, monkeypatch, optimizer):
    model, experiment = torch.nn.Conv2d(3, 3, 1), tiny.replace(optimizer=optimizer)
    assert build_optimizer(experiment, model).defaults["fused"] is None
    monkeypatch.setattr(nnti.training.optimizer, "FUSED_DEVICES", ("cpu",))
    assert build_optimizer(experiment, model).defaults["fused"] is True
    assert build_optimizer(experiment, model.to("meta")).defaults["fused"] is None


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_checkpoint_of_another_way_to_update_goes_on(tiny, fused, tmp_path, optimizer):
    """How parameters are updated belongs to the machine; what is saved from another one must not bring it along."""
    experiment = tiny.replace(optimizer=optimizer, learning_rate=0.001)
    whole = fit(experiment, tmp_path / "whole", progress=False)
    list(whole)
    half = fit(experiment, tmp_path / "half", progress=False)
    next(iter(half))
    saved = load_checkpoint(half.run.last)
    for group in saved["optimizer"]["param_groups"]:
        group.update(fused=None, foreach=False)
    torch.save(saved, half.run.last)
    resumed = fit(experiment, tmp_path / "half", progress=False)
    assert all(group["fused"] and group["foreach"] is None for group in resumed.optimizer.param_groups)
    list(resumed)
    one, other = (load_checkpoint(run.run.last)["model"] for run in (whole, resumed))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


# compilation


def test_a_failing_compiler_is_one_warning_and_the_same_numbers(tiny, tmp_path, monkeypatch):
    list(fit(tiny, tmp_path / "eager", progress=False))

    def failing(module, **options):
        def call(*inputs):
            raise torch._dynamo.exc.InternalTorchDynamoError("no compiler\nand a long story")

        return call

    monkeypatch.setattr(torch, "compile", failing)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        list(fit(tiny.replace(compile=True), tmp_path / "compiled", progress=False))
    told = [str(warning.message) for warning in caught if "torch.compile failed" in str(warning.message)]
    assert len(told) == 1 and "(no compiler)" in told[0] and "compile=False" in told[0]
    one, other = (load_checkpoint(tmp_path / name / "last.pt")["model"] for name in ("eager", "compiled"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_errors_of_the_network_itself_are_not_hidden(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda module, **options: module)
    with pytest.raises(RuntimeError, match="channels"):
        Compiled(torch.nn.Conv2d(3, 4, 1))(torch.zeros(1, 2, 5, 5))


def test_without_a_compiler_a_module_runs_as_it_is(tmp_path):
    """For real: a compiler that does not exist, in a process of its own."""
    program = (
        "import torch\nfrom nnti.device import Compiled\n"
        "module = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.Dropout(0.5))\n"
        "x, compiled = torch.randn(2, 3, 8, 8), Compiled(module)\n"
        "torch.manual_seed(0); expected = module(x)\n"
        "torch.manual_seed(0); first = compiled(x); compiled(x).sum().backward()\n"
        "assert torch.equal(first, expected) and module[0].weight.grad is not None\n"
    )
    missing = {"CXX": "/nonexistent", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env={**os.environ, **missing}
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("RuntimeWarning") == 1 and "Sequential runs uncompiled" in done.stderr
