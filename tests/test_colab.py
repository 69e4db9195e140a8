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
from nnti.data import VOC, DataError
from nnti.data import download as downloads
from nnti.errors import SettingError
from nnti.experiment import Experiment
from nnti.folders import cache_dir, data_roots, figures_dir, runs_dir
from nnti.notebook import colab
from nnti.notebook.colab import choose, prepare
from nnti.training.loop import fit

HOME = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((HOME / "notebooks").glob("task*.ipynb"))
TINY = {
    "name": "tiny", "dataset": "camvid", "train_split": "train", "batch_size": 2, "epochs": 1, "val_every": 1,
    "base_size": 64, "crop_size": 48, "val_size": 32, "precision": "float32", "device": "cpu", "num_workers": 0,
    "cache": "disk",
}  # fmt: skip


def code_cells(path: Path) -> list[str]:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


# choose


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A machine without data and without a GPU; `here(gpu=True)` gives it one."""
    monkeypatch.setenv("NNTI_DATA", str(tmp_path))
    monkeypatch.setattr("nnti.folders.home", lambda: tmp_path / "home")
    monkeypatch.chdir(tmp_path)

    def machine(gpu: bool):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
        return tmp_path

    return machine


@pytest.mark.parametrize("gpu", [False, True])
def test_without_data_the_miniature_is_chosen_with_the_reason(here, gpu):
    here(gpu)
    experiment, reason = choose("enet_voc")
    assert experiment.name == "enet_voc_miniature"
    assert "not found" in reason and "python -m nnti data voc" in reason


def test_with_data_the_gpu_decides(here):
    write = here(gpu=False)
    layouts.write_voc(write)
    assert choose("enet_voc")[0].name == "enet_voc_short"  # which needs no SBD
    here(gpu=True)
    experiment, reason = choose("enet_voc")
    assert experiment.name == "enet_voc_miniature" and "python -m nnti data sbd" in reason
    layouts.write_sbd(write / "sbd")
    assert choose("enet_voc")[0].name == "enet_voc"


def test_a_named_preset_is_taken_as_it_is(here):
    here(gpu=False)
    for preset, name in (("report", "enet_voc"), ("short", "enet_voc_short"), ("miniature", "enet_voc_miniature")):
        assert choose("enet_voc", preset)[0].name == name
        changed = choose("enet_voc", preset)[0].differences(choose("enet_voc_plain", preset)[0])
        assert set(changed) <= {"name", "augment", "crop_size"} and changed["augment"] == (True, False)
    with pytest.raises(SettingError, match="preset='fast'.*miniature"):
        choose("enet_voc", "fast")


# prepare


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


def test_nothing_is_written_to_a_shared_data_folder(project, tmp_path, monkeypatch):
    monkeypatch.setenv("NNTI_CACHE", str(tmp_path / "cache"))
    shared = tmp_path / "shared"
    layouts.write_camvid(shared / "camvid")
    before = {path: path.stat().st_mtime_ns for path in (shared, *shared.rglob("*"))}
    prepare(shared)
    run = fit(Experiment(**TINY), progress=False)
    assert len(list(run)) == 1 and run.train_data.cache == "disk"
    assert {path: path.stat().st_mtime_ns for path in (shared, *shared.rglob("*"))} == before
    assert (project / "runs" / "tiny" / "record.json").exists()


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


def test_drive_elsewhere_and_refused(project, drive, monkeypatch):
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
    archive = drive / "data" / "VOCtrainval_11-May-2012.tar"
    archive.parent.mkdir(parents=True)
    with tarfile.open(archive, "w") as tar:
        tar.add(tmp_path / "source" / "VOCdevkit", "VOCdevkit")
    fields = ("VOCdevkit/VOC2012", hashlib.md5(archive.read_bytes()).hexdigest())
    small = downloads.Archive(archive.name, {fields[0]: fields[0]}, 0.0, 0.0, md5=fields[1])
    monkeypatch.setitem(downloads.ARCHIVES, "voc", [small])
    prepare(drive=True, archives=["cityscapes"])
    assert not (project / "data").exists()
    prepare(tmp_path / "source", True, ["voc"])  # found anyway
    assert not (project / "data").exists()
    for said in (True, False):
        prepare(None, True, ["voc", "sbd"])
        assert ("Unpacking" in capsys.readouterr().out) == said
    assert VOC("train").root == project / "data" / "VOCdevkit" / "VOC2012" and archive.exists()
    with pytest.raises(DataError, match="did you mean 'voc'"):
        prepare(None, True, ["vco"])
    shutil.rmtree(project / "data")
    archive.write_bytes(archive.read_bytes()[:-1000])
    with pytest.raises(DataError, match=f"{archive} is damaged"):
        prepare(None, True, ["voc"])


# the packages of a kernel: a Python without site-packages sees those of `kernel` only, and the pip that lies there

PIP = """
import re, site, sys
from pathlib import Path
here = Path(__file__).resolve().parents[1]
with open(here / "calls", "a") as calls:
    print(*sys.argv[1:], file=calls)
