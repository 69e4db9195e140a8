"""Loaders, losses, the training loop and its run folder, on a tiny data set in VOC's layout."""

import json
import math
from importlib.metadata import version

import numpy as np
import pandas as pd
import pytest
import torch
from layouts import write_voc

from nnti.augment import place_report
from nnti.data import DataError
from nnti.errors import RunError, SettingError
from nnti.experiment import Experiment
from nnti.inference.evaluate import evaluate
from nnti.inference.image import predict
from nnti.loaders import load_split, train_loader, val_loader
from nnti.loss import CrossEntropy, enet_class_weights
from nnti.metrics import METRICS, ConfusionMatrix
from nnti.models.saved import load_checkpoint, load_model
from nnti.training.loop import fit
from nnti.training.optimizer import build_optimizer, poly
from nnti.training.run_folder import RunFolder, find_run

CPU = torch.device("cpu")


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Experiment:
    """Three training and two validation images; two epochs of one step."""
    write_voc(tmp_path / "data")
    monkeypatch.setenv("NNTI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NNTI_RUNS", str(tmp_path / "runs"))
    return Experiment(
        name="tiny", train_split="train", batch_size=2, epochs=2, val_every=1, keep_every=1, base_size=64,
        crop_size=48, val_size=32, precision="float32",
    )  # fmt: skip


def weights(run: RunFolder) -> dict[str, torch.Tensor]:
    return load_checkpoint(run.last)["model"]


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


# schedule and loss


def test_poly_is_the_closed_form():
    assert poly(0, 100, 1.0) == 1
    assert poly(50, 100, 1.0) == pytest.approx(0.5)
    assert poly(25, 100, 0.9) == pytest.approx(0.75**0.9)
    assert poly(100, 100, 0.9) == 0


def test_cross_entropy_equals_torchs_mean():
    logits, label = torch.randn(2, 5, 7, 9), torch.randint(0, 5, (2, 7, 9))
    label[:, :2] = 255
    for class_weights in (None, np.array([1.0, 2, 3, 4, 5])):
        tensor = None if class_weights is None else torch.tensor(class_weights, dtype=torch.float32)
        expected = torch.nn.functional.cross_entropy(logits, label, tensor, ignore_index=255)
        assert CrossEntropy(class_weights)(logits, label).mean == pytest.approx(float(expected), rel=1e-5)


def test_a_crop_that_is_all_void_gives_zero_loss_and_finite_gradients():
    for class_weights in (None, np.ones(5)):
        logits = torch.randn(1, 5, 4, 4, requires_grad=True)
        loss = CrossEntropy(class_weights)(logits, torch.full((1, 4, 4), 255)).mean
        loss.backward()
        assert loss == 0
        assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_enet_class_weights_are_the_papers():
    weights = enet_class_weights(np.array([0, 50, 950]))
    assert weights == pytest.approx([1 / math.log(1.02), 1 / math.log(1.07), 1 / math.log(1.97)])


# loaders


def test_batches_do_not_depend_on_the_number_of_workers(tiny):
    data = load_split(tiny, "train")
    batches = []
    for workers in (0, 2):
        loader = train_loader(tiny.replace(num_workers=workers), data, CPU)
        loader.sampler.set_epoch(4)
        batches.append(list(loader))
    for alone, shared in zip(*batches, strict=True):
        assert alone.indices == shared.indices
        assert torch.equal(alone.images, shared.images)
        assert torch.equal(alone.labels, shared.labels)
        assert torch.equal(alone.matrices, shared.matrices)


def test_order_changes_with_the_epoch_and_repeats_with_the_seed(tiny):
    orders = []
    for seed, epoch in ((0, 1), (0, 2), (0, 1), (1, 1)):
        sampler = train_loader(tiny.replace(seed=seed, batch_size=5), load_split(tiny, "trainval"), CPU).sampler
        sampler.set_epoch(epoch)
        orders.append([index for _, index in sampler])
    assert sorted(orders[0]) == list(range(5))
    assert orders[0] == orders[2]
    assert orders[0] != orders[1]
    assert orders[0] != orders[3]


def test_the_last_incomplete_batch_is_dropped(tiny):
    loader = train_loader(tiny, load_split(tiny, "train"), CPU)
    assert [len(batch.images) for batch in loader] == [2]


def test_a_batch_larger_than_the_split_is_refused_with_the_fix(tiny):
    with pytest.raises(SettingError, match="batch_size=8 is larger than the 3 images.*set batch_size to 3"):
        train_loader(tiny.replace(batch_size=8), load_split(tiny, "train"), CPU)


def test_limits_thin_a_split_evenly(tiny):
    names = [path.stem for path, _ in load_split(tiny, "trainval").files]
    assert [path.stem for path, _ in load_split(tiny, "trainval", 2).files] == [names[0], names[2]]
    assert len(load_split(tiny, "trainval", 99)) == 5


