"""The networks: what is promised of all of them, then each against its paper."""

import copy
import hashlib
import json

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import nn

from nnti.augment import MEAN, STD
from nnti.errors import SettingError, WeightsError
from nnti.inference.image import predict
from nnti.loss import CrossEntropy
from nnti.models import (
    ENet,
    Outputs,
    PSPNet,
    R2UNet,
    architecture_table,
    build_model,
    count_parameters,
    final_logits,
    trace,
)
from nnti.models.attention import AttentionGate, PyramidAttention
from nnti.models.blocks import batch_norms, frozen_statistics, watched
from nnti.models.enet import PReLU
from nnti.models.pspnet import PyramidPooling
from nnti.models.r2unet import RecurrentConv, RecurrentResidualUnit

VARIANTS = [
    ("enet", {}),
    ("r2unet", {"widths": [4, 5, 6, 7, 8]}),
    ("r2unet", {"widths": [4, 6], "step_norm": "per_step"}),
    ("pspnet", {"backbone": "resnet10t"}),
    ("r2unet", {"widths": [4, 6], "gates": True}),
    ("pspnet", {"backbone": "resnet10t", "aux": False}),
    ("pspnet", {"backbone": "resnet10t", "context": "attention"}),
]


@pytest.fixture(params=VARIANTS, ids=lambda variant: " ".join([variant[0], *map(str, variant[1].values())]))
def model(request) -> nn.Module:
    torch.manual_seed(0)
    return build_model(request.param[0], 7, request.param[1])


def maps_of(model: nn.Module, images: torch.Tensor) -> dict[str, torch.Tensor]:
    """The map that each block of a model gives in training mode."""
    modules = {block.name: block.module for block in model.blocks()}
    with torch.no_grad(), watched(modules) as calls:
        model.train()(images)
    seen = {name: out for name, (_, out) in calls.items()}
    first = {name: out[-1] if isinstance(out, list) else out for name, out in seen.items()}
    return {name: out[0] if isinstance(out, tuple) else out for name, out in first.items()}


# all networks


def test_any_size_comes_back_and_training_gives_both_heads(model):
    with torch.inference_mode():
        for size in ((1, 1), (2, 3), (17, 31), (33, 65), (48, 64)):
            assert model.eval()(torch.randn(1, 3, *size)).shape == (1, 7, *size)
    auxiliary = getattr(model, "auxiliary", None) is not None
    outputs = model.train()(torch.randn(2, 3, 40, 56))
    assert isinstance(outputs, Outputs) == auxiliary
    assert final_logits(outputs).shape == (2, 7, *((5, 7) if auxiliary else (40, 56)))


def test_eval_is_deterministic_and_does_not_depend_on_the_batch(model):
    images = torch.randn(3, 3, 48, 80)
    with torch.inference_mode():
        model.train()(images)  # running statistics that are not the initial ones
        together, again = model.eval()(images), model(images)
        alone = torch.cat([model(image[None]) for image in images])
    assert torch.equal(together, again)
    assert (together - alone).abs().max() < 1e-4 * together.abs().max()


def test_every_parameter_gets_a_gradient(model):
    for norm in batch_norms(model):
        nn.init.uniform_(norm.weight, 0.5, 1.5)  # a new ResNet's blocks begin at a factor of zero
    # of two values, which is what two images leave of a 1 × 1 pyramid level, normalisation keeps the signs alone
    outputs = model.train()(torch.randn(4, 3, 65, 47))
    CrossEntropy()(outputs, torch.randint(0, 7, (4, 65, 47))).objective.backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_autocast_computes_everything_but_the_end_in_half_precision(model):
    """Between the first convolution and the last, a float32 map costs twice the time and memory."""
    with torch.autocast("cpu", torch.bfloat16):
        maps = maps_of(model, torch.randn(2, 3, 40, 56))
    assert {out.dtype for out in list(maps.values())[:-1]} == {torch.bfloat16}


