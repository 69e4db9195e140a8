"""Deployed networks: the same logits from folded normalisations, and nothing folded that must not be."""

import copy

import pytest
import torch
from torch import nn

from nnti.inference.deploy import deploy, fold_batch_norms
from nnti.models import build_model
from nnti.models.blocks import batch_norms

NARROW = {"widths": [8, 16, 16]}
NETWORKS = [  # name, arguments, normalisations that stay
    ("enet", {}, 1),  # behind a concatenation
    ("r2unet", NARROW, 0),
    ("r2unet", {**NARROW, "step_norm": "per_step"}, 2 * 5 * 3),  # two of three steps in each of five units
    ("pspnet", {"backbone": "resnet18", "pretrained": False}, 1),  # the auxiliary head's, which does not run
]


def with_statistics(model: nn.Module) -> nn.Module:
    """Give every normalisation statistics and parameters of its own, as training does."""
    torch.manual_seed(0)
    for norm in batch_norms(model):
        if norm.affine:
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0, 0.2)
        if norm.running_mean is not None:
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
    return model.eval()


def network(name: str, arguments: dict) -> nn.Module:
    torch.manual_seed(0)
    return with_statistics(build_model(name, 5, arguments))


def images(height: int = 33, width: int = 65) -> torch.Tensor:
    return torch.randn(2, 3, height, width, generator=torch.Generator().manual_seed(0))


@torch.inference_mode()
def assert_same(model: nn.Module, other: nn.Module, tolerance: float = 1e-4) -> None:
    expected = model(images())
    assert (other(images()).float() - expected).abs().max() < tolerance * expected.abs().max()


@pytest.mark.parametrize(("name", "arguments", "stay"), NETWORKS)
def test_folding_keeps_the_logits(name, arguments, stay):
    model = network(name, arguments)
    folded = fold_batch_norms(model)
    assert_same(model, folded)
    assert len(batch_norms(folded)) == stay < len(batch_norms(model))


@pytest.mark.parametrize("name", ["enet", "r2unet"])
def test_the_model_itself_is_left_as_it_was(name):
    model = network(name, NARROW if name == "r2unet" else {}).train()
    before = copy.deepcopy(model.state_dict())
    folded = fold_batch_norms(model)
    after = model.state_dict()
    assert list(after) == list(before) and all(torch.equal(after[key], before[key]) for key in before)
    assert all(module.training for module in model.modules())
    assert not any(module.training for module in folded.modules())
    assert not any(hooks for module in model.modules() for hooks in (module._forward_hooks, module._forward_pre_hooks))


class Toy(nn.Module):
    """A convolution and two normalisations, put together by a function of them and the image."""

    def __init__(self, together, conv: nn.Module | None = None, **norm):
        super().__init__()
        self.conv = conv or nn.Conv2d(3, 4, 3, padding=1)
        self.norm, self.other = nn.BatchNorm2d(4, **norm), nn.BatchNorm2d(4)
        self.together = together

    def forward(self, x):
        return self.together(self, x)


class Doubled(nn.Conv2d):
    """Does more than its base."""

    def forward(self, x):
        return 2 * super().forward(x)


def read_by_two(toy, x):
    made = toy.conv(x)
    return toy.norm(made) + made


def read_in_place(toy, x):
    made = toy.conv(x)
    normalized = toy.norm(made)
    return normalized * made.relu_().mean()


