"""How a notebook starts: its first cell, the packages of its kernel, the folders it uses, the experiment it chooses."""

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import types
from pathlib import Path

import layouts
import packaging
import pytest
import torch

from nnti import bootstrap
from nnti.data import VOC
from nnti.data import download as downloads
from nnti.errors import SettingError
from nnti.experiment import Experiment
from nnti.folders import cache_dir, data_roots, figures_dir, runs_dir
from nnti.notebook import colab
from nnti.notebook.colab import choose, prepare

HOME = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((HOME / "notebooks").glob("task*.ipynb"))


def code_cells(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A checkout of its own, without data; what `prepare` does to the environment ends with the test."""
    for name in ("NNTI_DATA", "NNTI_RUNS", "NNTI_FIGURES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("nnti.folders.home", lambda: tmp_path / "project")
    monkeypatch.setattr(colab, "home", lambda: tmp_path / "project")
    monkeypatch.chdir(tmp_path)
    yield tmp_path / "project"
    prepare()


# choose


@pytest.mark.parametrize("gpu", [False, True])
def test_data_and_a_gpu_decide_and_the_reason_is_told(project, tmp_path, monkeypatch, gpu):
    monkeypatch.setenv("NNTI_DATA", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    experiment, reason = choose("enet_voc")
    assert experiment.name == "enet_voc_miniature"
    assert "not found" in reason and "python -m nnti data voc" in reason
    layouts.write_voc(tmp_path)
    experiment, reason = choose("enet_voc")
    if gpu:
        assert experiment.name == "enet_voc_miniature" and "python -m nnti data sbd" in reason
        layouts.write_sbd(tmp_path / "sbd")
        assert choose("enet_voc")[0].name == "enet_voc"
    else:
        assert experiment.name == "enet_voc_short"  # which needs no SBD


def test_a_named_preset_is_taken_as_it_is():
    for preset, name in (("report", "enet_voc"), ("short", "enet_voc_short"), ("miniature", "enet_voc_miniature")):
        assert choose("enet_voc", preset)[0].name == name
        changed = choose("enet_voc", preset)[0].differences(choose("enet_voc_plain", preset)[0])
        assert set(changed) <= {"name", "augment", "crop_size"} and changed["augment"] == (True, False)
    with pytest.raises(SettingError, match="preset='fast'.*miniature"):
        choose("enet_voc", "fast")


# prepare


@pytest.fixture
def drive(project, tmp_path, monkeypatch) -> Path:
    """Google Colab as far as `prepare` sees it; returns the Drive folder nnti/."""

    def mount(place: str) -> None:
        (Path(place) / "MyDrive").mkdir(parents=True, exist_ok=True)

    monkeypatch.setattr(colab, "MOUNT", str(tmp_path / "drive"))
    package = types.ModuleType("google.colab")
    package.drive = types.SimpleNamespace(mount=mount)
    monkeypatch.setitem(sys.modules, "google.colab", package)
    return tmp_path / "drive" / "MyDrive" / "nnti"


def test_a_data_root_is_looked_at_first_until_the_next_call(project, tmp_path, monkeypatch):
    monkeypatch.setenv("NNTI_DATA", str(tmp_path / "hub"))
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        prepare(name)
        assert data_roots()[:2] == [tmp_path / name, tmp_path / "hub"]
    prepare()
    assert os.environ["NNTI_DATA"] == str(tmp_path / "hub")
    with pytest.raises(SettingError, match="data_root='gone'.*no such folder"):
        prepare("gone")


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_notebooks_settings_reach_their_experiments(path, project, tmp_path, capsys):
    layouts.write_voc(tmp_path / "shared")
    layouts.write_cityscapes(tmp_path / "shared")
    imports, settings, load = code_cells(path)[1:4]
    names = {}
    for code in (imports, settings, "preset, epochs, seed, device, data_root = 'short', 3, 4, 'cpu', 'shared'", load):
        exec(code, names)
    data, adjusted = names["train_data"], [x for x in names.values() if isinstance(x, Experiment) and x.seed == 4]
    assert data.root.is_relative_to(tmp_path / "shared") and len(data) == 3
    assert {(x.epochs, x.device) for x in adjusted} == {(3, "cpu")}
    assert "3 training and 2 validation images" in capsys.readouterr().out


def test_runs_and_figures_go_to_drive_and_decoded_copies_stay(drive, project, monkeypatch):
    monkeypatch.delenv("NNTI_CACHE")
    prepare(drive=True)
    assert (runs_dir(), figures_dir()) == (drive / "runs", drive / "figures")
    assert cache_dir() == project / "data" / "cache"
    prepare(drive=False)
    assert (runs_dir(), figures_dir()) == (project / "runs", project / "figures")


def test_drive_that_is_refused_or_not_there_says_what_to_do(project, drive, monkeypatch):
    def refuse(place):
        raise ValueError("mount failed")

    monkeypatch.setattr(sys.modules["google.colab"].drive, "mount", refuse)
    with pytest.raises(SettingError, match=r"could not be mounted \(mount failed\).*allow the access.*drive = False"):
        prepare(drive=True)
    monkeypatch.setitem(sys.modules, "google.colab", None)
    with pytest.raises(SettingError, match="is for Google Colab.*drive = False"):
        prepare(drive=True)
    assert "NNTI_RUNS" not in os.environ


def test_an_archive_on_drive_is_unpacked_once_and_only_for_its_task(drive, project, tmp_path, monkeypatch, capsys):
    layouts.write_voc(tmp_path / "source")
    (drive / "data").mkdir(parents=True)
    archive, folder = drive / "data" / "VOCtrainval_11-May-2012.tar", "VOCdevkit/VOC2012"
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "source" / "VOCdevkit", "VOCdevkit")
    md5 = hashlib.md5(archive.read_bytes()).hexdigest()
    small = downloads.Archive(archive.name, {folder: folder}, 0.0, 0.0, md5=md5)
    monkeypatch.setitem(downloads.ARCHIVES, "voc", [small])
    prepare(drive=True, archives=["cityscapes"])
    prepare(tmp_path / "source", True, ["voc"])  # found anyway
    assert not (project / "data").exists()
    for said in (True, False):
        prepare(None, True, ["voc", "sbd"])
        assert ("Unpacking" in capsys.readouterr().out) == said
    assert VOC("train").root == project / "data" / folder and archive.exists()


# the packages of a kernel: a Python without site-packages sees those of `site` only, and the pip that lies there

PIP = """
import os, sys
from pathlib import Path
(Path(__file__).parent / "call").write_text(" ".join(sys.argv[1:]))
sys.exit("no network" if "OFFLINE" in os.environ else 0)
"""
NEEDS = "torch>=2.6\nnumpy>=2.1  # a comment\n\ntimm>=1.0\njupyterlab>=4\n"


def write_project(folder: Path, needs: str) -> Path:
    (folder / "nnti").mkdir(parents=True)
    shutil.copy(bootstrap.__file__, folder / "nnti")
    (folder / "requirements.txt").write_text(needs)
    return folder


@pytest.fixture
def kernel(tmp_path):
    """`kernel(packages, before)` runs the bootstrap where these are installed; returns its process and pip's words."""
    site, project = tmp_path / "site", write_project(tmp_path / "project", NEEDS)
    (site / "pip").mkdir(parents=True)
    (site / "pip" / "__init__.py").touch()
    (site / "pip" / "__main__.py").write_text(PIP)
    (site / "packaging").symlink_to(Path(packaging.__file__).parent)

    def run(packages: dict[str, str], before: str = "", **environment: str):
        for name, version in packages.items():
            metadata = site / f"{name}-{version}.dist-info" / "METADATA"
            metadata.parent.mkdir()
            metadata.write_text(f"Name: {name}\nVersion: {version}\n")
        path = str(project / "nnti" / "bootstrap.py")
        script = f"import runpy, sys\n{before}\nrunpy.run_path({path!r}, run_name='__main__'); print(sys.path[0])"
        environment = {**os.environ, "PYTHONPATH": str(site), "PIP_NO_INDEX": "1", **environment}
        done = subprocess.run(
            [sys.executable, "-S", "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True
        )
        call = site / "pip" / "call"
        return done, call.read_text().split() if call.exists() else []

    return run


def test_where_nothing_is_missing_pip_is_not_called(kernel, tmp_path, monkeypatch, capsys):
    done, call = kernel({"torch": "2.6", "numpy": "2.1", "timm": "1.0"})  # jupyterlab opens notebooks; one is open
    folder = tmp_path / "project"
    assert done.stdout == f"nnti in {folder}: nothing is missing\n{folder}\n" and call == [], done.stderr
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    bootstrap.main()  # the real requirements, here
    assert "nothing is missing" in capsys.readouterr().out


def test_what_is_missing_is_installed_beside_an_older_torch_which_stays(kernel):
    done, call = kernel({"torch": "2.5.1+cu121", "numpy": "1.26.4"})
    assert {"timm>=1.0", "torch==2.5.1+cu121", "numpy==1.26.4"} < set(call) and "--user" not in call
    assert "torch 2.5.1+cu121 is kept" in done.stdout and "numpy 1.26.4 is kept" in done.stdout
    assert "Installing timm" in done.stdout and "installed timm" in done.stdout, done.stderr


def test_without_rights_pip_installs_for_the_user_and_says_why_it_fails(kernel):
    before = "sys.prefix = sys.base_prefix = '/nowhere'"
    done, call = kernel({"torch": "2.6", "numpy": "2.1"}, before, OFFLINE="1")
    assert "--user" in call and done.returncode == 1
    for part in ("could not install timm", "no network", "Check the network", "pip install --quiet --user 'timm>=1.0'"):
        assert part in done.stderr


def test_an_old_python_is_named(monkeypatch):
    with (HOME / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["requires-python"] == ">=" + ".".join(map(str, bootstrap.PYTHON))
    monkeypatch.setattr(bootstrap, "PYTHON", (99, 0))
    with pytest.raises(RuntimeError, match=r"Python 99\.0 or newer.*this kernel has 3\."):
        bootstrap.main()


# the first cell, in an IPython that does not find this checkout

SHELL = """
import sys
from IPython.core.interactiveshell import InteractiveShell
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
InteractiveShell.instance().run_cell(sys.argv[1]).raise_error()
"""
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


@pytest.fixture
def published(tmp_path) -> Path:
    """A repository that has the project's bootstrap and needs no packages."""
    folder = write_project(tmp_path / "published", "")
    (folder / "nnti" / "__init__.py").write_text("fit = 'found'")
    (folder / "notebooks").mkdir()
    (folder / "notebooks" / "task.ipynb").touch()
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(folder)]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *command], check=True)
    return folder


