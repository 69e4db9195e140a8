"""The training loop and its batches: what is computed, when it stops, and what it says when something goes wrong."""

import dataclasses
import itertools
import json
import math
import multiprocessing
import os
import random
import re
import signal
import subprocess
import sys
import time
import weakref
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
import torch
import torch.nn.functional as F
from conftest import same_weights, timeless, train
from layouts import write_folder

from nnti.augment import prepare
from nnti.data import DataError
from nnti.errors import MachineError, RunError, SettingError
from nnti.experiment import Experiment
from nnti.loaders import load_split, train_loader, val_loader
from nnti.loss import build_loss
from nnti.metrics import METRICS, ConfusionMatrix
from nnti.models import Outputs, build_model
from nnti.models.saved import load_checkpoint, load_model
from nnti.training.loop import Fit, fit
from nnti.training.monitors import Monitor
from nnti.training.stopping import StopSignal

CPU = torch.device("cpu")
NETWORKS = {
    "enet": {"model_arguments": {"dropout": [0, 0]}, "class_weighting": "enet"},
    "r2unet": {"model_arguments": {"widths": [4, 6], "checkpoint_activations": True}, "power": 0.9},
    "pspnet": {
        "model_arguments": {"backbone": "resnet10t", "pretrained": False, "dropout": 0.0}, "backbone_factor": 0.3,
        "auxiliary_weight": 0.5,
    },
}  # fmt: skip


def at_step(run: Fit, number: int, action) -> None:
    """Do something while the number-th training step of a run is under way."""
    steps = itertools.count(1)

    def watch(model: torch.nn.Module, images: tuple) -> None:
        if model.training and next(steps) == number:
            action()

    run.model.register_forward_pre_hook(watch)


def assert_goes_on_to_the_same_bits(experiment: Experiment, stopped: Fit, whole: Fit) -> None:
    """Resume a run that was stopped: it trains the epochs that are not done, and arrives where `whole` did."""
    done = len(stopped.rows) - 1
    resumed = fit(experiment, stopped.run.path, progress=False)
    assert [row["epoch"] for row in resumed] == list(range(done + 1, experiment.epochs + 1))
    assert same_weights(whole, resumed)


# what is computed


