"""Deployed and exported networks: the logits of the model from less work, and from a file at sizes never traced."""

import copy
import itertools
import json

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from nnti.__main__ import main
from nnti.augment import normalize
from nnti.errors import RunError
from nnti.experiment import Experiment
from nnti.inference.deploy import deploy, fold_batch_norms
from nnti.inference.export import CellAverage, onnx_bytes, verify
from nnti.models import build_model
from nnti.models.blocks import batch_norms
from nnti.models.saved import load_model

CLASSES = ["road", "sky", "tram é"]
PALETTE = [[0, 1, 2], [3, 4, 5], [253, 254, 255]]
SCORES = {"protocol": "full", "loss": 0.5, "mean_iou": float("nan")}
SMALL = {"widths": [4, 8], "steps": 1}
PYRAMID = {"backbone": "resnet10t", "bins": [1, 6]}
NETWORKS = [  # name, arguments, normalisations that stay
    ("enet", {}, 1),  # behind a concatenation
    ("r2unet", SMALL, 0),
    ("r2unet", {**SMALL, "step_norm": "per_step"}, 2 * 3 * 2),  # two of one convolution in each of three units' two
    ("pspnet", PYRAMID, 1),  # the auxiliary head's, which does not run
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


def network(name: str, arguments: dict, short: bool = False) -> nn.Module:
    """A network with statistics of its own; a `short` ENet has no blocks but those that change sizes."""
    torch.manual_seed(0)
    model = build_model(name, len(CLASSES), arguments)
    if short:
        model.stage1, model.stage2, model.stage3, model.stage4 = (nn.Sequential() for _ in range(4))
    return with_statistics(model)


def images(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, *(size or (33, 65)), generator=torch.Generator().manual_seed(seed))


@torch.inference_mode()
def assert_same(model: nn.Module, other: nn.Module, tolerance: float = 1e-4) -> None:
    expected = model(images())
    assert (other(images()).float() - expected).abs().max() < tolerance * expected.abs().max()


# folding


class Toy(nn.Module):
    """A convolution and two normalisations, put together by a function of them and the image."""

    def __init__(self, together, conv: nn.Module | None = None, **norm):
        super().__init__()
        self.conv = conv or nn.Conv2d(3, 4, 3, padding=1)
        self.norm, self.other = nn.BatchNorm2d(4, **norm), nn.BatchNorm2d(4)
        self.together = together

    def forward(self, x):
        return self.together(self, x)


def plain(toy, x):
    return toy.norm(toy.conv(x))


TOYS = [  # what it computes, its parts, whether the normalisation is folded
    (plain, {}, True),
    (lambda toy, x: plain(toy, x) + plain(toy, x.flip(-1)), {"affine": False}, True),
    (plain, {"conv": nn.ConvTranspose2d(3, 4, 3, bias=False)}, True),
    (lambda toy, x: plain(toy, x) + toy.conv(x), {}, False),
    (lambda toy, x: toy.norm(toy.conv(x).relu_()), {}, False),
    (lambda toy, x: plain(toy, x) + toy.other(toy.conv(x)), {}, False),
    (lambda toy, x: plain(toy, x) + toy.norm(toy.conv(x).relu()), {}, False),
    (plain, {"track_running_stats": False}, False),
]


@pytest.mark.parametrize(("together", "parts", "folds"), TOYS)
def test_what_belongs_together_is_folded_and_nothing_else(together, parts, folds):
    toy = with_statistics(Toy(together, **parts))
    folded = fold_batch_norms(toy)
    assert_same(toy, folded)
    assert isinstance(folded.norm, nn.Identity if folds else nn.BatchNorm2d)


# precision and compilation


@pytest.mark.parametrize(("name", "arguments", "stay"), NETWORKS)
@torch.inference_mode()
def test_every_network_is_folded_and_deployed_in_its_precision(name, arguments, stay):
    model = network(name, arguments).train()
    before = copy.deepcopy(model.state_dict())
    for precision, tolerance in (("float32", 1e-5), ("bfloat16", 0.03)):
        deployed, expected = deploy(model, precision), copy.deepcopy(model).eval()(images())
        logits = deployed(images())
        # on the mean: single pixels of ENet jump where rounding makes a pooling take its maximum elsewhere
        assert (logits.float() - expected).abs().mean() < tolerance * expected.abs().mean()
        assert logits.dtype == getattr(torch, precision)
        with torch.autocast("cpu", torch.bfloat16):  # changes nothing
            assert torch.equal(deployed(images()), logits)
        assert len(batch_norms(deployed)) == stay < len(batch_norms(model))
        assert all(norm.running_var.dtype == torch.float32 for norm in batch_norms(deployed))
    assert model.training and all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_the_first_shape_is_compiled_and_others_run_too():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
    model = with_statistics(model)
    deployed = deploy(model, "float32", compile=True)
    for size in ((33, 65), (20, 30), (33, 65)):
        with torch.inference_mode():
            assert torch.allclose(deployed(images(*size)), model(images(*size)), atol=1e-5)


# ONNX


@pytest.mark.parametrize(("name", "arguments"), [("enet", {}), ("pspnet", PYRAMID)])
def test_networks_run_at_sizes_that_were_not_traced(name, arguments):
    onnxruntime = pytest.importorskip("onnxruntime")
    model = network(name, arguments, short=name == "enet").train()
    content = onnx_bytes(model)
    assert model.training
    assert_runs_at_all_sizes(onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"]), model)


def assert_runs_at_all_sizes(session, model: nn.Module) -> None:
    assert [(put.name, put.type, put.shape) for put in (*session.get_inputs(), *session.get_outputs())] == [
        ("image", "tensor(uint8)", ["batch", 3, "height", "width"]),
        ("logits", "tensor(float)", ["batch", len(CLASSES), "height", "width"]),
    ]
    model.eval()
    for size in ((1, 1, 1), (2, 7, 30), (1, 32, 32), (2, 41, 75), (3, 64, 33)):
        off = []
        for seed in range(3):  # one of three must agree: in ENet, two maxima may be equal but for rounding
            random = torch.Generator().manual_seed(seed)
            image = torch.randint(0, 256, (size[0], 3, *size[1:]), dtype=torch.uint8, generator=random)
            with torch.no_grad():
                expected = model(normalize(image))
            found = torch.from_numpy(session.run(None, {"image": image.numpy()})[0])
            assert found.shape == expected.shape
            off.append(float((found - expected).abs().max() / expected.abs().max()))
        assert min(off) < 1e-4, size


def test_the_command_writes_a_file_that_describes_itself(tmp_path, capsys):
    onnxruntime = pytest.importorskip("onnxruntime")
    experiment, run = Experiment(name="small", model="r2unet", model_arguments=SMALL), tmp_path / "small"
    described = {"experiment": experiment.to_dict(), "class_names": CLASSES, "palette": PALETTE, "epoch": 7}
    run.mkdir()
    experiment.save(run / "experiment.json")
    torch.save(described | {"scores": SCORES, "model": network("r2unet", SMALL).state_dict()}, run / "best.pt")
    assert main(["export", str(run), "--output", str(tmp_path / "made")]) == 0
    printed, compared = capsys.readouterr().out.splitlines()
    path = tmp_path / "made" / "small.onnx"
    assert printed == str(path) and "largest difference" in compared
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    read = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    assert (read["class_names"], read["palette"], read["epoch"]) == (CLASSES, PALETTE, 7)
    assert Experiment.from_dict(read["experiment"]) == experiment
    assert read["scores"] == SCORES | {"mean_iou": None}
    assert str(tmp_path).encode() not in path.read_bytes() and b"/nnti/" not in path.read_bytes()
    assert_runs_at_all_sizes(session, load_model(run)[0])


def test_other_logits_are_an_error_and_a_network_that_cannot_be_exported_is_named():
    model = network("r2unet", SMALL)
    assert verify(model, lambda image: model(normalize(image))).largest == 0
    for wrong in (
        lambda image: model(normalize(image)) + (image.shape[-1] == 47),
        lambda image: model(normalize(image))[:, :2],
        lambda image: model(normalize(image)) * torch.nan,
    ):
        with pytest.raises(RunError):
            verify(model, wrong)

    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.conv(x) if x.sum() > 90 else self.conv(x) + 1

    pytest.importorskip("onnxscript")
    with pytest.raises(RunError, match="Branching cannot be exported"):
        onnx_bytes(Branching())


@pytest.mark.parametrize("cells", [(1, 1), (2, 5), (6, 6), (7, 3)])
def test_averages_of_cells_are_pytorchs(cells):
    for height, width in itertools.product((1, 2, 5, 6, 7, 12, 13, 127), (1, 4, 6, 9, 31)):
        x = torch.randn(2, 3, height, width)
        assert torch.allclose(CellAverage(cells)(x), F.adaptive_avg_pool2d(x, cells), atol=1e-6), (height, width)
