"""Nothing is fetched unless asked, nothing that was read is run, and no shell sees a file's name."""

import ast
import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import layouts
import pytest
import timm

from nnti.__main__ import main
from nnti.experiment import Experiment
from nnti.models import build_model
from nnti.training.loop import fit

HOME = Path(__file__).resolve().parents[1]
SOURCES = sorted([*(HOME / "nnti").rglob("*.py"), *(HOME / "benchmarks").rglob("*.py")])
FORBIDDEN = {
    "os.system", "os.popen", "eval", "exec", "pickle.load", "pickle.loads", "subprocess.getoutput", "__import__",
    "torch.hub.load", "shelve.open", "marshal.loads",
}  # fmt: skip


def calls(path: Path) -> list[ast.Call]:
    return [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Call)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(HOME)))
def test_no_text_is_run_as_code_or_command(path):
    for call in calls(path):
        name = ast.unparse(call.func)
        assert name not in FORBIDDEN, f"line {call.lineno}: {name}"
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert given.get("shell", "False") == "False", f"line {call.lineno}"
        assert given.get("allow_pickle", "False") == "False", f"line {call.lineno}: plain arrays only"
        if name == "torch.load":
            assert given.get("weights_only") == "True", f"line {call.lineno}"
        if name.startswith("subprocess.") and call.args:
            assert not isinstance(call.args[0], ast.Constant | ast.JoinedStr), f"line {call.lineno}: give a list"


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(HOME)))
def test_no_such_function_is_hidden_behind_a_name_of_its_own(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not {f"{node.module}.{name.name}" for name in node.names} & FORBIDDEN, f"line {node.lineno}"
        if isinstance(node, ast.Import):
            plain = {name.name for name in node.names if name.asname}
            assert not plain & {name.partition(".")[0] for name in FORBIDDEN}, f"line {node.lineno}"


def test_importing_opens_no_connection():
    code = """if True:
        import importlib, pkgutil, socket
        def refuse(*arguments): raise SystemExit(f"a connection: {arguments}")
        socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
        import nnti
        for module in pkgutil.walk_packages(nnti.__path__, "nnti."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    """
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HOME)


def test_training_measuring_and_predicting_open_no_connection(tmp_path, monkeypatch, capsys):
    def refuse(self, address):
        pytest.fail(f"a connection to {address}")

    for name in ("data", "runs", "cache"):
        monkeypatch.setenv(f"NNTI_{name.upper()}", str(tmp_path / name))
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.chdir(tmp_path)
    voc = layouts.write_voc(tmp_path / "data")
    backbone = {"backbone": "resnet18", "pretrained": False}
    experiment = Experiment(
        name="tiny", model="pspnet", model_arguments=backbone, train_split="train", batch_size=2, epochs=1,
        base_size=48, crop_size=48, val_size=32, device="cpu",
    )  # fmt: skip
    list(fit(experiment, progress=False))
    photo = str(next((voc / "JPEGImages").iterdir()))
    for command in (["evaluate", "tiny"], ["predict", "tiny", photo], ["data", "check", "voc"], ["experiments"]):
        assert main([*command, "--quiet"] if command[0] != "experiments" else command) == 0


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_files_have_the_permissions_of_the_users_mask(tmp_path, monkeypatch, capsys):
    for name in ("data", "runs", "cache"):
        monkeypatch.setenv(f"NNTI_{name.upper()}", str(tmp_path / name))
    monkeypatch.chdir(tmp_path)
    voc = layouts.write_voc(tmp_path / "data")
    before = os.umask(0o027)
    try:
        experiment = Experiment(
            name="tiny", train_split="train", batch_size=2, epochs=1, base_size=48, crop_size=48, val_size=32,
            device="cpu", cache="disk",
        )  # fmt: skip
        list(fit(experiment, progress=False))
        assert main(["predict", "tiny", str(voc / "JPEGImages"), "--quiet"]) == 0
    finally:
        os.umask(before)
    files = [
        path for name in ("runs", "cache", "predictions") for path in (tmp_path / name).rglob("*") if path.is_file()
    ]
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in files if path.suffix != ".lock"}
    assert len(modes) > 8
    assert set(modes.values()) == {"0o640"}, modes


def test_a_backbones_weights_are_fetched_only_where_the_settings_ask(monkeypatch):
    asked, create = [], timm.create_model

    def offline(name: str, *, pretrained: bool, **options):
        asked.append(pretrained)
        return create(name, pretrained=False, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    for pretrained in (False, True):
        build_model("pspnet", 3, {"backbone": "resnet18", "pretrained": pretrained})
    build_model("pspnet", 3, {"backbone": "resnet18"}, pretrained=False)
    assert asked == [False, True, False]