def plain_loop(experiment: Experiment) -> tuple[torch.nn.Module, list[float], np.ndarray]:
    """Train with nothing but PyTorch; return the model, and loss and confusion matrix of the last epoch."""
    data = load_split(experiment, "trainval")
    loader = train_loader(experiment, data, CPU)
    torch.manual_seed(experiment.seed)
    model = build_model(experiment.model, 21, experiment.model_arguments).to(memory_format=torch.channels_last).train()
    rates = [experiment.learning_rate]
    groups = [{"params": list(model.parameters())}]
    if experiment.model == "pspnet":
        rates = [experiment.learning_rate * experiment.backbone_factor, experiment.learning_rate]
        rest = [value for name, value in model.named_parameters() if not name.startswith("backbone")]
        groups = [{"params": list(model.backbone.parameters())}, {"params": rest}]
    optimizer = torch.optim.SGD(groups, lr=1, momentum=0.9, weight_decay=1e-4)
    weights = None
    if experiment.class_weighting == "enet":
        labels = torch.cat([label.flatten() for _, label in data])
        share = torch.bincount(labels[labels != 255], minlength=21) / (labels != 255).sum()
        weights = 1 / torch.log(1.02 + share)
    step = 0
    for epoch in range(1, experiment.epochs + 1):
        total, weight, matrix, norms = 0.0, 0.0, np.zeros((21, 21), dtype=np.int64), []
        loader.sampler.set_epoch(epoch)
        for batch in loader:
            images, labels = prepare(batch, experiment, CPU)
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * (1 - step / (experiment.epochs * len(loader))) ** experiment.power
            outputs = model(images)
            parts = outputs if isinstance(outputs, Outputs) else [outputs]
            parts = [F.interpolate(part, labels.shape[1:], mode="bilinear", align_corners=False) for part in parts]
            losses = [F.cross_entropy(part, labels, weights, ignore_index=255) for part in parts]
            optimizer.zero_grad()
            (losses[0] + experiment.auxiliary_weight * sum(losses[1:])).backward()
            norms.append(float(torch.cat([p.grad.flatten() for p in model.parameters()]).norm()))
            optimizer.step()
            step += 1
            known = labels != 255
            pixels = float(known.sum() if weights is None else weights[labels[known]].sum())
            total, weight = total + pixels * float(losses[0].detach()), weight + pixels
            np.add.at(matrix, (labels[known].numpy(), parts[0].argmax(1)[known].numpy()), 1)
    return model, total / weight, matrix, max(norms)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_trains_like_a_plain_loop_of_pytorch_and_is_loaded_again(tiny, name):
    settings = {"batch_size": 2, "learning_rate": 0.002, "epochs": 2 if name == "r2unet" else 1, **NETWORKS[name]}
    run = train(experiment := tiny.replace(model=name, **settings))
    plain, loss, matrix, gradient = plain_loop(experiment)
    trained, row = load_checkpoint(run.run.last)["model"], run.rows[-1]
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(trained[key], value, rtol=1e-3, atol=1e-4)
    hit, union = np.diag(matrix), matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    assert row["train_loss"] == pytest.approx(loss, rel=1e-4)
    assert row["gradient_norm"] == pytest.approx(gradient, rel=1e-2)
    assert row["train_pixel_accuracy"] == pytest.approx(hit.sum() / matrix.sum(), abs=2e-3)
    assert row["train_mean_iou"] == pytest.approx((hit[union > 0] / union[union > 0]).mean(), abs=2e-3)
    record, (model, checkpoint) = run.run.record(), load_model(run.run.best)
    assert record["finished"] and set(record["validation"]) == {"report", "full"}
    assert {"train_mode_mean_iou", "eval_mode_mean_iou"} <= set(record["health"])
    assert not model.training and model(torch.randn(1, 3, 37, 50)).shape == (1, 21, 37, 50)
    assert checkpoint["class_names"][15] == "person"


def test_a_run_leaves_everything_that_is_promised_and_is_trained_again_only_if_asked(tiny, tmp_path, capsys):
    run = train(experiment := tiny.replace(keep_every=2, val_every=2))
    folder = tmp_path / "runs" / "tiny"
    assert {path.name for path in folder.iterdir()} == {
        "experiment.json", "history.csv", "record.json", "last.pt", "previous.pt", "best.pt", "epoch_002.pt", "run.lock"
    }  # fmt: skip
    assert Experiment.load(folder) == run.experiment
    history = pd.read_csv(folder / "history.csv")
    scores = [f"{split}_{name}" for split in ("train", "val") for name in ("loss", *METRICS)]
    assert list(history) == ["epoch", "learning_rate", "gradient_norm", "train_seconds", "val_seconds", *scores]
    assert list(history["epoch"]) == [0, 1, 2, 3]
    assert history.loc[0, ["train_loss", "train_mean_iou"]].isna().all()
    assert history.loc[[2, 3]].notna().all().all() and history.loc[0, scores[7:]].notna().all()
    assert history.loc[1, "val_seconds":].filter(like="val").isna().all()  # validated after 0, 2 and the last
    record = json.loads((folder / "record.json").read_text())
    assert (record["finished"], record["epochs"], record["processes"], record["seed"]) == (True, 3, 1, 0)
    assert (record["data"]["train_images"], record["data"]["val_images"]) == (5, 2)
    assert record["experiment"] == run.experiment.to_dict()
    assert len(record["validation"]["full"]["iou_per_class"]) == 21
    assert record["versions"]["torch"] == version("torch")
    assert record["parameters"] == sum(value.numel() for value in run.model.parameters())
    assert str(tmp_path) not in (folder / "record.json").read_text()

    capsys.readouterr()
    assert list(fit(experiment, progress=False)) == []
    assert "is complete (3 of 3 epochs)" in capsys.readouterr().out
    again = train(tiny.replace(epochs=1), restart=True)
    assert len(again.rows) == 2 and not again.run.kept(2).exists()  # nothing of the first run is left


