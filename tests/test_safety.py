"""Nothing is fetched unless asked, nothing that was read is run, and files have the permissions of the user's mask."""

import os
import pickle
import stat
import subprocess
import sys

import pytest
import torch
from conftest import train

import nnti.models
from nnti.errors import RunError
from nnti.models import R2UNet, build_model
from nnti.models.saved import load_model
from nnti.training.loop import fit

OFFLINE = """
import importlib, os, pkgutil, sys
def watch(event, arguments):
    if event == "socket.getaddrinfo" or event == "socket.connect" and isinstance(arguments[1], tuple):
        raise SystemExit(f"a connection: {arguments}")
sys.addaudithook(watch)
os.umask(0o027)
import nnti
for module in pkgutil.walk_packages(nnti.__path__, "nnti."):
    importlib.import_module(module.name)
from nnti.__main__ import main
image = "data/VOCdevkit/VOC2012/JPEGImages/2007_000032.jpg"
for command in ("train tiny.json", "evaluate tiny", f"predict tiny {image}", "data check voc"):
    assert main([*command.split(), "--quiet"]) == 0, command
"""


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
def test_nothing_connects_and_files_follow_the_users_mask(tiny, tmp_path):
    tiny.replace(batch_size=5, epochs=1, cache="disk", keep_every=1).save(tmp_path / "tiny.json")
    subprocess.run([sys.executable, "-c", OFFLINE], check=True)
    made = [path for name in ("runs", "cache", "predictions") for path in (tmp_path / name).rglob("*")]
    files = [path for path in made if path.is_file() and path.suffix != ".lock"]
    modes = {path.name: oct(stat.S_IMODE(path.stat().st_mode)) for path in files}
    assert len(modes) > 8 and set(modes.values()) == {"0o640"}, modes


def test_a_backbones_weights_are_asked_for_once_and_only_where_the_settings_say_so(tiny, monkeypatch):
    asked = []

    class Pretrained(R2UNet):
        def __init__(self, num_classes: int, pretrained: bool = False):
            asked.append(pretrained)
            super().__init__(num_classes, (4, 6))

    monkeypatch.setitem(nnti.models.MODELS, "r2unet", Pretrained)
    experiment = tiny.replace(model_arguments={"pretrained": True}, batch_size=5, epochs=2)
    next(iter(fit(experiment, progress=False)))
    assert asked == [True]
    run = train(experiment)  # goes on, which needs no connection
    load_model(run.run.best)
    assert asked[1:] and not any(asked[1:])


class Evil:
    def __reduce__(self):
        return os.system, (f"touch {Evil.mark}",)


def test_a_checkpoint_cannot_run_code(tmp_path):
    Evil.mark = tmp_path / "it_ran"
    model = build_model("r2unet", 3, {"widths": [4, 6]}).state_dict()
    torch.save({"experiment": {}, "class_names": [], "model": model, "scores": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(RunError, match=f"{name} cannot be read"):
            load_model(tmp_path / name)
    assert not Evil.mark.exists()
