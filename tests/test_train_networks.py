"""R2U-Net and PSPNet through the same loop, loss and run folder as ENet, on a tiny data set in Cityscapes' layout."""

import pytest
import torch
from layouts import write_cityscapes

import nnti.training.loop
from nnti.data import load_dataset
from nnti.errors import SettingError
from nnti.experiment import Experiment
from nnti.models import PSPNet
from nnti.models.saved import load_checkpoint, load_model
from nnti.training.loop import fit

ARGUMENTS = {
    "enet": {},
    "r2unet": {"widths": [4, 6, 8], "checkpoint_activations": True},
    "pspnet": {"backbone": "resnet18", "pretrained": False},
}


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Experiment:
    write_cityscapes(tmp_path / "data")
    monkeypatch.setenv("NNTI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NNTI_RUNS", str(tmp_path / "runs"))
    return Experiment(
        name="tiny", dataset="cityscapes", batch_size=2, epochs=2, val_every=1, base_size=64, crop_size=32, val_size=32,
        precision="float32",
    )  # fmt: skip


@pytest.mark.parametrize("model", ARGUMENTS)
def test_every_network_trains_validates_and_is_loaded_again(tiny, model):
    experiment = tiny.replace(model=model, model_arguments=ARGUMENTS[model])
    run = fit(experiment, progress=False)
    rows = list(run)
    record = run.run.record()
    assert [row["epoch"] for row in rows] == [1, 2]
    assert record["finished"] and set(record["validation"]) == {"report", "full"}
    assert {"train_mode_mean_iou", "eval_mode_mean_iou"} <= set(record["health"])
    loaded, checkpoint = load_model(run.run.best)
    images = torch.randn(1, 3, 37, 50)
    state = load_checkpoint(run.run.best)["model"]
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())
    assert loaded(images).shape == (1, 19, 37, 50)
    assert checkpoint["class_names"] == list(load_dataset("cityscapes", "val").class_names)


def test_pspnet_goes_on_to_the_same_bits(tiny, tmp_path):
    experiment = tiny.replace(model="pspnet", model_arguments=ARGUMENTS["pspnet"])
    straight = fit(experiment, tmp_path / "straight", progress=False)
    list(straight)
    next(iter(fit(experiment, tmp_path / "halved", progress=False)))  # one epoch, then dropped
    resumed = fit(experiment, tmp_path / "halved", progress=False)
    assert len(resumed) == 1
    list(resumed)
    one, other = (load_checkpoint(run.run.last)["model"] for run in (straight, resumed))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_pretrained_weights_are_asked_for_once(tiny, monkeypatch):
    """A run that goes on, or a model that is loaded, needs no connection."""
    asked = []

    class Stub(PSPNet):
        def __init__(self, num_classes, backbone="resnet18", pretrained=True):
            asked.append(pretrained)
            super().__init__(num_classes, backbone, pretrained=False)

    monkeypatch.setitem(nnti.models.MODELS, "pspnet", Stub)
    experiment = tiny.replace(model="pspnet")
    next(iter(fit(experiment, progress=False)))
    assert asked == [True]
    run = fit(experiment, progress=False)
    list(run)
    load_model(run.run.best)
    assert asked == [True, False, False, False]


def test_a_batch_of_one_is_refused_before_anything_is_written(tiny, tmp_path):
    experiment = tiny.replace(model="pspnet", model_arguments=ARGUMENTS["pspnet"], batch_size=1)
    with pytest.raises(SettingError, match="batch_size=1: PSPNet trains on at least 2 images.*2 or more"):
        fit(experiment, progress=False)
    assert not (tmp_path / "runs").exists()
    list(fit(tiny.replace(model="r2unet", model_arguments=ARGUMENTS["r2unet"], batch_size=1, epochs=1), progress=False))
