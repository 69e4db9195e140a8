"""What is promised of every network, whatever its architecture."""

import pytest
import torch
from torch import nn

from nnti.loss import CrossEntropy
from nnti.models import MODELS, Outputs, architecture_table, build_model, count_parameters, final_logits, trace
from nnti.models.blocks import batch_norms

SMALL = {
    "enet": {},
    "r2unet": {"widths": [8, 12, 16, 20, 24]},
    "pspnet": {"backbone": "resnet18", "pretrained": False},
}


@pytest.fixture(params=sorted(MODELS))
def model(request) -> nn.Module:
    torch.manual_seed(0)
    return build_model(request.param, 7, SMALL[request.param])


def test_every_model_is_tested_here():
    assert sorted(SMALL) == sorted(MODELS)


@pytest.mark.parametrize("size", [(1, 1), (2, 3), (17, 31), (33, 65), (48, 64), (90, 121)])
def test_any_size_comes_back(model, size):
    with torch.inference_mode():
        assert model.eval()(torch.randn(1, 3, *size)).shape == (1, 7, *size)


def test_eval_is_deterministic_and_does_not_depend_on_the_batch(model):
    images = torch.randn(3, 3, 48, 80)
    with torch.inference_mode():
        model.train()(images)  # running statistics that are not the initial ones
        model.eval()
        together, again = model(images), model(images)
        alone = torch.cat([model(image[None]) for image in images])
        beside_others = model(torch.cat([images[2:], 9 * torch.randn(2, 3, 48, 80)]))[:1]
    assert torch.equal(together, again)
    scale = together.abs().max()
    assert (together - alone).abs().max() < 1e-4 * scale
    assert (together[2:] - beside_others).abs().max() < 1e-4 * scale


def test_every_parameter_gets_a_gradient(model):
    for norm in batch_norms(model):
        nn.init.uniform_(norm.weight, 0.5, 1.5)  # a new ResNet's blocks begin at a factor of zero
    # of two values, which is what two images leave of a 1 × 1 pyramid level, normalisation keeps the signs alone
    outputs = model.train()(torch.randn(4, 3, 65, 47))
    CrossEntropy()(outputs, torch.randint(0, 7, (4, 65, 47))).objective.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_state_dict_round_trip(model):
    with torch.no_grad():
        model.train()(torch.randn(2, 3, 40, 56))
    name = next(name for name, kind in MODELS.items() if isinstance(model, kind))
    torch.manual_seed(1)
    copy = build_model(name, 7, SMALL[name])
    images = torch.randn(1, 3, 40, 56)
    with torch.inference_mode():
        assert not torch.equal(model.eval()(images), copy.eval()(images))
        copy.load_state_dict(model.state_dict())
        assert torch.equal(model.eval()(images), copy.eval()(images))


def test_training_and_eval_mode_return_what_they_promise(model):
    images = torch.randn(2, 3, 40, 56)
    assert isinstance(model.eval()(images), torch.Tensor)
    assert model(images).shape == (2, 7, 40, 56)
    outputs = model.train()(images)
    size = (5, 7) if hasattr(model, "auxiliary") else (40, 56)  # the loss grows what has an auxiliary head beside it
    assert final_logits(outputs).shape == (2, 7, *size)
    assert isinstance(outputs, Outputs) == hasattr(model, "auxiliary")
    assert CrossEntropy()(outputs, torch.zeros(2, 40, 56, dtype=torch.long)).prediction.shape == (2, 40, 56)


def test_autocast_computes_everything_but_the_end_in_half_precision(model):
    """Between the first convolution and the last, a float32 map costs twice the time and memory."""
    seen = {}
    for block in list(model.blocks())[:-1]:
        block.module.register_forward_hook(lambda _, __, out, name=block.name: seen.update({name: out}))
    with torch.autocast("cpu", torch.bfloat16):
        model.train()(torch.randn(2, 3, 40, 56))
    last = {name: out[-1] if isinstance(out, list) else out for name, out in seen.items()}
    maps = {name: out[0] if isinstance(out, tuple) else out for name, out in last.items()}
    assert {name: map.dtype for name, map in maps.items() if map.dtype != torch.bfloat16} == {}


def test_the_table_accounts_for_every_parameter(model):
    table = architecture_table(model, (96, 128))
    assert table["parameters"].sum() == count_parameters(model)
    assert table["name"].is_unique


def test_the_table_has_the_sizes_of_a_real_forward_pass(model):
    seen, hooks = {}, []
    for block in model.blocks():
        hook = block.module.register_forward_hook(lambda _, __, out, name=block.name: seen.update({name: out}))
        hooks.append(hook)
    with torch.no_grad():
        model.train()(torch.randn(2, 3, 50, 70))
    for hook in hooks:
        hook.remove()
    for row in architecture_table(model, (50, 70)).itertuples():
        output = seen[row.name]
        output = output[-1] if isinstance(output, list) else output[0] if isinstance(output, tuple) else output
        assert output.shape[1:] == (row.channels, row.height, row.width)


def test_inputs_of_blocks_are_blocks_before_them(model):
    known = set()
    for block in model.blocks():
        assert set(block.inputs) <= known
        known.add(block.name)


def test_tracing_leaves_the_model_as_it_was(model):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.eval()
    batch_norms(model)[0].train()  # a part may be in another mode than the whole
    outputs = trace(model, (64, 96), training=False, images=3)
    architecture_table(model, (64, 96))
    assert outputs.shape == (3, 7, 64, 96) and outputs.is_meta
    assert not model.training and [norm.training for norm in batch_norms(model)[:2]] == [True, False]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())


def test_learns_to_tell_two_halves_apart(model):
    """A picture that is dark left and bright right is segmented after a few steps, in eval mode too."""
    images = torch.randn(4, 3, 32, 32) * 0.1
    images[..., 16:] += 1
    label = torch.zeros(4, 32, 32, dtype=torch.long)
    label[..., 16:] = 1
    optimizer, loss = torch.optim.Adam(model.parameters(), 3e-3), CrossEntropy()
    for _ in range(30):
        optimizer.zero_grad()
        loss(model.train()(images), label).objective.backward()
        optimizer.step()
    with torch.inference_mode():
        assert (model.eval()(images).argmax(1) == label).float().mean() > 0.9


def test_arguments_that_do_not_fit_are_named(model):
    name = next(name for name, kind in MODELS.items() if isinstance(model, kind))
    with pytest.raises(ValueError, match="has no depth; it has "):
        build_model(name, 21, {"depth": 3})
    with pytest.raises(ValueError, match="num_classes=0"):
        build_model(name, 0, SMALL[name])
