"""ENet against the paper's Table 1 and for every input that may come."""

import pytest
import torch
from torch import nn

from nnti.models import ENet, architecture_table, build_model, count_parameters
from nnti.models.enet import Bottleneck, PReLU


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


def test_upsampling_puts_values_where_the_encoder_found_the_maxima(model):
    x = torch.randn(1, 16, 9, 11)
    pooled, indices = nn.functional.max_pool2d(x, 2, ceil_mode=True, return_indices=True)
    up = model.up5.eval()
    restored = nn.functional.max_unpool2d(pooled, indices, 2, output_size=x.shape[-2:])
    assert torch.equal(restored[restored != 0], x[restored != 0])
    assert up(torch.randn(1, 64, 5, 6), indices, (9, 11)).shape == x.shape


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_prelu_is_pytorchs(dtype, layout):
    own, theirs = PReLU(5), nn.PReLU(5)
    with torch.no_grad():
        own.weight.copy_(torch.tensor([0.25, -0.5, 0.0, 1.0, 1.7]))
    theirs.load_state_dict(own.state_dict())  # the same names
    x = torch.randn(2, 5, 7, 6).to(dtype).contiguous(memory_format=layout)
    x[..., 0] = 0
    results = []
    for module in (own.to(dtype), theirs.to(dtype)):
        given = x.clone().requires_grad_()
        out = module(given)
        out.backward(torch.arange(x.numel(), dtype=dtype).view(x.shape) / 100)
        results.append((out, given.grad, module.weight.grad))
    for mine, reference in zip(*results, strict=True):
        assert mine.dtype == reference.dtype
        assert torch.allclose(mine, reference, rtol=1e-12 if dtype == torch.float64 else 2e-2)


def test_arguments_that_do_not_fit_are_named():
    with pytest.raises(ValueError, match="ENet has no widths; it has dropout"):
        build_model("enet", 21, {"widths": 3})
    with pytest.raises(ValueError, match="num_classes=0"):
        ENet(0)
    assert isinstance(build_model("enet", 5, {"dropout": [0.0, 0.0]}).stage1[0], Bottleneck)
