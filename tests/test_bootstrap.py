"""The notebooks' first cell: it finds or clones the project, and installs what is missing without touching the rest."""

import ast
import importlib.metadata
import json
import os
import re
import shutil
import site
import subprocess
import sys
import tomllib
from pathlib import Path

import PIL  # noqa: F401  one of the packages that this process, as a kernel would, has loaded
import pytest

from nnti import bootstrap
from nnti.bootstrap import SetupError, main, missing_and_old, read_requirements

HOME = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((HOME / "notebooks").glob("task*.ipynb"))
LINES = (HOME / "requirements.txt").read_text(encoding="utf-8").splitlines()
CURRENT = dict(re.match(r"([\w.-]+)>=([\d.]+)", line).groups() for line in LINES if not line.startswith("#"))


class Machine:
    """The packages of a machine that is not this one, and a pip that installs into it."""

    def __init__(self):
        self.installed, self.calls, self.constraints = dict(CURRENT), [], {}
        self.result, self.output = 0, ""

    def version(self, name: str) -> str:
        try:
            return self.installed[name.lower()]
        except KeyError:
            raise importlib.metadata.PackageNotFoundError(name) from None

    def pip(self, command: list[str], **options) -> subprocess.CompletedProcess:
        assert command[:4] == [sys.executable, "-m", "pip", "install"]
        lines = Path(command[command.index("--constraint") + 1]).read_text().splitlines()
        self.constraints = dict(line.split("==") for line in lines)
        packages = [word for word in command[4 : command.index("--quiet")] if not word.startswith("--")]
        self.calls.append(packages)
        if not self.result:
            self.installed |= {re.split(">=", package)[0]: "99" for package in packages}
        return subprocess.CompletedProcess(command, self.result, self.output)


@pytest.fixture
def machine(monkeypatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(importlib.metadata, "version", machine.version)
    monkeypatch.setattr(importlib.metadata, "packages_distributions", lambda: {"PIL": ["pillow"], "typst": ["typst"]})
    monkeypatch.setattr(subprocess, "run", machine.pip)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "typst", raising=False)
    return machine