def test_the_table_shows_a_real_forward_pass_and_accounts_for_every_parameter(model):
    table, known = architecture_table(model, (50, 70)), set()
    maps = maps_of(model, torch.randn(2, 3, 50, 70))
    for row in table.itertuples():
        assert maps[row.name].shape[1:] == (row.channels, row.height, row.width)
    for block in model.blocks():
        assert set(block.inputs) <= known  # inputs come before their readers
        known.add(block.name)
    assert table["name"].is_unique and table["parameters"].sum() == count_parameters(model)


def test_tracing_and_frozen_statistics_leave_the_model_as_it_was(model):
    def changed() -> bool:
        return any(not torch.equal(value, before[name]) for name, value in model.state_dict().items())

    before = {name: value.clone() for name, value in model.state_dict().items()}
    batch_norms(model.eval())[0].train()  # a part may be in another mode than the whole
    outputs = trace(model, (64, 96), training=False, images=3)
    architecture_table(model, (64, 96))
    assert outputs.shape == (3, 7, 64, 96) and outputs.is_meta
    assert not model.training and [norm.training for norm in batch_norms(model)[:2]] == [True, False]
    images = torch.randn(2, 3, 32, 48)
    with torch.no_grad(), frozen_statistics(model):
        model.train()(images)
    assert not changed()
    model(images)
    assert changed()


@pytest.mark.parametrize("model", [VARIANTS[0], VARIANTS[2], VARIANTS[3]], indirect=True)
def test_learns_to_tell_two_halves_apart(model):
    """A picture that is dark left and bright right is segmented after a few steps, in eval mode too."""
    images = torch.randn(2, 3, 32, 32) * 0.1
    images[..., 16:] += 1
    label = torch.zeros(2, 32, 32, dtype=torch.long)
    label[..., 16:] = 1
    optimizer, loss = torch.optim.Adam(model.parameters(), 1e-2), CrossEntropy()
    for _ in range(25):
        optimizer.zero_grad()
        loss(model.train()(images), label).objective.backward()
        optimizer.step()
    with torch.inference_mode():
        assert (model.eval()(images).argmax(1) == label).float().mean() > 0.85


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: build_model("unet", 3), "model='unet'.*enet, r2unet, pspnet"),
        (lambda: build_model("enet", 3, {"widths": 3}), "model_arguments=.*widths"),
        (lambda: build_model("r2unet", 3, {"step_norm": "each"}), "'step_norm': 'each'.*do not fit"),
        (lambda: build_model("pspnet", 3, {"backbone": "resnet5"}), "resnet5.*timm.list_models"),
        (lambda: build_model("pspnet", 3, {"backbone": "vgg11"}), "'vgg11'.*output_stride 8.*ResNets"),
    ],
)
def test_impossible_arguments_are_refused_with_the_fix(build, message):
    with pytest.raises(SettingError, match=message):
        build()


# ENet


def test_enet_has_the_sizes_and_types_of_the_papers_table_1():
    with torch.device("meta"):
        model = ENet(21)
    assert count_parameters(model) == 361_724
    table = architecture_table(model, (512, 512)).set_index("name")
    rows = {
        "initial": (16, 256), "bottleneck1.0": (64, 128), "bottleneck1.4": (64, 128), "bottleneck2.0": (128, 64),
        "bottleneck2.8": (128, 64), "bottleneck3.8": (128, 64), "bottleneck4.0": (64, 128), "bottleneck4.2": (64, 128),
        "bottleneck5.0": (16, 256), "bottleneck5.1": (16, 256), "fullconv": (21, 512),
    }  # fmt: skip
    for name, (channels, side) in rows.items():
        assert tuple(table.loc[name, ["channels", "height", "width"]]) == (channels, side, side)
    types = ["", "dilated 2", "asymmetric 5", "dilated 4", "", "dilated 8", "asymmetric 5", "dilated 16"]
    for stage in "23":
        assert [table.loc[f"bottleneck{stage}.{number}", "type"] for number in range(1, 9)] == types
    assert len(table) == 29


