"""Exported networks: the logits of the model from files that are run by themselves, at sizes that were never traced."""

import json
import shutil
import sys
from contextlib import redirect_stdout
from io import BytesIO, StringIO
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from test_deploy import with_statistics
from torch import nn

from nnti.__main__ import main
from nnti.augment import normalize
from nnti.errors import RunError
from nnti.experiment import Experiment
from nnti.folders import write_whole
from nnti.inference import export
from nnti.inference.export import average_cells, with_dynamic_sizes
from nnti.models import ENet, build_model
from nnti.models.saved import load_model
from nnti.training.run_folder import RunFolder

onnxruntime = pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")

CLASSES = ["road", "sky", "tram é"]
PALETTE = [[0, 1, 2], [3, 4, 5], [253, 254, 255]]
SCORES = {"protocol": "full", "loss": 0.5, "mean_iou": float("nan")}
NETWORKS = {
    "enet": {},
    "r2unet": {"widths": [4, 8], "steps": 1},
    "pspnet": {"backbone": "resnet18", "pretrained": False, "bins": [1, 6]},
}
SHORTER = {  # module, stage of it, blocks that stay
    "enet": [("", "stage1", 0), ("", "stage2", 1), ("", "stage3", 0), ("", "stage4", 0)],
    "pspnet": [("backbone", f"layer{number}", 1) for number in (1, 2, 3, 4)],
}
SIZES = [(1, 32, 32), (2, 41, 75), (3, 64, 33)]  # B, H, W; the example that is traced is (2, 65, 97)


def network(name: str) -> nn.Module:
    """A network with statistics of its own, of fewer blocks: exporting takes seconds for a hundred layers."""
    torch.manual_seed(0)
    model = build_model(name, len(CLASSES), NETWORKS[name])
    for module, stage, kept in SHORTER.get(name, ()):
        part = model.get_submodule(module)
        setattr(part, stage, getattr(part, stage)[:kept])
    return with_statistics(model)


def images(batch: int, height: int, width: int, seed: int = 0) -> torch.Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=random)


@torch.no_grad()
def assert_agree(model: nn.Module, run, sizes) -> None:
    """Compare logits; of three pictures one must agree: in ENet, two maxima may be equal but for rounding."""
    for size in sizes:
        for seed in range(3):
            expected, found = model(normalize(images(*size, seed))), torch.as_tensor(run(images(*size, seed)))
            assert found.shape == expected.shape and found.dtype == torch.float32
            off = (found - expected).abs().max() / expected.abs().max()
            if off < 1e-4:
                break
        assert off < 1e-4, size


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> RunFolder:
    """The run folder of a small network, with a checkpoint as training writes it."""
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "small")
    experiment = Experiment(name="small", model="r2unet", model_arguments=NETWORKS["r2unet"])
    folder.write_experiment(experiment)
    described = {"experiment": experiment.to_dict(), "class_names": CLASSES, "palette": PALETTE, "epoch": 7}
    content = described | {"scores": SCORES, "model": network("r2unet").state_dict()}
    write_whole(folder.best, lambda file: torch.save(content, file))
    return folder


@pytest.fixture(scope="module")
def printed(run, tmp_path_factory) -> dict[str, list[str]]:
    """What the command prints, by format."""
    folder, lines = tmp_path_factory.mktemp("exports") / "made", {}
    for format in export.FORMATS:
        with redirect_stdout(StringIO()) as shown:
            assert main(["export", str(run.path), "--format", format, "--output", str(folder)]) == 0
        lines[format] = shown.getvalue().splitlines()
    return lines


@pytest.fixture(scope="module")
def exported(printed) -> dict[str, Path]:
    """The run's files, by format."""
    return {format: Path(lines[0]) for format, lines in printed.items()}


# networks


@pytest.mark.filterwarnings("ignore:No complete tensor found")  # of torch.export.save
@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_runs_at_sizes_that_were_not_traced(name):
    model = network(name)
    program = export.exported_program(model)
    session = onnxruntime.InferenceSession(export.onnx_bytes(program), providers=["CPUExecutionProvider"])
    assert [(put.name, put.type, put.shape) for put in (*session.get_inputs(), *session.get_outputs())] == [
        ("image", "tensor(uint8)", ["batch", 3, "height", "width"]),
        ("logits", "tensor(float)", ["batch", len(CLASSES), "height", "width"]),
    ]
    smaller = [(1, 1, 1), (2, 7, 30)]
    assert_agree(model, lambda image: session.run(None, {"image": image.numpy()})[0], SIZES + smaller)
    file = BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    assert_agree(model, torch.export.load(file).module(), SIZES)


