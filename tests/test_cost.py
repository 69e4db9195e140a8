"""What networks cost: counts against hand-made ones, bytes against files, memory against arithmetic, and time."""

import copy

import pytest
import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from nnti.inference.speed import measure_latency
from nnti.models import ENet, R2UNet, count_parameters
from nnti.models.cost import (
    COUNTED,
    checkpoint_bytes,
    count_operations,
    measure_training_memory,
    sgd,
    weight_bytes,
)
from nnti.models.r2unet import RecurrentConv

HEIGHT, WIDTH = 6, 10


class Chain(nn.Module):
    """A 1×1 convolution and `depth` units of a convolution and three sigmoids, which can be computed again."""

    def __init__(self, depth: int, recompute: bool = False):
        super().__init__()
        self.first, self.recompute = nn.Conv2d(3, 8, 1), recompute
        sigmoids = [nn.Sigmoid() for _ in range(3)]
        self.units = nn.ModuleList(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), *sigmoids) for _ in range(depth))

    def forward(self, x):
        x = self.first(x)
        for unit in self.units:
            x = checkpoint(unit, x, use_reentrant=False) if self.recompute else unit(x)
        return x


def memory(model, size=(32, 32), batch_size=2, precision="float32", **options) -> int:
    return measure_training_memory(model, size, batch_size, "cpu", precision=precision, **options).peak


# operations


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (nn.Conv2d(3, 8, 3, stride=2, padding=1), 3 * 5 * 8 * 3 * 9),
        (nn.Conv2d(3, 6, (5, 1), padding=(2, 0), groups=3), HEIGHT * WIDTH * 6 * 1 * 5),
        (nn.Conv2d(3, 4, 3, padding=2, dilation=2), HEIGHT * WIDTH * 4 * 3 * 9),
        (nn.ConvTranspose2d(3, 5, 2, stride=2), HEIGHT * WIDTH * 3 * 5 * 4),
        (nn.Sequential(nn.Flatten(), nn.Linear(3 * HEIGHT * WIDTH, 7)), 3 * HEIGHT * WIDTH * 7),
        (nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 3, 1)), HEIGHT * WIDTH * (6 + 6)),
        (RecurrentConv(3, 2, "shared"), 3 * HEIGHT * WIDTH * 3 * 3 * 9),  # one convolution that runs three times
    ],
)
def test_multiply_adds_are_those_counted_by_hand(model, expected):
    assert count_operations(model, (HEIGHT, WIDTH)).multiply_adds == expected


def test_enet_costs_what_its_paper_says_and_is_left_as_it_was():
    """3.83 GFLOPs at 640 × 360 (arXiv:1606.02147, section 5), two for each multiply-add."""
    model = ENet(19).train()
    before = copy.deepcopy(model.state_dict())
    counted = count_operations(model, (360, 640))
    assert 2 * counted.multiply_adds == pytest.approx(3.83e9, rel=0.1)
    assert sum(counted.per_block.values()) == counted.multiply_adds
    assert model.training and all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


# bytes


@pytest.mark.parametrize("optimizer", [sgd, lambda model: torch.optim.Adam(model.parameters())])
def test_bytes_are_those_of_files_after_a_training_step(tmp_path, optimizer):
    model = ENet(5)
    before = copy.deepcopy(model.state_dict())
    weights, whole = weight_bytes(model), checkpoint_bytes(model, optimizer)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    stepped = optimizer(model)
    model(torch.randn(2, 3, 32, 32)).sum().backward()
    stepped.step()
    path = tmp_path / "archive.pt"  # the file's stem is written into it as well
    torch.save(model.state_dict(), path)
    assert weights == path.stat().st_size
    torch.save({"model": model.state_dict(), "optimizer": stepped.state_dict()}, path)
    assert whole == path.stat().st_size


# memory


def test_weights_gradients_and_momentum_take_twelve_bytes_a_parameter():
    model = nn.Sequential(nn.Conv2d(3, 400, 15, padding=7), nn.Conv2d(400, 2, 15, padding=7))
    parameters = count_parameters(model)
    assert memory(model, (1, 1)) == pytest.approx(12 * parameters, rel=0.02)
    plain = memory(model, (1, 1), optimizer=lambda model: torch.optim.SGD(model.parameters(), 0.1))
    assert memory(model, (1, 1)) - plain == pytest.approx(4 * parameters, rel=0.001)
    frozen = sum(parameter.numel() for parameter in model[0].requires_grad_(False).parameters())
    assert memory(model, (1, 1)) == pytest.approx(12 * parameters - 8 * frozen, rel=0.02)


def test_each_map_that_is_kept_for_the_backward_pass_counts_once():
    """A sigmoid's output is kept for its own backward pass; a unit that is computed again keeps its input alone."""
    one_map = 2 * 8 * 32 * 32 * 4  # (2, 8, 32, 32) in float32
    step = 12 * (8 * 8 * 9 + 8)  # a unit's weights, gradients and momentum
    for recompute, kept in ((False, 3), (True, 1)):
        assert memory(Chain(9, recompute)) - memory(Chain(5, recompute)) == 4 * (kept * one_map + step)
    all_maps, inputs_of_units, one_unit = 1 + 5 * 3, 5, 3  # one unit at a time is computed again
    assert memory(Chain(5)) - memory(Chain(5, recompute=True)) == (all_maps - inputs_of_units - one_unit) * one_map


def test_half_precision_halves_the_activations():
    model, size = R2UNet(5, (8, 16)), (64, 96)
    without = 12 * count_parameters(model)
    half = measure_training_memory(model, size, 2, "cpu", precision="bfloat16")
    assert 0.5 < (half.peak - without) / (memory(model, size) - without) < 0.75  # the loss stays in float32
    assert (half.precision, half.method) == ("bfloat16", COUNTED)


# time


def test_every_form_of_a_network_is_timed():
    pytest.importorskip("onnxruntime")
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).train()
    forms = measure_latency(model, (24, 48), "cpu", precision="bfloat16")
    assert list(forms) == ["eager", "deployed", "ONNX Runtime"]
    for found in forms.values():
        assert 0 < found.low <= found.median <= found.high and found.per_second == 1 / found.median
    assert model.training
