"""Where things lie: data, runs and figures, the same from any working directory.

A checkout of the project keeps everything inside itself; an installed package uses the working directory.
"""

import os
from pathlib import Path

__all__ = ["cache_dir", "config_dir", "data_roots", "figures_dir", "home", "miniature_root", "runs_dir"]


def home() -> Path:
    """Return the project's top folder where `nnti` is used from a checkout, else the working directory."""
    top = Path(__file__).resolve().parent.parent
    return top if (top / "notebooks").is_dir() else Path.cwd()


def config_dir() -> Path:
    """Return the folder of the experiments that ship with the package."""
    return Path(__file__).resolve().parent / "configs"


def data_roots() -> list[Path]:
    """Return where data sets are looked for, first match wins: `$NNTI_DATA`, ./data, the project's data/."""
    named = [Path(part).expanduser() for part in os.environ.get("NNTI_DATA", "").split(os.pathsep) if part]
    return list(dict.fromkeys([*named, Path.cwd() / "data", home() / "data"]))


def miniature_root() -> Path:
    """Return the folder that miniatures are rendered into (never `$NNTI_DATA`, which may be shared and read-only)."""
    return home() / "data" / "miniature"


def cache_dir() -> Path:
    """Return the folder of decoded copies of data sets: `$NNTI_CACHE` or the project's data/cache/."""
    return Path(os.environ.get("NNTI_CACHE") or home() / "data" / "cache").expanduser()


def runs_dir() -> Path:
    """Return the folder of run folders: `$NNTI_RUNS` or the project's runs/."""
    return Path(os.environ.get("NNTI_RUNS") or home() / "runs").expanduser()


def figures_dir() -> Path:
    """Return the folder that figures are written to: `$NNTI_FIGURES` or the project's figures/."""
    return Path(os.environ.get("NNTI_FIGURES") or home() / "figures").expanduser()