# files


def test_the_command_writes_and_compares(printed):
    for format, ending in (("onnx", ".onnx"), ("torch", ".pt2")):
        path, compared = printed[format]
        assert Path(path).is_file() and Path(path).name == f"small{ending}"
        assert compared.startswith("largest difference from PyTorch ") and "2 × 64 × 80" in compared


def test_files_run_and_describe_themselves_without_the_project(run, exported):
    model, _ = load_model(run.best)
    session = onnxruntime.InferenceSession(exported["onnx"], providers=["CPUExecutionProvider"])
    assert_agree(model, lambda image: session.run(None, {"image": image.numpy()})[0], SIZES)
    assert json.loads(session.get_modelmeta().custom_metadata_map["class_names"]) == CLASSES
    extra = {"metadata.json": ""}
    program = torch.export.load(exported["torch"], extra_files=extra).module()
    assert_agree(model, program, SIZES)
    assert json.loads(extra["metadata.json"])["class_names"] == CLASSES


@pytest.mark.parametrize("format", export.FORMATS)
def test_metadata_is_read_back(run, exported, format):
    read = export.read_metadata(exported[format])
    assert (read["class_names"], read["palette"], read["epoch"]) == (CLASSES, PALETTE, 7)
    assert Experiment.from_dict(read["experiment"]) == run.experiment()
    assert read["scores"] == SCORES | {"mean_iou": None}


def test_a_program_refuses_smaller_images_than_it_says(exported):
    side = export.read_metadata(exported["torch"])["smallest_side"]
    program = export.load_exported(exported["torch"])
    assert program(images(1, side, side)).shape[-2:] == (side, side)
    for size in ((side - 1, side), (side, side - 1)):
        with pytest.raises(AssertionError, match=f">= {side}"):
            program(images(1, *size))


def test_the_model_is_left_as_it_was():
    model = network("r2unet").train()
    before = [(type(module), module.training) for module in model.modules()]
    export.exported_program(model)
    assert [(type(module), module.training) for module in model.modules()] == before


def test_files_hold_no_paths_of_this_machine(exported, tmp_path):
    shutil.unpack_archive(exported["torch"], tmp_path, "zip")
    files = [exported["onnx"], *(path for path in tmp_path.rglob("*") if path.is_file())]
    assert len(files) > 2
    assert not [path for path in files if str(Path(export.__file__).parent).encode() in path.read_bytes()]


# errors


def test_a_file_with_other_logits_is_an_error_and_removed(run, tmp_path, monkeypatch, capsys):
    model, _ = load_model(run.best)
    monkeypatch.setattr(
        "nnti.inference.export.load_exported", lambda path: lambda image: model(normalize(image)) * 1.01
    )
    command = ["export", str(run.path), "--output", str(tmp_path / "made"), "--format"]
    assert main([*command, "torch"]) == 1
    assert "small.pt2 was removed" in (error := capsys.readouterr().err) and "allowed are 0.0001" in error
    assert not list((tmp_path / "made").iterdir())


def test_comparing_allows_one_picture_but_no_size_to_differ():
    model = network("enet")

    def wrong(image):
        logits = model(normalize(image))
        return logits + (logits.shape[-1] == 47)

    def shifted_once(image):
        calls.append(image.shape)
        return model(normalize(image)) + (len(calls) == 1)

    calls: list[torch.Size] = []
    assert export.verify(model, shifted_once).largest == 0
    for exported, message in ((wrong, "allowed are"), (lambda image: wrong(image)[:, :2], "logits are torch.float32")):
        with pytest.raises(RunError, match=message):
            export.verify(model, exported)
    with pytest.raises(RunError, match="inf"):
        export.verify(model, lambda image: model(normalize(image)) * torch.nan)


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_without_the_packages_onnx_is_an_error(run, tmp_path, monkeypatch, capsys, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["export", str(run.path), "--output", str(tmp_path / "made")]) == 1
    assert "pip install onnx onnxscript onnxruntime" in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


