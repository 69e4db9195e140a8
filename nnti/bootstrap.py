"""What a notebook needs before it can import nnti: the missing packages, and the checkout on Python's path.

The first cell of each notebook runs this file by its path, so it imports nothing but the standard library. What is
there stays as it is, above all a hub's or Colab's own PyTorch and NumPy: pip is called for what is missing and told
the exact versions of the rest. Where nothing is missing, nothing is called.
"""

import importlib
import importlib.util
import os
import re
import shlex
import site
import subprocess
import sys
import sysconfig
import tempfile
from importlib import metadata
from pathlib import Path

__all__ = ["SetupError", "main", "missing_and_old", "read_requirements"]


HOME = Path(__file__).resolve().parent.parent
PYTHON = (3, 11, 4)
OWN = {"torch", "torchvision", "numpy"}  # a machine's own builds, for its GPU: never replaced
STARTERS = {"jupyterlab", "papermill"}  # they open and run notebooks; here one runs already
WIDGETS = {"ipywidgets", "anywidget"}
LINES = 15  # of what pip says

Requirements = dict[str, str]  # name → lowest version, "" for any


class SetupError(RuntimeError):
    """The packages cannot be made complete; the message says what to do."""


def main() -> None:
    """Install what is missing into the running kernel and let it find nnti. Raises SetupError with the fix."""
    if sys.version_info < PYTHON:
        needed, found = (".".join(map(str, numbers)) for numbers in (PYTHON, sys.version_info[:3]))
        raise SetupError(f"Python {needed} or newer is needed, this kernel has {found}: choose another kernel")
    requirements = read_requirements()
    missing, old = missing_and_old(requirements)
    kept = {name for name in old if name in OWN or _is_loaded(name)}
    for name in sorted(kept):
        print(_stays(name, requirements[name]))
    wanted = [name for name in requirements if name in missing or name in old and name not in kept]
    if wanted:
        _install({name: requirements[name] for name in wanted}, set(requirements) - set(wanted))
    _find_nnti()
    print(f"nnti in {HOME}: " + (f"installed {', '.join(wanted)}" if wanted else "nothing is missing"))
    if WIDGETS & set(wanted):
        print("Reload this page once if progress bars or widgets stay empty: it learns of new widgets when it loads.")


def read_requirements() -> Requirements:
    """Return {name: lowest version} of what runs in a kernel: from requirements.txt, or as nnti was installed."""
    path = HOME / "requirements.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else metadata.requires("nnti") or []
    found = (re.match(r"([A-Za-z0-9._-]+)(?:>=([0-9.]+))?", line) for line in lines)
    return {match[1].lower(): match[2] or "" for match in found if match and match[1].lower() not in STARTERS}


def missing_and_old(requirements: Requirements) -> tuple[set[str], set[str]]:
    """Return the names that are not installed, and those that are older than what is asked for."""
    missing, old = set(), set()
    for name, lowest in requirements.items():
        installed = _version(name)
        if installed is None:
            missing.add(name)
        elif _numbers(installed) < _numbers(lowest):
            old.add(name)
    return missing, old


def _install(wanted: Requirements, satisfied: set[str]) -> None:
    """Let pip install packages beside the others; raise SetupError with what it says if it fails."""
    print(f"Installing {', '.join(wanted)} (some minutes where PyTorch is among them)")
    fixed = {name: version for name in satisfied | _loaded() if (version := _version(name))}
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder) / "constraints.txt"
        constraints.write_text("".join(f"{name}=={version}\n" for name, version in sorted(fixed.items())))
        packages = [f"{name}>={lowest}" if lowest else name for name, lowest in wanted.items()]
        command = [sys.executable, "-m", "pip", "install", *_where(), *packages]
        quiet = ["--quiet", "--disable-pip-version-check", "--no-input", "--constraint", str(constraints)]
        done = subprocess.run(
            [*command, *quiet], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
        )
    if "--user" in command:  # Python looks for this folder when it starts, and it may be new
        site.addsitedir(site.getusersitepackages())
    importlib.invalidate_caches()
    if done.returncode or missing_and_old(wanted)[0]:
        said = "\n".join(done.stdout.strip().splitlines()[-LINES:])
        raise SetupError(
            f"pip could not install {', '.join(wanted)}:\n{said}\nCheck the network, or type in a terminal\n"
            f"  {shlex.join(command)}\n"
            "(or ask whoever runs this machine to), then run this cell again"
        )


def _where() -> list[str]:
    """Return pip's option for the user's own folder where the shared one may not be written."""
    environment = sys.prefix != sys.base_prefix
    return [] if environment or os.access(sysconfig.get_path("purelib"), os.W_OK) else ["--user"]


def _find_nnti() -> None:
    """Put the checkout on the path unless Python finds this very package anyway."""
    spec = importlib.util.find_spec("nnti")
    if spec is None or spec.origin is None or Path(spec.origin).resolve().parents[1] != HOME:
        sys.path.insert(0, str(HOME))


def _stays(name: str, lowest: str) -> str:
    reason = "the machine's own build" if name in OWN else "in use by this kernel"
    packages = "torch torchvision" if name in ("torch", "torchvision") else f"'{name}>={lowest}'"
    return (
        f"{name} {_version(name)} is older than {lowest}, with which nnti is tested. It is {reason} and stays; if "
        f"something fails, type pip install --upgrade {packages} in a terminal and restart the kernel"
    )


def _loaded() -> set[str]:
    """Return the distributions that this kernel has imported something of."""
    modules = {name.partition(".")[0] for name in list(sys.modules)}
    return {name for module, names in metadata.packages_distributions().items() if module in modules for name in names}


def _is_loaded(name: str) -> bool:
    return name in {loaded.lower() for loaded in _loaded()}


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _numbers(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, its local and preliminary parts left out: "2.11.0+cu128" → (2, 11)."""
    release = re.match(r"[0-9.]*", version)[0].strip(".")
    numbers = [int(part) for part in release.split(".") if part]
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)