if (here / "broken").exists():
    sys.exit("no network")
for package in sys.argv[2:]:
    if ">=" in package:
        name, version = package.split(">=")
        folder = Path(site.getusersitepackages()) if "--user" in sys.argv else here
        folder = folder / f"{name}-{version}.dist-info"
        folder.mkdir(parents=True)
        (folder / "METADATA").write_text(f"Name: {name}\\nVersion: {version}\\n")
"""


class Kernel:
    """A checkout with the project's requirements, and a folder that holds their metadata and a pip."""

    def __init__(self, folder: Path):
        self.site, self.project, self.user = folder / "site", folder / "project", folder / "user"
        (self.project / "nnti").mkdir(parents=True)
        shutil.copy(bootstrap.__file__, self.project / "nnti")
        shutil.copy(HOME / "requirements.txt", self.project)
        shutil.copytree(Path(packaging.__file__).parent, self.site / "packaging")
        (self.site / "pip").mkdir()
        (self.site / "pip" / "__init__.py").touch()  # a package comes before the real pip, which a mere folder does not
        (self.site / "pip" / "__main__.py").write_text(PIP)
        text = (HOME / "requirements.txt").read_text(encoding="utf-8")
        self.lowest = dict(re.findall(r"^([\w-]+)>=([\d.]+)", text, flags=re.M))
        for name, version in self.lowest.items():
            self.install(name, version)

    def install(self, name: str, version: str | None) -> None:
        """Let another version of a package, or none, be there."""
        for folder in self.site.glob(f"{name.replace('-', '_')}-*.dist-info"):
            shutil.rmtree(folder)
        if version:
            folder = self.site / f"{name.replace('-', '_')}-{version}.dist-info"
            folder.mkdir()
            (folder / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")

    def run(self, before: str = "") -> subprocess.CompletedProcess:
        path = self.project / "nnti" / "bootstrap.py"
        script = f"import runpy, sys\n{before}\nrunpy.run_path({str(path)!r}, run_name='__main__'); print(sys.path[0])"
        environment = {**os.environ, "PYTHONPATH": str(self.site), "PYTHONUSERBASE": str(self.user)}
        environment |= {
            "PIP_DRY_RUN": "1",
            "PIP_NO_INDEX": "1",
        }  # should the real one be found
        command = [sys.executable, "-S", "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, text=True)

    def calls(self) -> list[list[str]]:
        path = self.site / "calls"
        return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def kernel(tmp_path) -> Kernel:
    return Kernel(tmp_path)


def test_where_nothing_is_missing_pip_is_not_called(kernel):
    kernel.install("jupyterlab", None)  # opens notebooks; here one is open
    done = kernel.run()
    assert done.stdout == f"nnti in {kernel.project}: nothing is missing\n{kernel.project}\n", done.stderr
    assert kernel.calls() == []


def test_what_is_missing_is_installed_beside_an_older_torch_which_stays(kernel):
    kernel.install("torch", "2.5.1+cu121")
    kernel.install("numpy", "1.26.4")
    for name in ("timm", "cityscapesscripts"):
        kernel.install(name, None)
    done = kernel.run()
    (call,) = kernel.calls()
    assert {word for word in call if ">=" in word} == {
        f"{name}>={kernel.lowest[name]}" for name in ("timm", "cityscapesscripts")
    }
    assert {"torch==2.5.1+cu121", "numpy==1.26.4"} < set(call) and "--user" not in call
    assert "torch 2.5.1+cu121 stays" in done.stdout and "numpy 1.26.4 stays" in done.stdout
    assert "Installing timm" in done.stdout and "pillow" not in done.stdout
    kernel.run()
    assert len(kernel.calls()) == 1


def test_without_rights_packages_go_into_the_users_own_folder(kernel):
    kernel.install("timm", None)
    done = kernel.run("sys.prefix = sys.base_prefix = '/nowhere'")
    assert "--user" in kernel.calls()[0] and list(kernel.user.rglob("timm-*.dist-info"))
    assert "installed timm" in done.stdout, done.stderr


def test_a_failed_pip_says_why_and_what_to_do(kernel):
    kernel.install("timm", None)
    (kernel.site / "broken").touch()
    done = kernel.run()
    assert done.returncode == 1
    command = f"-m pip install --quiet 'timm>={kernel.lowest['timm']}'"
    for part in ("could not install timm", "no network", "Check the network", command):
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
    """A repository that has the project's bootstrap and no requirements."""
    folder = tmp_path / "published"
    (folder / "nnti").mkdir(parents=True)
    (folder / "notebooks").mkdir()
    shutil.copy(bootstrap.__file__, folder / "nnti")
    (folder / "nnti" / "__init__.py").write_text("fit = 'found'")
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
def test_the_first_cell_clones_where_nothing_is_found_and_only_then(published, tmp_path):
    folder = tmp_path / "empty folder"
    folder.mkdir()
    for _ in range(2):
        done = run_first_cell(published.as_uri(), folder)
        assert done.stdout.splitlines()[-2:] == [f"nnti in {folder / 'nnti'}: nothing is missing", "found"], done.stderr
        (folder / "nnti" / "mine").write_text("")  # a second clone would be refused
    assert "Cloning" not in done.stdout


@needs_git
def test_the_first_cell_finds_the_checkout_around_it(published):
    for folder in (published, published / "notebooks"):
        done = run_first_cell("no address", folder)
        assert done.stdout.splitlines() == [f"nnti in {published}: nothing is missing", "found"], done.stderr


@needs_git
def test_a_clone_that_fails_says_why(tmp_path):
    done = run_first_cell((tmp_path / "gone").as_uri(), tmp_path)
    assert done.returncode == 1 and re.search("does not (exist|appear)", done.stdout)


# the repository's address

spec = importlib.util.spec_from_file_location("badges", HOME / "notebooks" / "badges.py")
badges = importlib.util.module_from_spec(spec)
spec.loader.exec_module(badges)


@pytest.fixture
def fork(tmp_path, monkeypatch) -> Path:
    for path in (HOME / "pyproject.toml", HOME / "README.md", HOME / "docs" / "notebooks.md", *NOTEBOOKS):
        copy = tmp_path / path.relative_to(HOME)
        copy.parent.mkdir(exist_ok=True)
        shutil.copy(path, copy)
    monkeypatch.setattr(badges, "HOME", tmp_path)
    return tmp_path


def test_a_fork_writes_its_own_address_and_nothing_else(fork):
    with (HOME / "pyproject.toml").open("rb") as file:
        old = tomllib.load(file)["project"]["urls"]["Repository"].removeprefix("https://github.com/").encode()
    before = {path: path.read_bytes() for path in fork.rglob("*") if path.is_file()}
    badges.main("some-one/my.course")
    for path, content in before.items():
        assert path.read_bytes() == content.replace(b"/" + old, b"/some-one/my.course")
        assert path.suffix != ".ipynb" or path.read_bytes().count(b"some-one/my.course") == 2  # badge, first cell
    badges.main(old.decode())
    assert before == {path: path.read_bytes() for path in before}
    with pytest.raises(SystemExit, match="owner/name"):
        badges.main("https://gitlab.com/owner/name")


@needs_git
@pytest.mark.parametrize(
    "address", ["https://github.com/a/b.c.git", "git@github.com:a/b.c.git", "https://gitlab.com/a/b"]
)
def test_the_remote_is_the_default_where_it_is_on_github(fork, address):
    for command in (["init", "--quiet"], ["remote", "add", "origin", address]):
        subprocess.run(["git", "-C", str(fork), *command], check=True)
    if "github" in address:
        badges.main("")
        assert '"https://github.com/a/b.c"' in (fork / "pyproject.toml").read_text()
    else:
        with pytest.raises(SystemExit, match="make badges REPOSITORY=owner/name"):
            badges.main("")


def test_the_first_cell_is_the_same_in_all_notebooks():
    assert len({code_cells(path)[0] for path in NOTEBOOKS}) == 1