def test_full_protocol_never_resizes(tiny):
    data = load_split(tiny, "val")
    for (image, label), batch in zip(data, val_loader(tiny, data, CPU, "full"), strict=True):
        assert tuple(batch.size) == tuple(label.shape)
        height, width = label.shape
        assert torch.equal(batch.images[0, :, :height, :width], image)
        assert torch.equal(batch.labels[0], label)


def test_report_protocol_has_the_set_size(tiny):
    data = load_split(tiny, "val")
    (batch,) = val_loader(tiny, data, CPU, "report")
    assert batch.size == (32, 32)
    assert np.allclose(batch.matrices[0][:, :2], place_report(tuple(data[0][1].shape), (32, 32)).matrix[:, :2])


# evaluation


class Oracle(torch.nn.Module):
    """Calls every pixel class 3."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))

    def forward(self, images):
        logits = torch.zeros(images.shape[0], 21, *images.shape[-2:]) + self.weight
        logits[:, 3] = 5
        return logits


def test_evaluate_accumulates_over_the_split_at_full_size(tiny):
    data = load_split(tiny, "val")
    model = Oracle().train()
    result = evaluate(model, tiny, data, "full", progress=False)
    matrix = ConfusionMatrix(21)
    for _, label in data:
        matrix.update(torch.full_like(label, 3), label)
    expected = matrix.compute()
    assert all(result[name] == pytest.approx(expected[name], nan_ok=True) for name in METRICS)
    labels = torch.cat([label.flatten() for _, label in data])
    right = (labels == 3)[labels != 255].float().mean()
    per_pixel = right * -math.log(math.exp(5) / (math.exp(5) + 20)) + (1 - right) * math.log(math.exp(5) + 20)
    assert result["loss"] == pytest.approx(float(per_pixel), rel=1e-5)
    assert (result["protocol"], result["images"]) == ("full", 2)
    assert model.training


def test_predict_keeps_the_size_and_the_mode(tiny):
    model = Oracle().train()
    labels = predict(model, torch.zeros(3, 33, 21, dtype=torch.uint8), precision="float32")
    assert labels.shape == (33, 21)
    assert labels.dtype == torch.uint8
    assert (labels == 3).all()
    assert model.training


# the training loop


def test_a_run_leaves_everything_that_is_promised(tiny, tmp_path):
    run = fit(tiny, progress=False)
    assert len(run) == 2
    rows = list(run)
    folder = tmp_path / "runs" / "tiny"
    names = {path.name for path in folder.iterdir()} - {"run.lock"}
    assert names == {
        "experiment.json", "history.csv", "record.json", "last.pt", "previous.pt", "best.pt", "epoch_001.pt",
        "epoch_002.pt",
    }  # fmt: skip
    assert Experiment.load(folder) == tiny
    history = pd.read_csv(folder / "history.csv")
    assert list(history["epoch"]) == [0, 1, 2]
    assert history.loc[0, ["train_loss", "train_mean_iou"]].isna().all()
    assert history[[f"val_{name}" for name in ("loss", *METRICS)]].notna().all().all()
    assert [row["epoch"] for row in rows] == [1, 2]
    record = json.loads((folder / "record.json").read_text())
    assert record["finished"] is True
    assert (record["epochs"], record["data"]["train_images"], record["data"]["val_images"]) == (2, 3, 2)
    assert record["experiment"] == tiny.to_dict()
    assert set(record["validation"]) == {"report", "full"}
    assert len(record["validation"]["full"]["iou_per_class"]) == 21
    assert record["versions"]["torch"] == version("torch")
    assert record["parameters"] == 361724
    best = history["val_mean_iou"][1:].max()
    assert record["validation"]["report"]["mean_iou"] == pytest.approx(best, rel=1e-6)
    assert str(tmp_path) not in (folder / "record.json").read_text()


def test_the_same_seed_gives_the_same_bits(tiny, tmp_path):
    for name in ("a", "b"):
        list(fit(tiny, tmp_path / name, progress=False))
    list(fit(tiny.replace(seed=1), tmp_path / "c", progress=False))
    a, b, c = (RunFolder(tmp_path / name) for name in "abc")
    assert same(weights(a), weights(b))
    assert not same(weights(a), weights(c))
    timeless = [column for column in a.history() if not column.endswith("seconds")]
    pd.testing.assert_frame_equal(a.history()[timeless], b.history()[timeless])


def test_an_interrupted_run_goes_on_to_the_same_bits(tiny, tmp_path):
    list(fit(tiny, tmp_path / "whole", progress=False))
    for row in fit(tiny, tmp_path / "cut", progress=False):
        assert row["epoch"] == 1
        break
    resumed = fit(tiny, tmp_path / "cut", progress=False)
    assert len(resumed) == 1
    assert [row["epoch"] for row in resumed] == [2]
    assert same(weights(RunFolder(tmp_path / "whole")), weights(RunFolder(tmp_path / "cut")))


def test_a_finished_run_is_not_trained_again_unless_asked(tiny, capsys):
    list(fit(tiny, progress=False))
    assert list(fit(tiny, progress=False)) == []
    assert "is complete (2 of 2 epochs)" in capsys.readouterr().out
    again = fit(tiny.replace(epochs=1), restart=True, progress=False)
    assert [row["epoch"] for row in again] == [1]
    assert not (again.run.path / "epoch_002.pt").exists()  # nothing of the first run is left


def test_results_without_a_checkpoint_are_refused_and_kept(tiny, tmp_path):
    folder = tmp_path / "record_only"
    folder.mkdir()
    (folder / "record.json").write_text("{}")
    (folder / "mine.pt").write_bytes(b"not ours")
    with pytest.raises(RunError, match=r"holds record.json of a run but no last.pt"):
        fit(tiny, folder, progress=False)
    assert (folder / "record.json").read_text() == "{}"
    list(fit(tiny, folder, restart=True, progress=False))
    assert (folder / "mine.pt").read_bytes() == b"not ours"  # whatever is not a run's stays


def test_a_folder_with_another_experiment_is_refused_and_kept(tiny):
    run = fit(tiny, progress=False).run
    list(fit(tiny, progress=False))
    before = run.last.read_bytes()
    with pytest.raises(RunError, match=r"learning_rate: 0.01 → 0.1.*restart=True"):
        fit(tiny.replace(learning_rate=0.1), progress=False)
    assert run.last.read_bytes() == before


def test_learning_rate_follows_the_schedule_per_iteration(tiny, monkeypatch):
    experiment = tiny.replace(batch_size=3, power=0.9, epochs=3)
    run = fit(experiment, progress=False)
    seen = []
    step = run.optimizer.step
    monkeypatch.setattr(run.optimizer, "step", lambda *a: (seen.append(run.optimizer.param_groups[0]["lr"]), step(*a)))
    list(run)
    assert seen == pytest.approx([0.01 * (1 - i / 3) ** 0.9 for i in range(3)])


def test_class_weights_come_from_the_training_split_and_travel(tiny):
    run = fit(tiny.replace(class_weighting="enet"), progress=False)
    list(run)
    pixels = sum(torch.bincount(label[label != 255].flatten(), minlength=21) for _, label in run.train_data)
    model, checkpoint = load_model(run.run.best)
    assert checkpoint["class_weights"] == pytest.approx(enet_class_weights(pixels.numpy()), rel=1e-6)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_checkpoint(tiny):
    run = fit(tiny.replace(epochs=3), progress=False)
    rows = iter(run)
    next(rows)
    before = run.run.last.read_bytes()
    with torch.no_grad():
        next(run.model.parameters()).fill_(math.nan)
    with pytest.raises(FloatingPointError, match=r"(?s)not finite in epoch 2, step 1 of 1; .*20.*learning_rate"):
        next(rows)
    assert run.run.last.read_bytes() == before


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_trains_in_every_precision_of_the_cpu_and_learns(tiny, precision):
    experiment = tiny.replace(
        precision=precision, epochs=16, val_every=16, optimizer="adam", learning_rate=0.005, augment=False, batch_size=3
    )
    rows = list(fit(experiment, progress=False))
    assert rows[-1]["train_loss"] < 0.8 * rows[0]["train_loss"]


def test_optimizers_are_the_named_ones(tiny):
    model = torch.nn.Conv2d(3, 3, 1)
    sgd = build_optimizer(tiny, model)
    adam = build_optimizer(tiny.replace(optimizer="adam"), model)
    assert isinstance(sgd, torch.optim.SGD)
    assert sgd.defaults["momentum"] == 0.9
    assert sgd.defaults["weight_decay"] == 1e-4
    assert isinstance(adam, torch.optim.Adam)
    assert adam.defaults["betas"] == (0.9, 0.999)


# run folders and checkpoints


def test_load_model_needs_the_checkpoint_alone(tiny, tmp_path):
    run = fit(tiny, progress=False)
    list(run)
    alone = tmp_path / "elsewhere.pt"
    run.run.best.rename(alone)
    model, checkpoint = load_model(alone)
    assert checkpoint["class_names"][15] == "person"
    assert checkpoint["experiment"]["name"] == "tiny"
    assert not model.training
    assert predict(model, torch.zeros(3, 20, 30, dtype=torch.uint8)).shape == (20, 30)


def test_damaged_or_missing_files_are_named(tiny, tmp_path):
    with pytest.raises(RunError, match="nowhere.pt does not exist"):
        load_checkpoint(tmp_path / "nowhere.pt")
    (tmp_path / "bad.pt").write_bytes(b"PK\x03\x04 no checkpoint")
    with pytest.raises(RunError, match="bad.pt cannot be read"):
        load_checkpoint(tmp_path / "bad.pt")
    with pytest.raises(RunError, match="no run 'tinny'"):
        find_run("tinny")
    with pytest.raises(RunError, match=r"holds no history.csv"):
        RunFolder(tmp_path).history()


def test_a_damaged_image_is_named_while_training(tiny, tmp_path):
    image = next((tmp_path / "data").rglob("2007_000032.jpg"))
    image.write_bytes(image.read_bytes()[:200])
    with pytest.raises(DataError, match=r"2007_000032\.jpg cannot be read"):
        list(fit(tiny.replace(batch_size=3), progress=False))
