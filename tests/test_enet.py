"""ENet against the paper's Table 1 and for every input that may come."""

import pytest
import torch
from torch import nn

from nnti.models import ENet, architecture_table, build_model, count_parameters
from nnti.models.enet import Bottleneck


@pytest.fixture
def model():
    torch.manual_seed(0)
    return ENet(21)


def test_parameter_count_is_the_papers(model):
    assert round(count_parameters(model) / 1e6, 2) == 0.36


def test_sizes_for_512_are_those_of_table_1(model):
    table = architecture_table(model, (512, 512)).set_index("name")
    rows = {
        "initial": (16, 256), "bottleneck1.0": (64, 128), "bottleneck1.4": (64, 128), "bottleneck2.0": (128, 64),
        "bottleneck2.8": (128, 64), "bottleneck3.8": (128, 64), "bottleneck4.0": (64, 128), "bottleneck4.2": (64, 128),
        "bottleneck5.0": (16, 256), "bottleneck5.1": (16, 256), "fullconv": (21, 512),
    }  # fmt: skip
    for name, (channels, side) in rows.items():
        assert tuple(table.loc[name, ["channels", "height", "width"]]) == (channels, side, side)
    types = list(
        table["type"][
            ["bottleneck2.2", "bottleneck2.3", "bottleneck2.4", "bottleneck2.6", "bottleneck2.7", "bottleneck3.8"]
        ]
    )
    assert types == ["dilated 2", "asymmetric 5", "dilated 4", "dilated 8", "asymmetric 5", "dilated 16"]
    assert len(table) == 29


def test_the_table_accounts_for_every_parameter(model):
    assert architecture_table(model)["parameters"].sum() == count_parameters(model)


def test_the_table_leaves_the_model_as_it_was(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.train()
    architecture_table(model, (64, 96))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_dropout_activations_and_bias_follow_the_paper(model):
    def rates(module):
        return {m.p for m in module.modules() if isinstance(m, nn.Dropout2d)}

    def has(module, kind):
        return any(isinstance(m, kind) for m in module.modules())

    assert rates(model.down1) == rates(model.stage1) == {0.01}
    assert (
        rates(model.down2)
        == rates(model.stage2)
        == rates(model.stage3)
        == rates(model.up4)
        == rates(model.stage5)
        == {0.1}
    )
    assert all(has(part, nn.PReLU) for part in (model.initial, model.stage1, model.stage2, model.stage3))
    assert not any(has(part, nn.PReLU) for part in (model.up4, model.stage4, model.up5, model.stage5))
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    assert all(conv.bias is None for conv in convolutions)


@pytest.mark.parametrize("size", [(1, 1), (3, 2), (5, 7), (33, 65), (97, 101), (64, 48), (360, 480), (375, 500)])
def test_any_size_comes_back(model, size):
    with torch.inference_mode():
        assert model.eval()(torch.randn(1, 3, *size)).shape == (1, 21, *size)


def test_every_parameter_gets_a_gradient(model):
    logits = model.train()(torch.randn(2, 3, 65, 47))
    nn.functional.cross_entropy(logits, torch.randint(0, 21, (2, 65, 47))).backward()
    without = [
        name for name, parameter in model.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert without == []


def test_eval_is_deterministic_and_does_not_depend_on_the_batch(model):
    images = torch.randn(3, 3, 64, 80)
    with torch.inference_mode():
        model.train()(images)  # running statistics that are not the initial ones
        model.eval()
        together, again = model(images), model(images)
        alone = torch.cat([model(image[None]) for image in images])
    assert torch.equal(together, again)
    assert torch.allclose(together, alone, atol=1e-4)


def test_upsampling_puts_values_where_the_encoder_found_the_maxima(model):
    x = torch.randn(1, 16, 9, 11)
    pooled, indices = nn.functional.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    up = model.up5.eval()
    restored = nn.functional.max_unpool2d(pooled, indices, 2, output_size=x.shape[-2:])
    assert torch.equal(restored[restored != 0], x[restored != 0])
    assert up(torch.randn(1, 64, 5, 6), indices, (9, 11)).shape == x.shape


def test_state_dict_round_trip(model):
    copy = ENet(21)
    copy.load_state_dict(model.state_dict())
    images = torch.randn(1, 3, 40, 56)
    with torch.inference_mode():
        assert torch.equal(model.eval()(images), copy.eval()(images))


def test_learns_to_tell_two_halves_apart(model):
    """A picture that is dark left and bright right is segmented after a few steps."""
    torch.manual_seed(0)
    model = ENet(2)
    images = torch.randn(4, 3, 64, 64) * 0.1
    images[..., 32:] += 1
    label = torch.zeros(4, 64, 64, dtype=torch.long)
    label[..., 32:] = 1
    optimizer = torch.optim.Adam(model.parameters(), 5e-3)
    for _ in range(25):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), label)
        loss.backward()
        optimizer.step()
    assert (model(images).argmax(1) == label).float().mean() > 0.9


def test_arguments_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="widths.*help"):
        build_model("enet", 21, {"widths": 3})
    with pytest.raises(ValueError, match="num_classes=0"):
        ENet(0)
    assert isinstance(build_model("enet", 5, {"dropout": [0.0, 0.0]}).stage1[0], Bottleneck)
