"""The check of batch normalisation: batch statistics against running ones, on the same images."""

import pytest
import torch
from layouts import write_voc
from torch import nn

from nnti.augment import prepare
from nnti.experiment import Experiment
from nnti.inference.evaluate import normalization_gap
from nnti.loaders import load_split, val_loader
from nnti.models import R2UNet
from nnti.models.blocks import batch_norms, frozen_statistics


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Experiment:
    write_voc(tmp_path)
    monkeypatch.setenv("NNTI_DATA", str(tmp_path))
    return Experiment(train_split="train", batch_size=2, val_size=32, precision="float32", channels_last=False)


class Threshold(nn.Module):
    """Class 1 where the normalised red is above zero, else class 0: an answer that hangs on the statistics alone."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm2d(3, affine=True)
        self.dropout = nn.Dropout(1.0)  # would blank everything if it were switched on

    def forward(self, images):
        red = self.dropout(self.norm(images))[:, :1]
        rest = torch.full_like(red.expand(-1, 19, -1, -1), -9)
        return torch.cat([-red, red, rest], dim=1)


def state(model: nn.Module) -> dict:
    return {name: value.clone() for name, value in model.state_dict().items()}


def test_wrong_running_statistics_are_seen_and_nothing_is_changed(tiny):
    data, model = load_split(tiny, "train"), Threshold()
    model.norm.running_mean += 50  # in eval mode everything is far below the mean: class 0, the labels' background
    model.train()
    before = state(model)
    found = normalization_gap(model, tiny, data, progress=False)
    assert (found["split"], found["images"]) == ("train", 2)  # whole batches of two from three images
    assert found["train_mode_mean_iou"] != pytest.approx(found["eval_mode_mean_iou"], abs=0.01)
    assert model.training and model.norm.training and model.dropout.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_statistics_that_agree_give_no_gap(tiny):
    data, model = load_split(tiny, "train"), Threshold()
    first = normalization_gap(model, tiny, data, progress=False)
    model.norm.momentum = 1.0  # the running statistics become those of the one batch that is checked
    some = torch.utils.data.Subset(data, [0, 1])
    (batch,) = val_loader(tiny, some, torch.device("cpu"), "report")
    with torch.no_grad():
        model.train()(prepare(batch, tiny, torch.device("cpu"))[0])
    second = normalization_gap(model, tiny, data, progress=False)
    assert second["train_mode_mean_iou"] == pytest.approx(first["train_mode_mean_iou"])
    assert second["eval_mode_mean_iou"] == pytest.approx(second["train_mode_mean_iou"], abs=0.01)


@pytest.mark.parametrize("step_norm", ["shared", "per_step"])
def test_frozen_statistics_normalise_by_the_batch_and_forget(step_norm):
    model, images = R2UNet(3, (4, 6), step_norm=step_norm), torch.randn(2, 3, 16, 16)
    model.train()
    before, buffers = state(model), [norm.running_mean for norm in batch_norms(model)]
    with torch.no_grad():
        with frozen_statistics(model):
            frozen = model(images)
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
        assert all(norm.running_mean is own for norm, own in zip(batch_norms(model), buffers, strict=True))
        assert torch.equal(frozen, model(images))
    assert not torch.equal(model.state_dict()["encoder.0.recurrent.0.norms.0.running_mean"], torch.zeros(4))