def test_best_is_the_earliest_epoch_with_the_highest_mean_iou(tiny):
    run = train(tiny.replace(epochs=4, keep_every=1, learning_rate=0.1))
    ious = [row["val_mean_iou"] for row in run.rows[1:]]
    best = 1 + ious.index(max(ious))
    record, checkpoint = run.run.record(), load_checkpoint(run.run.best)
    assert record["best_epoch"] == checkpoint["epoch"] == best
    kept = load_checkpoint(run.run.kept(best))["model"]
    assert all(torch.equal(value, kept[name]) for name, value in checkpoint["model"].items())
    assert record["validation"]["report"]["mean_iou"] == checkpoint["scores"]["mean_iou"] == max(ious)


def test_the_learning_rate_follows_the_closed_form_in_each_step_and_after_an_extension(tiny, tmp_path, capsys):
    def rates(experiment: Experiment, **options) -> list[float]:
        run, seen = fit(experiment, tmp_path / "a", progress=False, **options), []
        run.optimizer.register_step_pre_hook(lambda optimizer, *_: seen.append(optimizer.param_groups[0]["lr"]))
        last = [row["learning_rate"] for row in run]
        assert last == seen[4::5]
        return seen

    short, long = tiny.replace(epochs=2, power=0.9), tiny.replace(epochs=4, power=0.9)
    assert rates(short) == pytest.approx([0.01 * (1 - step / 10) ** 0.9 for step in range(10)])
    capsys.readouterr()
    assert rates(long, extend=True) == pytest.approx([0.01 * (1 - step / 20) ** 0.9 for step in range(10, 20)])
    assert "extended from 2 to 4 epochs, so the learning rate jumps up" in capsys.readouterr().out
    record = json.loads((tmp_path / "a" / "record.json").read_text())
    assert record["extensions"] == [{"after_epoch": 2, "from_epochs": 2, "to_epochs": 4}]
    assert (record["epochs"], record["finished"]) == (4, True)


def test_the_same_seed_gives_the_same_bits_whatever_is_drawn_in_between(tiny, tmp_path):
    tiny = tiny.replace(model="enet", model_arguments={}, epochs=2, batch_size=5)  # with dropout
    a = train(tiny, tmp_path / "a")
    for _ in (b := fit(tiny, tmp_path / "b", progress=False)):
        torch.rand(7), np.random.rand(3), random.random()  # what a notebook may do between two epochs
    assert same_weights(a, b)
    assert timeless(a.rows[2]) == timeless(b.rows[2])
    first = [next(fit(tiny.replace(seed=seed), progress=False).model.parameters()) for seed in (0, 1)]
    assert not torch.equal(*first)


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_it_learns_in_half_precision_too(tiny, precision):
    settings = {"epochs": 6, "val_every": 6, "batch_size": 5, "optimizer": "adam", "learning_rate": 0.02}
    run = train(tiny.replace(precision=precision, augment=False, **settings))
    assert isinstance(run.optimizer, torch.optim.Adam) and run.optimizer.defaults["betas"] == (0.9, 0.999)
    assert run.rows[-1]["train_loss"] < 0.9 * run.rows[1]["train_loss"]
    assert run.run.record()["precision"] == precision