def test_without_onnxruntime_the_file_is_written_and_said_to_be_unchecked(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert main(["export", str(run.path), "--output", str(tmp_path)]) == 0
    assert "not checked" in (out := capsys.readouterr().out) and "pip install onnxruntime" in out
    assert onnx.load(tmp_path / "small.onnx").graph.node
    with pytest.raises(RunError, match="pip install onnxruntime"):
        export.load_exported(tmp_path / "small.onnx")


def test_what_an_exporter_refuses_is_said(run, tmp_path, monkeypatch, capsys):
    def failing(*arguments, **options):
        raise NotImplementedError("no such operator\nand a long story")

    for format, function in (("torch", "torch.export.save"), ("onnx", "torch.onnx.export")):
        monkeypatch.setattr(function, failing)
        assert main(["export", str(run.path), "--format", format, "--output", str(tmp_path / "made")]) == 1
        error = capsys.readouterr().err
        assert "cannot be written as" in error and "no such operator" in error and "story" not in error
    assert not (tmp_path / "made").exists()


def test_what_cannot_be_exported_or_read_is_said(tmp_path, capsys):
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv = nn.Conv2d(3, 2, 1)

        def forward(self, x):
            return self.conv(x) if x.shape[-1] > 90 else self.conv(x) + 1

    with pytest.raises(RunError, match="Branching cannot be exported.*nnti/dynamic.py"):
        export.exported_program(Branching())
    assert main(["export", "no_such_run"]) == 1
    assert "no run 'no_such_run'" in capsys.readouterr().err
    with pytest.raises(RunError, match="does not exist; make it: python -m nnti export"):
        export.read_metadata(tmp_path / "none.onnx")
    for name, message in (("some.txt", "must end in .onnx or .pt2"), ("some.onnx", "export it again"),
                          ("some.pt2", "export it again")):  # fmt: skip
        (tmp_path / name).write_bytes(b"nothing")
        with pytest.raises(RunError, match=message):
            export.read_metadata(tmp_path / name)


# stand-ins


@pytest.mark.parametrize("cells", [1, 2, 3, 6, 7, (2, 5), (None, 3), (4, None), (None, None)])
def test_averages_of_cells_are_pytorchs(cells):
    random = torch.Generator().manual_seed(0)
    size = cells if isinstance(cells, tuple) else (cells, cells)
    for height in (1, 2, 3, 5, 6, 7, 12, 13, 60, 127):
        for width in (1, 4, 6, 9, 31):
            x = torch.randn(2, 3, height, width, generator=random)
            assert torch.allclose(average_cells(x, size), F.adaptive_avg_pool2d(x, size), atol=1e-6), (height, width)


@torch.no_grad()
def test_stand_ins_give_the_same_values_outside_of_an_export():
    torch.manual_seed(0)
    pool, unpool = nn.MaxPool2d(2, ceil_mode=True, return_indices=True), nn.MaxUnpool2d(2)
    grow = nn.ConvTranspose2d(3, 4, 3, stride=2, padding=1)
    own = nn.ModuleList([pool, unpool, grow, nn.AdaptiveAvgPool2d((2, 3))])
    stand_ins = with_dynamic_sizes(nn.ModuleList(own))
    assert not {type(module) for module in own} & {type(module) for module in stand_ins}
    for height in range(2, 7):
        for width in (5, 8):
            x, found = torch.randn(2, 3, height, width), []
            for pooling, unpooling, growing, averaging in (own, stand_ins):
                pooled, indices = pooling(x)
                found.append([pooled, unpooling(pooled, indices, output_size=x.shape[-2:]), averaging(x),
                              growing(pooled, output_size=x.shape[-2:]), growing(pooled)])  # fmt: skip
            for expected, other in zip(*found, strict=True):
                assert torch.allclose(expected, other, atol=1e-6)


def test_modules_that_need_no_stand_in_stay():
    kept = [nn.MaxPool2d(2), nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True), nn.ConvTranspose2d(2, 2, 3)]
    assert [type(module) for module in with_dynamic_sizes(nn.Sequential(*kept))] == [type(module) for module in kept]
    model = with_dynamic_sizes(ENet(3).train())
    assert all(module.training for module in model.modules())
    assert np.isclose(sum(p.numel() for p in model.parameters()), sum(p.numel() for p in ENet(3).parameters()))
