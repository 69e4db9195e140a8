"""Install the packages that a notebook needs and its kernel lacks; the notebooks' first cell runs this file.

Installed packages are kept, even if older than in requirements.txt: Colab and hubs bring PyTorch and NumPy built for
their GPUs, and loaded packages cannot be replaced. This file imports only what every kernel has.
"""

import importlib
import os
import shlex
import site
import subprocess
import sys
import sysconfig
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

HOME = Path(__file__).resolve().parent.parent
PYTHON = (3, 11, 4)
STARTERS = {"jupyterlab", "papermill"}  # they open and run notebooks; here one runs already


def main() -> None:
    """Install missing packages and make nnti importable. Raises RuntimeError with the fix."""
    if sys.version_info < PYTHON:
        needed, found = (".".join(map(str, numbers)) for numbers in (PYTHON, sys.version_info[:3]))
        raise RuntimeError(f"Python {needed} or newer is needed, this kernel has {found}: choose another kernel")
    path, missing, pins = HOME / "requirements.txt", [], []
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []  # else pip has installed nnti
    for need in (Requirement(text) for line in lines if (text := line.partition("#")[0].strip())):
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            missing += [str(need)] if need.name not in STARTERS else []
            continue
        pins.append(f"{need.name}=={version}")
        if not need.specifier.contains(version, prereleases=True):
            print(f"{need.name} {version} is kept, although nnti is tested with {need.specifier}. If something fails,")
            print(f'type\n  pip install --upgrade "{need}"\nin a terminal and restart the kernel')
    if missing:
        install(missing, pins)
    if str(HOME) not in sys.path:
        sys.path.insert(0, str(HOME))
    print(f"nnti in {HOME}: " + (f"installed {', '.join(missing)}" if missing else "nothing is missing"))


def install(missing: list, pins: list) -> None:
    """Install packages with pip, keeping `pins`; raise RuntimeError with its output if it fails."""
    print(f"Installing {', '.join(missing)} (some minutes where PyTorch is among them)")
    environment = sys.prefix != sys.base_prefix
    user = not environment and not os.access(sysconfig.get_path("purelib"), os.W_OK)
    command = [sys.executable, "-m", "pip", "install", "--quiet", *(["--user"] if user else []), *missing, *pins]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise RuntimeError(
            f"pip could not install {', '.join(missing)}:\n{done.stdout}\nCheck the network, or type in a terminal\n"
            f"  {shlex.join(command)}\n(or ask whoever runs this machine to), then run this cell again"
        )
    if user:
        site.addsitedir(site.getusersitepackages())  # Python looks for it when it starts, and it may be new
    importlib.invalidate_caches()
    print("Reload this page once if widgets stay empty: new widgets need a page reload.")


if __name__ == "__main__":
    main()
