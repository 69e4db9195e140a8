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
from nnti.inference.deploy import deploy
from nnti.inference.export import CellAverage, onnx_bytes, verify
from nnti.models import build_model
from nnti.models.blocks import batch_norms
from nnti.models.saved import load_checkpoint, load_model

CLASSES = 3
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
    model = build_model(name, CLASSES, arguments)
    if short:
        model.stage1, model.stage2, model.stage3, model.stage4 = (nn.Sequential() for _ in range(4))
    return with_statistics(model)


def images(*size: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, *(size or (33, 65)), generator=torch.Generator().manual_seed(seed))


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


def assert_runs_at_all_sizes(session, model: nn.Module, classes: int = CLASSES) -> None:
    assert [(put.name, put.type, put.shape) for put in (*session.get_inputs(), *session.get_outputs())] == [
        ("image", "tensor(uint8)", ["batch", 3, "height", "width"]),
        ("logits", "tensor(float)", ["batch", classes, "height", "width"]),
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


def test_the_command_writes_a_file_that_describes_itself(whole, tmp_path, capsys):
    onnxruntime, run = pytest.importorskip("onnxruntime"), whole.run.path
    capsys.readouterr()
    assert main(["export", str(run), "--output", str(tmp_path / "made")]) == 0
    printed, compared = capsys.readouterr().out.splitlines()
    path = tmp_path / "made" / f"{run.name}.onnx"
    assert printed == str(path) and "largest difference" in compared
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    read = {key: json.loads(value) for key, value in session.get_modelmeta().custom_metadata_map.items()}
    checkpoint = load_checkpoint(whole.run.best)
    assert Experiment.from_dict(read["experiment"]) == whole.experiment
    assert all(read[key] == checkpoint[key] for key in ("class_names", "palette", "epoch"))
    assert read["scores"]["mean_iou"] == checkpoint["scores"]["mean_iou"]
    assert str(tmp_path).encode() not in path.read_bytes() and b"/nnti/" not in path.read_bytes()
    assert_runs_at_all_sizes(session, load_model(run)[0], classes=21)


def test_other_logits_are_an_error():
    model = network("r2unet", SMALL)
    assert verify(model, lambda image: model(normalize(image))).largest == 0
    for wrong in (
        lambda image: model(normalize(image)) + (image.shape[-1] == 47),
        lambda image: model(normalize(image))[:, :2],
        lambda image: model(normalize(image)) * torch.nan,
    ):
        with pytest.raises(RunError):
            verify(model, wrong)


@pytest.mark.parametrize("cells", [(1, 1), (2, 5), (6, 6), (7, 3)])
def test_averages_of_cells_are_pytorchs(cells):
    for height, width in itertools.product((1, 2, 5, 6, 7, 12, 13, 127), (1, 4, 6, 9, 31)):
        x = torch.randn(2, 3, height, width)
        assert torch.allclose(CellAverage(cells)(x), F.adaptive_avg_pool2d(x, cells), atol=1e-6), (height, width)