def test_enets_dropout_and_activations_follow_the_paper():
    model = ENet(21)

    def rates(*parts):
        return {m.p for part in parts for m in part.modules() if isinstance(m, nn.Dropout2d)}

    def has_prelu(part):
        return any(isinstance(m, nn.PReLU) for m in part.modules())

    assert rates(model.down1, model.stage1) == {0.01}
    assert rates(model.down2, model.stage2, model.stage3, model.up4, model.stage4, model.up5, model.stage5) == {0.1}
    assert all(map(has_prelu, (model.initial, model.down1, model.stage1, model.stage2, model.stage3)))
    assert not any(map(has_prelu, (model.up4, model.stage4, model.up5, model.stage5)))


@pytest.mark.parametrize(
    ("dtype", "layout"), [(torch.float64, torch.channels_last), (torch.bfloat16, torch.contiguous_format)]
)
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


# R2U-Net


def test_r2unet_has_the_size_of_the_public_implementation_and_the_u_of_the_paper():
    with torch.device("meta"):
        model, per_step = R2UNet(19), R2UNet(19, step_norm="per_step")
    assert count_parameters(model) == 39_092_563
    # each level has a unit down and, but for the last, one up, of two recurrent convolutions each; 2 further steps
    channels = 2 * (2 * (64 + 128 + 256 + 512) + 1024)
    assert count_parameters(per_step) == 39_092_563 + 2 * 2 * channels
    table = architecture_table(model, (512, 512)).set_index("name")
    sides = {"encoder1": 512, "encoder2": 256, "encoder3": 128, "encoder4": 64, "encoder5": 32}
    sides |= {"decoder4": 64, "decoder3": 128, "decoder2": 256, "decoder1": 512, "classifier": 512}
    channels = {"encoder1": 64, "encoder3": 256, "encoder5": 1024, "decoder4": 512, "decoder1": 64, "classifier": 19}
    assert {name: table.loc[name, "height"] for name in sides} == sides
    assert {name: table.loc[name, "channels"] for name in channels} == channels


@pytest.mark.parametrize(("steps", "step_norm"), [(1, "shared"), (3, "shared"), (2, "per_step")])
def test_the_recurrence_follows_its_equation_and_units_are_residual(steps, step_norm):
    layer, u = RecurrentConv(4, steps, step_norm).eval(), torch.randn(2, 4, 9, 11)
    for norm in layer.norms:
        nn.init.uniform_(norm.weight), nn.init.uniform_(norm.running_mean)
    assert len(layer.norms) == (steps + 1 if step_norm == "per_step" else 1)

    def f(x, step):
        norm = layer.norms[min(step, len(layer.norms) - 1)]
        x = F.conv2d(x, layer.conv.weight, layer.conv.bias, padding=1)
        x = (x - norm.running_mean.view(-1, 1, 1)) / (norm.running_var.view(-1, 1, 1) + norm.eps).sqrt()
        return (x * norm.weight.view(-1, 1, 1) + norm.bias.view(-1, 1, 1)).clamp_min(0)

    expected = [f(u, 0)]
    for step in range(1, steps + 1):
        expected.append(f(u + expected[-1], step))
    for state, value in zip(layer.states(u), expected, strict=True):
        assert torch.allclose(state, value, atol=1e-5)
    assert torch.equal(layer(u), layer.states(u)[-1])

    unit, x = RecurrentResidualUnit(3, 5, 2).eval(), torch.randn(1, 3, 8, 8)
    projected = unit.project(x)
    assert torch.allclose(unit(x) - projected, unit.recurrent(projected), atol=1e-6)