def test_a_step_is_never_longer_than_the_clipped_gradient(tiny):
    settings = {"clip_gradient": 0.5, "momentum": 0, "weight_decay": 0, "learning_rate": 0.1, "power": 0, "epochs": 1}
    run, weights = fit(tiny.replace(**settings), progress=False), []
    note = lambda *_: weights.append(torch.cat([p.detach().flatten() for p in run.model.parameters()]))  # noqa: E731
    run.optimizer.register_step_pre_hook(note)
    list(run)
    steps = [float((after - before).norm()) for before, after in itertools.pairwise(weights)]
    assert max(steps) == pytest.approx(0.05, rel=1e-3) and run.rows[1]["gradient_norm"] > 0.5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_no_step_makes_a_gpu_wait(tiny):
    run = fit(tiny.replace(device="cuda", num_workers=1, class_weighting="enet", epochs=1), progress=False)
    at_step(run, 2, lambda: torch.cuda.set_sync_debug_mode("error"))
    at_step(run, 5, lambda: torch.cuda.set_sync_debug_mode("default"))
    list(run)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("enet", {}),
        ("r2unet", {"widths": [4, 6], "checkpoint_activations": True, "step_norm": "per_step"}),
        ("r2unet", {"widths": [4, 6], "gates": True}),
        ("pspnet", {"backbone": "resnet10t"}),
        ("pspnet", {"backbone": "resnet10t", "aux": False, "context": "attention"}),
    ],
)
def test_steps_on_cuda_never_mix_devices(tiny, name, arguments):
    """Fake tensors know devices and shapes alone, so no GPU is needed; gradients and updates are PyTorch's own."""
    fakes = pytest.importorskip("torch._subclasses.fake_tensor", reason="private to PyTorch")
    experiment = tiny.replace(model=name, batch_size=2, class_weighting="enet")
    data, cuda = load_split(experiment, "trainval"), torch.device("cuda:0")
    batches = [next(iter(train_loader(experiment, data, CPU))), next(iter(val_loader(experiment, data, CPU, "full")))]
    model, loss = build_model(name, 21, arguments), build_loss(experiment, data, False)
    with fakes.FakeTensorMode(allow_non_fake_inputs=True) as mode:
        for module in [*model.modules(), *loss.modules()]:  # `to` refuses fake tensors
            for key, value in list(module.named_parameters(recurse=False)):
                setattr(module, key, torch.nn.Parameter(mode.from_tensor(value.data).to(cuda)))
            for key, value in list(module.named_buffers(recurse=False)):
                setattr(module, key, mode.from_tensor(value).to(cuda))
        for batch, training in zip(batches, (True, False), strict=True):
            tensors = {key: mode.from_tensor(value) for key, value in vars(batch).items() if torch.is_tensor(value)}
            with torch.set_grad_enabled(training):
                images, labels = prepare(dataclasses.replace(batch, **tensors), experiment, cuda)
                found = loss(model.train(training)(images), labels)
            matrix = ConfusionMatrix(21)
            matrix.update(found.prediction, labels)
            assert {found.total.device, found.prediction.device, matrix.counts().device} == {cuda}
        with pytest.raises(RuntimeError, match="device"):
            loss(model(images), labels.cpu())


def test_a_run_begins_with_the_weights_of_another_and_says_what_is_new(tiny, whole, tmp_path, capsys):
    own = {"dataset": "folder", "dataset_arguments": {"root": str(write_folder(tmp_path / "own"))}}
    experiment = tiny.replace(**own, train_split="train", initial_weights=str(whole.run.path), epochs=1)
    run = fit(experiment, tmp_path / "a", progress=False)
    assert "not taken over: head.weight, head.bias\n" in capsys.readouterr().out
    before, began = load_checkpoint(whole.run.best)["model"], run.model.state_dict()
    assert {key for key in began if not torch.equal(began[key], before.get(key))} == {"head.weight", "head.bias"}
    list(run)
    weights = run.run.record()["weights"]
    assert weights["file"] == f"{whole.run.path.name}/best.pt"
    assert weights["not_taken_over"] == ["head.weight", "head.bias"]
    whole.run.path.rename(tmp_path / "gone")  # a run that goes on does not need it
    try:
        assert len(train(experiment.replace(epochs=2), tmp_path / "a", extend=True).rows) == 3
    finally:
        (tmp_path / "gone").rename(whole.run.path)
    names = ("tree", "ground", "car")  # equally many classes in another order
    moved = experiment.replace(initial_weights=str(run.run.path), dataset_arguments={**own["dataset_arguments"],
                               "classes": names})  # fmt: skip
    assert fit(moved, tmp_path / "c", progress=False).model.weights["not_taken_over"] == ["head.weight", "head.bias"]
    with pytest.raises(RunError, match="own is no run: it holds classes.txt"):
        fit(experiment, tmp_path / "own", restart=True, progress=False)
    with pytest.raises(RunError, match="model=r2unet, not of enet"):
        fit(experiment.replace(model="enet", model_arguments={}), tmp_path / "b", progress=False)


