"""R2U-Net: the published size, the recurrence, and activation checkpointing."""

import pytest
import torch
from torch import nn

from nnti.data.miniature.cityscapes import write_miniature_cityscapes
from nnti.experiment import Experiment
from nnti.loss import CrossEntropy
from nnti.models import R2UNet, architecture_table, count_parameters
from nnti.models.r2unet import RecurrentConv, RecurrentResidualUnit
from nnti.training.loop import fit

NARROW = (6, 8, 10)


def norms(model: nn.Module) -> list[nn.BatchNorm2d]:
    return [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]


def test_parameter_count_is_the_public_implementations():
    assert count_parameters(R2UNet(19)) == 39_092_563


def test_one_norm_per_step_adds_two_parameters_per_channel_and_step():
    """Every level has a unit down and, but for the last, one up, of two recurrent convolutions each."""
    channels = 2 * (2 * (64 + 128 + 256 + 512) + 1024)
    assert count_parameters(R2UNet(19, step_norm="per_step")) == 39_092_563 + 2 * 2 * channels == 39_116_115


def test_architecture_is_the_u_of_the_paper():
    table = architecture_table(R2UNet(19), (512, 512)).set_index("name")
    sides = {"encoder1": 512, "encoder2": 256, "encoder3": 128, "encoder4": 64, "encoder5": 32}
    sides |= {"decoder4": 64, "decoder3": 128, "decoder2": 256, "decoder1": 512, "classifier": 512}
    channels = {"encoder1": 64, "encoder3": 256, "encoder5": 1024, "decoder4": 512, "decoder1": 64, "classifier": 19}
    assert {name: table.loc[name, "height"] for name in sides} == sides
    assert {name: table.loc[name, "channels"] for name in channels} == channels


@pytest.mark.parametrize("step_norm", ["shared", "per_step"])
@pytest.mark.parametrize("steps", [1, 2, 3])
def test_recurrence_follows_its_equation(steps, step_norm):
    layer, u = RecurrentConv(4, steps, step_norm).eval(), torch.randn(2, 4, 9, 11)
    for norm in layer.norms:
        nn.init.uniform_(norm.weight), nn.init.uniform_(norm.running_mean)
    assert len(layer.norms) == (steps + 1 if step_norm == "per_step" else 1)

    def f(x, step):
        norm = layer.norms[min(step, len(layer.norms) - 1)]
        x = nn.functional.conv2d(x, layer.conv.weight, layer.conv.bias, padding=1)
        x = (x - norm.running_mean.view(-1, 1, 1)) / (norm.running_var.view(-1, 1, 1) + norm.eps).sqrt()
        return (x * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)).clamp_min(0)

    expected = [f(u, 0)]
    for step in range(1, steps + 1):
        expected.append(f(u + expected[-1], step))
    for state, value in zip(layer.states(u), expected, strict=True):
        assert torch.allclose(state, value, atol=1e-5)
    assert torch.equal(layer(u), layer.states(u)[-1])


def test_unit_is_residual():
    unit, x = RecurrentResidualUnit(3, 5, 2).eval(), torch.randn(1, 3, 8, 8)
    projected = unit.project(x)
    assert torch.allclose(unit(x) - projected, unit.recurrent(projected), atol=1e-6)


def test_checkpointing_gives_the_same_gradients_and_statistics():
    torch.manual_seed(0)
    plain, saving = R2UNet(5, NARROW), R2UNet(5, NARROW, checkpoint_activations=True)
    saving.load_state_dict(plain.state_dict())
    owned = [norm.running_mean for norm in norms(saving)]
    images, label = torch.randn(2, 3, 37, 50), torch.randint(0, 5, (2, 37, 50))
    for model in (plain, saving):
        CrossEntropy()(model.train()(images), label).objective.backward()
    for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name
    for (name, one), other in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(one, other), name
    assert all(norm.running_mean is buffer for norm, buffer in zip(norms(saving), owned, strict=True))


def test_checkpointing_keeps_fewer_activations():
    def kept(model: nn.Module) -> int:
        """Bytes of activations that the graph keeps for the backward pass."""
        found: dict[int, int] = {}
        own = {parameter.data_ptr() for parameter in model.parameters()}

        def pack(tensor):
            if tensor.data_ptr() not in own:
                found[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            outputs = model.train()(torch.randn(2, 3, 32, 32))
        assert outputs.requires_grad
        return sum(found.values())

    assert kept(R2UNet(5, NARROW, checkpoint_activations=True)) < 0.5 * kept(R2UNet(5, NARROW))


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"widths": [8]}, "widths=.*two levels"),
        ({"widths": [8, 0]}, "widths="),
        ({"steps": 0}, "steps=0.*at least 1"),
        ({"step_norm": "each"}, "step_norm='each'.*shared, per_step"),
    ],
)
def test_impossible_arguments_are_refused_with_the_fix(arguments, message):
    with pytest.raises(ValueError, match=message):
        R2UNet(19, **arguments)


def test_a_norm_per_step_makes_eval_mode_the_network_that_was_trained(tmp_path, monkeypatch):
    """Train-mode and eval-mode mean IoU on the same images, after a short training, differ by less than 5 points.

    For one norm shared by all steps this is no promise: README shows what was measured.
    """
    write_miniature_cityscapes(tmp_path, train=16, val=4)
    monkeypatch.setenv("NNTI_DATA", str(tmp_path))
    experiment = Experiment.load("r2unet_cityscapes_per_step_miniature").replace(
        dataset="cityscapes",
        model_arguments={"widths": [8, 16, 32], "step_norm": "per_step"},
        crop_size=64,
        val_size=64,
        epochs=16,
        val_every=16,
        precision="float32",
    )
    run = fit(experiment, tmp_path / "run", progress=False)
    rows, health = list(run), run.run.record()["health"]
    assert rows[-1]["train_loss"] < 0.9 * rows[0]["train_loss"]
    assert health["train_mode_mean_iou"] > 2 * run.run.record()["untrained"]["val_mean_iou"]  # it has learned
    assert abs(health["train_mode_mean_iou"] - health["eval_mode_mean_iou"]) < 0.05