def run_first_cell(address: str, folder: Path) -> subprocess.CompletedProcess:
    cell = re.sub(r'(?<=repository = )"[^"]*"', repr(address), code_cells(NOTEBOOKS[0])[0])
    cell += "\nfrom nnti import fit\nprint(fit)"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "NNTI"))}
    environment["IPYTHONDIR"] = str(folder.parent / "ipython")
    command = [sys.executable, "-c", SHELL, cell]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


@needs_git
def test_the_first_cell_clones_only_where_no_checkout_is_found(published, tmp_path):
    folder = tmp_path / "empty folder"
    folder.mkdir()
    for place, address in ((folder, published.as_uri()), (folder / "nnti" / "notebooks", "no address")):
        done = run_first_cell(address, place)
        assert done.stdout.splitlines()[-2:] == [f"nnti in {folder / 'nnti'}: nothing is missing", "found"], done.stderr
    assert "fatal" not in done.stdout


# the repository's address

spec = importlib.util.spec_from_file_location("badges", HOME / "notebooks" / "badges.py")
badges = importlib.util.module_from_spec(spec)
spec.loader.exec_module(badges)


@needs_git
def test_a_fork_writes_its_own_address_and_nothing_else(tmp_path, monkeypatch):
    for path in (HOME / "pyproject.toml", HOME / "README.md", HOME / "docs" / "notebooks.md", *NOTEBOOKS):
        copy = tmp_path / path.relative_to(HOME)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
    monkeypatch.setattr(badges, "HOME", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    old = tomllib.loads((HOME / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    old = old.removeprefix("https://github.com/").encode()
    for command in (["init", "--quiet"], ["remote", "add", "origin", "git@github.com:a/b.c.git"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    for given, name in (("some-one/my.course", b"some-one/my.course"), ("", b"a/b.c")):
        badges.main(given)
        for path, content in before.items():
            assert path.read_bytes() == content.replace(b"/" + old, b"/" + name)
            assert path.suffix != ".ipynb" or path.read_bytes().count(name) == 2  # badge, first cell


def test_the_first_cell_is_the_same_in_all_notebooks():
    assert len({code_cells(path)[0] for path in NOTEBOOKS}) == 1
