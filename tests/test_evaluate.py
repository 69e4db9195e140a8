"""Both validation protocols against PIL and numpy, the shipped network, and the check of batch normalisation."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from nnti.augment import prepare
from nnti.experiment import Experiment
from nnti.folders import home
from nnti.inference.evaluate import baselines, evaluate, normalization_gap
from nnti.loaders import load_split, val_loader
from nnti.loss import CrossEntropy
from nnti.models.saved import load_model

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
CPU = torch.device("cpu")


@pytest.fixture
def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(8, 21, 1))


@torch.no_grad()
def as_measured_by_hand(model: nn.Module, pairs, weights: np.ndarray) -> dict[str, float]:
    """Return loss, mean IoU and pixel accuracy over pairs of arrays."""
    matrix, total, weight = np.zeros((21, 21)), 0.0, 0.0
    for image, label in pairs:
        normalised = torch.tensor((image / 255 - MEAN) / STD, dtype=torch.float32).permute(2, 0, 1)[None]
        shares = model(normalised)[0].softmax(0).double().numpy()
        known = label != 255
        rows, columns = np.nonzero(known)
        total -= (weights[label[known]] * np.log(shares[label[known], rows, columns])).sum()
        weight += weights[label[known]].sum()
        np.add.at(matrix, (label[known], shares.argmax(0)[known]), 1)
    hit, union = np.diag(matrix), matrix.sum(0) + matrix.sum(1) - np.diag(matrix)
    iou = (hit[union > 0] / union[union > 0]).mean()
    return {"loss": total / weight, "mean_iou": iou, "pixel_accuracy": hit.sum() / matrix.sum()}


def pairs(dataset, size: int | None = None):
    """Read a split with PIL; with `size`, resize the shorter side to it and crop the centre."""
    for files in dataset.files:
        image, label = map(Image.open, files)
        if size is not None:
            shape = [max(size, round(side * size / min(image.size))) for side in image.size]
            left, top = ((side - size) // 2 for side in shape)
            box = (left, top, left + size, top + size)
            image = image.resize(shape, Image.Resampling.BILINEAR).crop(box)
            label = label.resize(shape, Image.Resampling.NEAREST).crop(box)
        yield np.asarray(image, dtype=np.float64), np.asarray(label)


@pytest.mark.parametrize("protocol", ["full", "report"])
def test_a_split_is_measured_as_by_hand(tiny, model, protocol):
    data, size = load_split(tiny, "trainval"), 48 if protocol == "report" else None  # larger than the images: no blur
    weights = np.linspace(1, 3, 21).astype(np.float32)
    changed = tiny.replace(val_size=48, batch_size=3)
    result = evaluate(model.train(), changed, data, protocol, CrossEntropy(weights), progress=False)
    assert all(module.training for module in model.modules())
    expected = as_measured_by_hand(model.eval(), pairs(data, size), weights)
    exact = {"rel": 1e-4} if protocol == "full" else {"abs": 0.01}  # PIL rounds to whole numbers
    for name, value in expected.items():
        assert result[name] == pytest.approx(value, **exact), name
    assert (result["protocol"], result["images"]) == (protocol, 5)


def test_answers_without_an_image_are_measured_on_what_networks_see(tiny):
    experiment = tiny.replace(val_size=48)
    data = [load_split(experiment, split) for split in ("train", "val")]
    batches = [[prepare(batch, experiment, CPU) for batch in val_loader(experiment, part, CPU)] for part in data]
    train, val = ([labels[0].numpy() for _, labels in part] for part in batches)
    seen = np.stack([[label == number for number in range(21)] for label in train]).sum(0)
    answers = {"one class": np.full((48, 48), seen.sum((1, 2)).argmax()), "by place": seen.argmax(0)}
    result = baselines(experiment, *data, progress=False)
    for name, answer in answers.items():
        hits = [[(label == answer) & (label == number) for number in range(21)] for label in val]
        unions = [[((label == number) | (answer == number)) & (label != 255) for number in range(21)] for label in val]
        hits, unions = (np.sum(counts, axis=(0, 2, 3)) for counts in (hits, unions))
        assert result[name] == pytest.approx((hits[unions > 0] / unions[unions > 0]).mean()), name
    assert result["one class"] != result["by place"]


CAMVID = next((Path(root) / "camvid" for root in [*os.environ.get("NNTI_DATA", "").split(os.pathsep), home() / "data"]
               if (Path(root) / "camvid" / "val.txt").is_file()), None)  # fmt: skip


@pytest.mark.skipif(CAMVID is None, reason="needs CamVid itself ($NNTI_DATA)")
def test_the_shipped_network_has_its_scores_on_camvid(monkeypatch):
    """Four images by both protocols, as the code measured that the committed evaluation comes from."""
    monkeypatch.setenv("NNTI_DATA", str(CAMVID.parent))
    model, checkpoint = load_model(home() / "report" / "runs" / "enet_camvid")
    experiment = Experiment.from_dict(checkpoint["experiment"]).replace(precision="float32", num_workers=0)
    data, loss = load_split(experiment, "val", 4), CrossEntropy(checkpoint["class_weights"])
    for protocol, expected in (("report", (0.362388, 0.638759, 0.920042)), ("full", (0.365835, 0.641960, 0.910050))):
        result = evaluate(model, experiment, data, protocol, loss, progress=False)
        assert [result[name] for name in ("loss", "mean_iou", "pixel_accuracy")] == pytest.approx(expected, abs=2e-4)


# batch normalisation


class Threshold(nn.Module):
    """Class 1 where the normalised red is above zero, else class 0: an answer that hangs on the statistics alone."""

    def __init__(self):
        super().__init__()
        self.norm, self.dropout = nn.BatchNorm2d(3), nn.Dropout(1.0)  # which would blank everything if it were on

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        red = self.dropout(self.norm(images))[:, :1]
        return torch.cat([-red, red, torch.full_like(red.expand(-1, 19, -1, -1), -9)], dim=1)


def test_wrong_running_statistics_are_seen_and_nothing_is_changed(tiny):
    data, model = load_split(tiny, "train"), Threshold()
    model.norm.running_mean += 50  # in eval mode everything is far below the mean: class 0, the labels' background
    model.train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = normalization_gap(model, tiny.replace(batch_size=2), data, progress=False)
    assert (found["split"], found["images"]) == ("train", 2)  # whole batches of two from three images
    assert abs(found["train_mode_mean_iou"] - found["eval_mode_mean_iou"]) > 0.01
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_statistics_that_agree_give_no_gap(tiny):
    tiny, model = tiny.replace(batch_size=2), Threshold()
    data = load_split(tiny, "train", 2)
    model.norm.momentum = 1.0  # the running statistics become those of the one batch that is checked
    (batch,) = val_loader(tiny, data, CPU, "report")
    model.train()(prepare(batch, tiny, CPU)[0])
    found = normalization_gap(model, tiny, data, progress=False)
    assert found["eval_mode_mean_iou"] == pytest.approx(found["train_mode_mean_iou"], abs=0.01)