FOLDED = {
    "once": (lambda toy, x: toy.norm(toy.conv(x)), {}),
    "shared, called twice": (lambda toy, x: toy.norm(toy.conv(x)) + toy.norm(toy.conv(x.flip(-1))), {}),
    "without parameters": (lambda toy, x: toy.norm(toy.conv(x)), {"affine": False}),
    "transposed": (lambda toy, x: toy.norm(toy.conv(x)), {"conv": nn.ConvTranspose2d(3, 4, 3, bias=False)}),
    "in groups": (lambda toy, x: toy.norm(toy.conv(x)), {"conv": nn.Conv2d(3, 4, 3, groups=1, bias=False)}),
}
NOT_FOLDED = {
    "output read by another": (read_by_two, {}),
    "output changed in place": (read_in_place, {}),
    "two normalisations in turn": (lambda toy, x: toy.norm(toy.conv(x)) + toy.other(toy.conv(x)), {}),
    "normalisation of something else too": (lambda toy, x: toy.norm(toy.conv(x)) + toy.norm(toy.conv(x).relu()), {}),
    "convolution without one too": (lambda toy, x: toy.norm(toy.conv(x)) + toy.conv(x), {}),
    "something between": (lambda toy, x: toy.norm(toy.conv(x).relu()), {}),
    "statistics of the batch": (lambda toy, x: toy.norm(toy.conv(x)), {"track_running_stats": False}),
    "unknown convolution": (lambda toy, x: toy.norm(toy.conv(x)), {"conv": Doubled(3, 4, 1)}),
}


@pytest.mark.parametrize("case", FOLDED)
def test_what_belongs_together_is_folded(case):
    together, options = FOLDED[case]
    toy = with_statistics(Toy(together, **options))
    folded = fold_batch_norms(toy)
    assert_same(toy, folded)
    assert isinstance(folded.norm, nn.Identity)


@pytest.mark.parametrize("case", NOT_FOLDED)
def test_what_does_not_belong_together_is_not(case):
    together, options = NOT_FOLDED[case]
    toy = with_statistics(Toy(together, **options))
    folded = fold_batch_norms(toy)
    assert_same(toy, folded)
    assert isinstance(folded.norm, nn.BatchNorm2d)


def test_grouped_transposed_convolutions_stay():
    conv = nn.ConvTranspose2d(4, 4, 3, groups=2)
    toy = with_statistics(Toy(lambda toy, x: toy.norm(toy.conv(torch.cat([x, x[:, :1]], 1))), conv=conv))
    assert_same(toy, fold_batch_norms(toy))


# precision


@pytest.mark.parametrize(("name", "arguments", "stay"), NETWORKS)
@pytest.mark.parametrize(("precision", "tolerance"), [("float32", 1e-5), ("bfloat16", 0.03)])
@torch.inference_mode()
def test_every_network_is_deployed_in_its_precision(name, arguments, stay, precision, tolerance):
    model = network(name, arguments)
    deployed, expected = deploy(model, precision), model(images())
    # on the mean: single pixels of ENet jump where rounding makes a pooling take its maximum elsewhere
    assert (deployed(images()).float() - expected).abs().mean() < tolerance * expected.abs().mean()
    assert deployed(images()).dtype == getattr(torch, precision)
    assert all(norm.running_var.dtype == torch.float32 for norm in batch_norms(deployed))
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_autocast_around_it_changes_nothing(precision):
    deployed = deploy(network("enet", {}), precision)
    expected = deployed(images())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(deployed(images()), expected)


# compilation


def test_only_the_first_shape_is_compiled(monkeypatch):
    class Noting:
        def __init__(self, module):
            self.module = module

        def __call__(self, x):
            shapes.append(tuple(x.shape))
            return self.module(x)

    shapes: list[tuple[int, ...]] = []
    monkeypatch.setattr("nnti.device.Compiled", Noting)
    model = network("enet", {})
    deployed = deploy(model, "float32", compile=True)
    for size in ((33, 65), (20, 30), (33, 65)):
        with torch.inference_mode():
            assert torch.allclose(deployed(images(*size)), model(images(*size)), atol=1e-5)
    assert shapes == [(2, 3, 33, 65)] * 2


def test_it_runs_uncompiled_where_nothing_compiles(monkeypatch):
    def failing(module, **options):
        def call(*inputs):
            raise torch._dynamo.exc.TorchDynamoException("no g++")

        return call

    monkeypatch.setattr("torch.compile", failing)
    model = network("enet", {})
    deployed = deploy(model, "float32", compile=True)
    with pytest.warns(RuntimeWarning, match="runs uncompiled.*no g\\+\\+"):
        assert_same(model, deployed)