def test_needs_nothing_but_the_standard_library_and_not_nnti():
    for node in ast.walk(ast.parse(Path(bootstrap.__file__).read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_where_nothing_is_missing_nothing_is_called(machine, capsys):
    main()
    assert machine.calls == []
    assert capsys.readouterr().out == f"nnti in {HOME}: nothing is missing\n"


def test_only_what_is_missing_is_installed_and_the_rest_is_pinned(machine, capsys):
    for name in ("timm", "cityscapesscripts", "jupyterlab", "papermill"):
        del machine.installed[name]
    machine.installed["torch"] = "2.12.0+cu128"
    main()
    assert machine.calls == [[f"timm>={CURRENT['timm']}", f"cityscapesscripts>={CURRENT['cityscapesscripts']}"]]
    assert machine.constraints["torch"] == "2.12.0+cu128"
    assert set(machine.constraints) == set(CURRENT) - {"timm", "cityscapesscripts", "jupyterlab", "papermill"}
    assert "installed timm, cityscapesscripts" in capsys.readouterr().out
    main()
    assert len(machine.calls) == 1


def test_old_packages_are_renewed_unless_they_are_in_use_or_the_machines_own(machine, capsys):
    machine.installed |= {"torch": "2.5.1", "numpy": "1.26.4", "pillow": "10.4.0", "typst": "0.1.0"}
    main()
    assert machine.calls == [[f"typst>={CURRENT['typst']}"]]
    assert machine.constraints.items() >= {"torch": "2.5.1", "numpy": "1.26.4", "pillow": "10.4.0"}.items()
    said = capsys.readouterr().out
    assert f"torch 2.5.1 is older than {CURRENT['torch']}" in said and "upgrade torch torchvision" in said
    assert f"pillow 10.4.0 is older than {CURRENT['pillow']}" in said and "in use by this kernel" in said


def test_a_failed_pip_says_why_and_what_to_do(machine):
    del machine.installed["timm"]
    machine.result, machine.output = 1, "".join(f"line {number}\n" for number in range(100))
    with pytest.raises(SetupError, match=r"could not install timm:\nline 85\n(.*\n)*line 99\n.*network") as raised:
        main()
    assert f"{sys.executable} -m pip install 'timm>={CURRENT['timm']}'" in str(raised.value)


@pytest.mark.parametrize(
    ("writable", "environment", "user"), [(False, False, True), (True, False, False), (False, True, False)]
)
def test_without_root_packages_go_into_the_users_own_folder(
    machine, monkeypatch, tmp_path, writable, environment, user
):
    commands = []

    def pip(command, **options):
        commands.append(command)
        (tmp_path / "own").mkdir()  # as pip does, where the user had none
        return machine.pip(command, **options)

    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.setattr(os, "access", lambda path, mode: writable)
    monkeypatch.setattr(sys, "base_prefix", "/usr" if environment else sys.prefix)
    monkeypatch.setattr(site, "getusersitepackages", lambda: str(tmp_path / "own"))
    del machine.installed["timm"]
    main()
    assert [("--user" in command) for command in commands] == [user]
    assert (str(tmp_path / "own") in sys.path) == user


def test_new_widgets_need_the_page_to_be_loaded_again(machine, capsys):
    del machine.installed["ipywidgets"]
    main()
    assert "Reload this page once" in capsys.readouterr().out


def test_an_installed_project_names_its_requirements_itself(monkeypatch, tmp_path):
    monkeypatch.setattr(bootstrap, "HOME", tmp_path)
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: ["torch>=2.11", "Jupyterlab>=4", "tqdm"])
    assert read_requirements() == {"torch": "2.11", "tqdm": ""}


def test_every_requirement_is_known_with_its_lowest_version():
    assert read_requirements() == {name: low for name, low in CURRENT.items() if name not in bootstrap.STARTERS}


@pytest.mark.parametrize(
    ("installed", "lowest", "is_old"),
    [
        ("2.11.0+cu128", "2.11", False), ("2.9.1", "2.11", True), ("2.11", "2.11.0", False), ("3", "2.11", False),
        ("2.12.0rc1", "2.11", False), ("1.26.4", "2.0", True), ("0.1", "", False),
    ],
)  # fmt: skip
def test_versions_are_compared_as_numbers(machine, installed, lowest, is_old):
    machine.installed = {"x": installed}
    assert missing_and_old({"x": lowest, "y": lowest}) == ({"y"}, {"x"} if is_old else set())


def test_an_old_python_is_named(monkeypatch):
    with (HOME / "pyproject.toml").open("rb") as file:
        assert tomllib.load(file)["project"]["requires-python"] == ">=" + ".".join(map(str, bootstrap.PYTHON))
    monkeypatch.setattr(bootstrap, "PYTHON", (99, 0))
    with pytest.raises(SetupError, match=r"Python 99\.0 or newer.*this kernel has 3\."):
        main()


# the first cell itself, in a Python that knows nothing but its standard library


def first_cell(path: Path = NOTEBOOKS[0]) -> str:
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return next("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def run(cell: str, folder: Path) -> subprocess.CompletedProcess:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "NNTI"))}
    command = [sys.executable, "-S", "-c", cell]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")


@pytest.fixture
def published(tmp_path) -> Path:
    """A repository that has the project's bootstrap and no requirements."""
    folder = tmp_path / "published"
    (folder / "nnti").mkdir(parents=True)
    (folder / "nnti" / "bootstrap.py").write_bytes(Path(bootstrap.__file__).read_bytes())
    (folder / "nnti" / "__init__.py").write_text("fit = 'found'")
    (folder / "requirements.txt").write_text("# none\n")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", "-C", str(folder)]
    for command in (["init", "--quiet"], ["add", "."], ["commit", "--quiet", "--message", "all"]):
        subprocess.run([*git, *command], check=True)
    return folder


def with_address(address: str) -> str:
    return re.sub(r'(?<=repository = )"[^"]*"', repr(address), first_cell()) + "\nfrom nnti import fit\nprint(fit)"


def test_the_first_cell_is_the_same_in_all_notebooks():
    assert len({first_cell(path) for path in NOTEBOOKS}) == 1


@needs_git
def test_the_first_cell_clones_where_nothing_is_found_and_only_then(published, tmp_path):
    folder = tmp_path / "empty folder"
    folder.mkdir()
    for _ in range(2):
        done = run(with_address(published.as_uri()), folder)
        assert done.stdout.splitlines() == [f"nnti in {folder / 'nnti'}: nothing is missing", "found"], done.stderr
        (folder / "nnti" / "mine").write_text("")  # a second clone would be refused
    (folder / "deeper").mkdir()
    assert run(with_address("no address"), folder / "nnti" / "nnti").returncode == 0  # a checkout around is enough


@needs_git
def test_a_clone_that_fails_says_why(tmp_path):
    done = run(with_address((tmp_path / "gone").as_uri()), tmp_path)
    assert done.returncode == 1 and re.search(r"AssertionError: .*(\n.*)*does not (exist|appear)", done.stderr)


def test_before_the_address_is_known_the_first_cell_says_what_to_set(tmp_path):
    done = run(with_address("https://github.com/OWNER/nnti"), tmp_path)
    assert done.returncode == 1 and "set `repository` above to the project's address" in done.stderr
    assert list(tmp_path.iterdir()) == []
