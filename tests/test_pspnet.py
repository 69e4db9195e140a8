"""PSPNet: the published size, the pyramid, the auxiliary head, backbones and their weights."""

import json

import pytest
import timm
import torch
from torch import nn

from nnti.experiment import Experiment
from nnti.loss import CrossEntropy
from nnti.models import Outputs, PSPNet, WeightsError, architecture_table, build_model, count_parameters
from nnti.models.pspnet import PyramidPooling
from nnti.training.optimizer import build_optimizer

SMALL = {"backbone": "resnet18", "pretrained": False}


def test_parameter_count_is_the_published_one():
    model = PSPNet(19, pretrained=False)
    assert count_parameters(model) == 51_444_710
    assert count_parameters(model.backbone) == 23_631_808
    assert round(count_parameters(model) / 1e6, 2) == 51.44


def test_architecture_keeps_an_eighth_of_the_input():
    table = architecture_table(PSPNet(19, pretrained=False), (512, 512)).set_index("name")
    assert dict(table["height"][["layer1", "layer2", "layer3", "layer4", "fuse"]]) == {
        "layer1": 128, "layer2": 64, "layer3": 64, "layer4": 64, "fuse": 64,
    }  # fmt: skip
    pools = table[table["stage"] == "pyramid"]
    assert list(pools["height"]) == [1, 2, 3, 6]
    assert set(pools["channels"]) == {512}
    assert table.loc["layer4", "channels"] == 2048


def test_pyramid_appends_the_means_of_its_cells():
    pyramid, x = PyramidPooling(4, 1, (1, 2)).eval(), torch.rand(1, 4, 8, 12)
    for level in pyramid.levels:
        nn.init.constant_(level[1].weight, 0.25)  # the mean over channels; normalisation is the identity but for eps
    out = pyramid(x)
    assert out.shape == (1, 6, 8, 12)
    assert torch.equal(out[:, :4], x)
    assert torch.allclose(out[:, 4], x.mean().expand(1, 8, 12), atol=1e-4)
    corner = x[:, :, :4, :6].mean()  # bilinear growth keeps the outermost pixels of a 2 × 2 grid
    assert torch.allclose(out[0, 5, 0, 0], corner, atol=1e-4)


def test_auxiliary_head_is_for_training_alone():
    model, images = PSPNet(5, **SMALL), torch.randn(2, 3, 48, 64)
    outputs = model.train()(images)
    assert isinstance(outputs, Outputs)
    assert outputs.auxiliary.shape == outputs.logits.shape == (2, 5, 6, 8)  # an eighth: the loss has them grow
    model.auxiliary.register_forward_hook(lambda *_: pytest.fail("the auxiliary head ran in eval mode"))
    assert model.eval()(images).shape == (2, 5, 48, 64)


def test_the_loss_adds_the_auxiliary_heads_share():
    logits, auxiliary, label = torch.randn(2, 5, 6, 7), torch.randn(2, 5, 6, 7), torch.randint(0, 5, (2, 6, 7))
    label[0, 0] = 255
    main, second = (nn.functional.cross_entropy(x, label, ignore_index=255) for x in (logits, auxiliary))
    loss = CrossEntropy(auxiliary_weight=0.4)(Outputs(logits, auxiliary), label)
    assert float(loss.objective) == pytest.approx(float(main + 0.4 * second), rel=1e-5)
    assert float(loss.mean) == pytest.approx(float(main), rel=1e-5)  # comparable with validation
    alone = CrossEntropy()(logits, label)
    assert float(alone.objective) == float(alone.mean)


def test_the_backbone_learns_at_a_tenth_of_the_rate():
    model = PSPNet(5, **SMALL)
    optimizer = build_optimizer(Experiment(model="pspnet", learning_rate=0.01), model)
    rates = {id(p): group["initial_lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == len(list(model.parameters()))
    assert {rates[id(p)] for p in model.backbone.parameters()} == {0.001}
    others = [p for name, p in model.named_parameters() if not name.startswith("backbone")]
    assert {rates[id(p)] for p in others} == {0.01}
    assert optimizer.param_groups[-1]["initial_lr"] == 0.01  # the rate that the history shows


def test_one_image_is_refused_in_training_and_welcome_otherwise():
    model, image = PSPNet(5, **SMALL), torch.randn(1, 3, 48, 64)
    with pytest.raises(ValueError, match="at least 2 images.*batch_size"):
        model.train()(image)
    assert model.eval()(image).shape == (1, 5, 48, 64)


@pytest.mark.parametrize("backbone", ["resnet34", "resnet26d", "mobilenetv3_small_050"])
def test_other_backbones_serve(backbone):
    model = PSPNet(5, backbone=backbone, pretrained=False)
    assert model.eval()(torch.randn(1, 3, 50, 70)).shape == (1, 5, 50, 70)
    deep = model.backbone(torch.randn(1, 3, 64, 96))[-1]
    assert deep.shape[-2:] == (8, 12)
    assert architecture_table(model, (64, 96))["parameters"].sum() == count_parameters(model)


def test_backbones_that_cannot_serve_are_refused_with_the_fix():
    with pytest.raises(ValueError, match="no backbone 'resnet5'; near it: "):
        PSPNet(5, backbone="resnet5", pretrained=False)
    with pytest.raises(ValueError, match="'vgg11' cannot give features at output_stride 8.*ResNets"):
        PSPNet(5, backbone="vgg11", pretrained=False)


def test_pretrained_weights_reach_the_backbone(tmp_path):
    """timm reads a folder as it reads the hub: the file that it downloads, and a description of it."""
    source = timm.create_model("resnet18", num_classes=3)
    torch.save(source.state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"architecture": "resnet18", "num_classes": 3}))
    model = PSPNet(5, backbone=f"local-dir:{tmp_path}")
    assert torch.equal(model.backbone.state_dict()["layer4.1.conv2.weight"], source.layer4[1].conv2.weight)


def test_without_a_connection_the_error_says_how_to_go_on(monkeypatch):
    real = timm.create_model

    def offline(name, pretrained, **options):
        if pretrained:
            raise ConnectionError("no route to host")
        return real(name, pretrained=pretrained, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(WeightsError, match='resnet18.*"pretrained": false'):
        build_model("pspnet", 5, {"backbone": "resnet18"})
    # who loads a checkpoint's weights afterwards needs no connection
    assert isinstance(build_model("pspnet", 5, {"backbone": "resnet18"}, pretrained=False), PSPNet)