# batches


def test_batches_do_not_depend_on_the_number_of_reading_processes(tiny):
    batches = []
    for workers in (0, 2):
        loader = train_loader(tiny.replace(num_workers=workers, batch_size=2), load_split(tiny, "trainval"), CPU)
        loader.sampler.set_epoch(4)
        batches.append(list(loader))
        assert len(loader) == len(batches[-1]) == 2  # the last, incomplete batch is dropped
    for alone, shared in zip(*batches, strict=True):
        assert alone.indices == shared.indices
        for name in ("images", "labels", "matrices"):
            assert torch.equal(getattr(alone, name), getattr(shared, name))


def test_the_order_depends_on_seed_and_epoch_and_may_begin_in_the_middle(tiny):
    def order(seed: int, *place: int) -> list[int]:
        loader = train_loader(tiny.replace(seed=seed), load_split(tiny, "trainval"), CPU)
        loader.sampler.set_epoch(*place)
        return [batch.indices[0] for batch in loader]

    assert sorted(order(0, 1)) == list(range(5))
    assert order(0, 1) == order(0, 1) and order(0, 1) != order(0, 2) and order(0, 1) != order(1, 1)
    assert order(0, 1, 3) == order(0, 1)[3:] and order(0, 1, 5) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 8}, "batch_size=8 is larger than the 5 images.*set batch_size to 5"),
        ({"model": "pspnet", **NETWORKS["pspnet"]}, "PSPNet trains on at least 2 images.*set batch_size to 2"),
    ],
)
def test_an_impossible_batch_is_refused_before_anything_is_written(tiny, tmp_path, settings, message):
    with pytest.raises(SettingError, match=message):
        fit(tiny.replace(**settings), progress=False)
    assert not (tmp_path / "runs").exists()


# when something goes wrong


def test_a_loss_that_is_not_finite_stops_the_training_and_names_the_images(tiny, tmp_path):
    run = fit(tiny.replace(checkpoint_every="1 step"), progress=False)
    at_step(run, 8, lambda: torch.nn.init.constant_(next(run.model.parameters()), math.nan))
    with pytest.raises(FloatingPointError, match="the loss is not finite in epoch 2, step 3 of 5.*") as error:
        list(run)
    loader = train_loader(tiny, run.train_data, CPU)
    loader.sampler.set_epoch(2)
    (index,) = list(loader)[2].indices
    assert str(run.train_data.files[index][0]) in str(error.value) and "learning_rate" in str(error.value)
    saved = load_checkpoint(run.run.last)
    assert (saved["epoch"], saved["partial"]["step"]) == (1, 2)
    assert all(value.isfinite().all() for value in saved["model"].values())


def test_weights_that_are_not_finite_are_never_saved(tiny):
    """The last update of an epoch may spoil the weights after losses that were still numbers."""
    run, updates = fit(tiny, progress=False), itertools.count(1)
    spoil = lambda *_: next(updates) == 10 and torch.nn.init.constant_(next(run.model.parameters()), math.inf)  # noqa: E731
    run.optimizer.register_step_post_hook(spoil)
    with pytest.raises(FloatingPointError, match="weights are not finite in epoch 2(.*\n)*.*last.pt was saved before"):
        list(run)
    assert load_checkpoint(run.run.last)["epoch"] == 1
    assert run.run.record()["epochs"] == 1