@pytest.mark.parametrize("step_norm", ["shared", "per_step"])
def test_checkpointing_gives_the_same_gradients_and_statistics(step_norm):
    torch.manual_seed(0)
    plain, saving = (R2UNet(5, (6, 8, 10), step_norm=step_norm, checkpoint_activations=on) for on in (False, True))
    saving.load_state_dict(plain.state_dict())
    images, label = torch.randn(2, 3, 37, 50), torch.randint(0, 5, (2, 37, 50))
    for model in (plain, saving):
        CrossEntropy()(model.train()(images), label).objective.backward()
    for (name, one), other in zip(plain.named_parameters(), saving.parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name
    for (name, one), other in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(one, other), name


def test_a_gate_weights_each_pixel_of_a_skip_connection():
    gate, skip, decoded = AttentionGate(6), torch.randn(2, 6, 5, 7), torch.randn(2, 6, 5, 7)
    inner = sum(part[1](F.conv2d(x, part[0].weight)) for part, x in ((gate.skip, skip), (gate.decoded, decoded)))
    alpha = torch.sigmoid(F.conv2d(inner.relu(), gate.psi.weight, gate.psi.bias))
    torch.testing.assert_close(gate(skip, decoded), alpha * skip)
    names = {gates: set(R2UNet(5, (4, 6, 8), gates=gates).state_dict()) for gates in (False, True)}
    assert all(name.startswith("gates.") for name in names[True] - names[False]) and names[True] > names[False]


# PSPNet


def test_pspnet_has_the_published_size_and_keeps_an_eighth_of_the_input():
    with torch.device("meta"):
        model = PSPNet(19)
    assert (count_parameters(model), count_parameters(model.backbone)) == (51_444_710, 23_631_808)
    table = architecture_table(model, (512, 512)).set_index("name")
    assert dict(table["height"][["layer1", "layer2", "layer3", "layer4", "fuse"]]) == {
        "layer1": 128, "layer2": 64, "layer3": 64, "layer4": 64, "fuse": 64,
    }  # fmt: skip
    pools = table[table["stage"] == "pyramid"]
    assert list(pools["height"]) == [1, 2, 3, 6] and set(pools["channels"]) == {512}


def test_the_pyramid_appends_the_means_of_its_cells():
    pyramid, x = PyramidPooling(4, 1, (1, 2)).eval(), torch.rand(1, 4, 8, 12)
    for level in pyramid.levels:
        nn.init.constant_(level[1].weight, 0.25)  # the mean over channels; normalisation is the identity but for eps
    out = pyramid(x)
    assert out.shape == (1, 6, 8, 12) and torch.equal(out[:, :4], x)
    assert torch.allclose(out[:, 4], x.mean().expand(1, 8, 12), atol=1e-4)
    corner = x[:, :, :4, :6].mean()  # bilinear growth keeps the outermost pixels of a 2 × 2 grid
    assert torch.allclose(out[0, 5, 0, 0], corner, atol=1e-4)


def test_each_pixel_reads_from_the_pyramids_cells():
    module, x = PyramidAttention(8, 4, (1, 2, 3)).eval(), torch.rand(2, 8, 6, 12)
    cells = torch.cat([F.adaptive_avg_pool2d(x, bin).flatten(2) for bin in (1, 2, 3)], dim=2).transpose(1, 2)
    query = module.query(x).flatten(2).transpose(1, 2)
    read = F.scaled_dot_product_attention(query, module.key(cells), module.value(cells))  # (2, 72, 8)
    out = module(x)
    assert torch.equal(out[:, :8], x)
    expected = module.norm(read.transpose(1, 2).reshape(2, 8, 6, 12)).relu()
    torch.testing.assert_close(out[:, 8:], expected)
    assert module.weights(x).shape == (2, 6, 12, module.cells) == (2, 6, 12, 14)
    torch.testing.assert_close(module.weights(x).sum(-1), torch.ones(2, 6, 12))


def test_a_backbone_gets_images_in_the_normalisation_of_its_weights():
    image, seen = torch.randint(0, 256, (1, 3, 40, 48), dtype=torch.uint8), []
    for backbone, mean, std in (("resnet10t", MEAN, STD), ("tf_efficientnet_lite0", (0.5,) * 3, (0.5,) * 3)):
        model = PSPNet(5, backbone).eval()
        model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        predict(model, image[0])
        expected = (image / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
        torch.testing.assert_close(seen.pop(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.filterwarnings("ignore:dilated depthwise")
def test_dilated_depthwise_convolutions_compute_in_float32_on_a_cpu():
    model, types = copy.deepcopy(PSPNet(5, "tf_efficientnet_lite0")), {True: set(), False: set()}
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups > 1:
            module.register_forward_hook(lambda m, _, out: types[m.dilation[0] > 1].add(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        model.train()(torch.randn(2, 3, 48, 48))
    assert types == {True: {torch.float32}, False: {torch.bfloat16}}


def test_the_auxiliary_head_is_for_training_and_adds_its_weights_alone():
    model, images = PSPNet(5, "resnet10t"), torch.randn(2, 3, 48, 64)
    outputs = model.train()(images)
    assert outputs.auxiliary.shape == outputs.logits.shape == (2, 5, 6, 8)  # an eighth: the loss has them grow
    without = PSPNet(5, "resnet10t", aux=False)
    names = set(model.state_dict()) - set(without.state_dict())
    assert names and all(name.startswith("auxiliary.") for name in names)
    without.load_state_dict(model.state_dict(), strict=False)
    assert torch.equal(without.eval()(images), model.eval()(images))
    with pytest.raises(ValueError, match="at least 2 images.*batch_size"):
        model.train()(images[:1])


@pytest.mark.parametrize("backbone", ["resnet26d", "mobilenetv3_small_050"])
def test_other_backbones_serve(backbone):
    model = PSPNet(5, backbone)
    assert model.eval()(torch.randn(1, 3, 50, 70)).shape == (1, 5, 50, 70)
    assert model.backbone(torch.randn(1, 3, 64, 96))[-1].shape[-2:] == (8, 12)
    assert architecture_table(model, (64, 96))["parameters"].sum() == count_parameters(model)


def test_pretrained_weights_reach_the_backbone_where_they_are_asked_for(tmp_path):
    """timm reads a folder as it reads the hub: the file that it downloads, and a description of it."""
    source = timm.create_model("resnet10t", num_classes=3)
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet10t", "num_classes": 3}))
    arguments, weight = {"backbone": f"local-dir:{tmp_path}"}, source.layer4[0].conv2.weight

    def loaded(**options) -> bool:
        return torch.equal(build_model("pspnet", 5, **options).backbone.layer4[0].conv2.weight, weight)

    with pytest.raises(WeightsError, match='"pretrained": false'):  # no file of weights
        loaded(arguments=arguments | {"pretrained": True})
    torch.save(source.state_dict(), tmp_path / "pytorch_model.bin")

    assert loaded(arguments=arguments | {"pretrained": True})
    assert not loaded(arguments=arguments)
    assert not loaded(arguments=arguments | {"pretrained": True}, pretrained=False)  # a checkpoint's own will follow


def test_a_file_in_the_data_folder_gives_a_backbone_all_its_weights_or_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("NNTI_DATA", str(tmp_path))
    source, file = timm.create_model("resnet10t").state_dict(), tmp_path / "weights" / "resnet10t.pth"
    file.parent.mkdir()
    for content in (source, {f"net.{key}": value for key, value in source.items() if "num_batches" not in key}):
        torch.save(content, file)
        model = PSPNet(5, "resnet10t", pretrained=True)
        own = {key: value for key, value in model.backbone.state_dict().items() if "num_batches" not in key}
        assert len(own) > 50 and all(torch.equal(value, source[key]) for key, value in own.items())
        assert model.weights == {"file": "resnet10t.pth", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
        assert PSPNet(5, "resnet10t").weights is None
    torch.save({key: value for key, value in source.items() if key != "layer4.0.conv2.weight"}, file)
    with pytest.raises(WeightsError, match=r"resnet10t.pth does not hold.*first is layer4.0.conv2.weight"):
        PSPNet(5, "resnet10t", pretrained=True)