def test_lack_of_memory_names_the_settings_frees_the_step_and_the_run_goes_on(tiny, tmp_path, whole):
    run, held = fit(tiny, tmp_path / "cut", progress=False), []

    def allocate() -> None:
        activations = torch.zeros(1000, 1000)
        held.append(weakref.ref(activations))
        torch.empty(2**60, dtype=torch.uint8)

    at_step(run, 8, allocate)
    with pytest.raises(MachineError, match=r"(?s)Out of memory.*batch_size.*crop_size.*precision") as error:
        list(run)
    assert held[0]() is None and error.value.__cause__ is None  # a notebook keeps the error, and what hangs on it
    assert_goes_on_to_the_same_bits(tiny, run, whole)


def test_a_reading_process_that_dies_is_said_in_plain_words(tiny):
    run = fit(tiny.replace(num_workers=1), progress=False)
    at_step(run, 2, lambda: [child.kill() for child in multiprocessing.active_children()])
    with pytest.raises(MachineError, match=r"(?s)process that reads data died.*num_workers=0.*shm-size"):
        list(run)


def test_a_damaged_image_is_named_as_plainly_from_a_reading_process(tiny, tmp_path):
    image = next((tmp_path / "data").rglob("2007_000032.jpg"))
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(DataError, match=r"2007_000032\.jpg") as error:
        train(tiny.replace(num_workers=1))
    assert "Traceback" not in str(error.value) and "worker" not in str(error.value)


# stopping


@pytest.fixture(autouse=True)
def interrupts():
    """Tests in the background of a shell find SIGINT ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("how", ["SIGINT", "SIGTERM", "stop"])
def test_a_request_to_stop_waits_for_the_step_and_the_run_goes_on_to_the_same_bits(tiny, tmp_path, whole, how, capsys):
    run = fit(tiny, tmp_path / "cut", progress=False)
    at_step(run, 8, run.stop if how == "stop" else lambda: os.kill(os.getpid(), signal.Signals[how]))
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(SystemExit if how == "SIGTERM" else KeyboardInterrupt) as stopped:
        list(run)
    said = capsys.readouterr().err if how == "SIGTERM" else str(stopped.value)
    assert "stopped in epoch 2 of 3 after step 3 of 5; saved in" in said
    assert how != "SIGTERM" or stopped.value.code == 143
    assert handlers == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    saved = load_checkpoint(run.run.last)
    assert (saved["epoch"], saved["partial"]["step"]) == (1, 3)
    assert_goes_on_to_the_same_bits(tiny, run, whole)


def test_an_interrupt_during_validation_loses_no_step(tiny, tmp_path, whole):
    class Impatient(Monitor):
        """Presses Ctrl-C when the second validation begins."""

        def phase(self, run: Fit, text: str) -> None:
            if text and run.state.step == 5:
                raise KeyboardInterrupt

    run = fit(tiny, tmp_path / "cut", progress=False)
    run.monitors.members.append(Impatient())
    with pytest.raises(KeyboardInterrupt):
        list(run)
    assert load_checkpoint(run.run.last)["partial"]["step"] == 5
    assert_goes_on_to_the_same_bits(tiny, run, whole)


def test_a_second_signal_breaks_off_at_once_and_an_ignored_one_stays_ignored():
    with pytest.raises(KeyboardInterrupt), StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number == signal.SIGINT
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)
        pytest.fail("the second signal was ignored")
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # as under nohup
    with StopSignal() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.number is None


def test_reading_processes_survive_the_interrupt_of_the_terminal(tiny):
    loader = iter(train_loader(tiny.replace(num_workers=1), load_split(tiny, "trainval"), CPU))
    next(loader)
    for child in multiprocessing.active_children():
        os.kill(child.pid, signal.SIGINT)
    assert len(list(loader)) == 4


def test_the_command_line_stops_without_a_traceback_and_says_how_to_go_on(tiny, tmp_path):
    tiny.replace(epochs=4000, val_every=4000).save(tmp_path / "tiny.json")
    command = [sys.executable, "-m", "nnti", "train", str(tmp_path / "tiny.json"), "--quiet"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert "epoch 1/4000" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert re.search("resumes from|run the same command again", said)  # the latter between two epochs
    assert "Traceback" not in said
