"""Folders of data, runs and figures, the same from any working directory, and how files are written.

A checkout of the project keeps everything inside itself; an installed package uses the working directory.
"""

import io
import math
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from nnti.errors import RunError


def home() -> Path:
    """Return the project's top folder where `nnti` is used from a checkout, else the working directory."""
    top = Path(__file__).resolve().parent.parent
    return top if (top / "notebooks").is_dir() else Path.cwd()


def data_roots(root: str | Path | None = None) -> list[Path]:
    """Return where data sets are searched, first match wins: `root` alone, else `$NNTI_DATA`, ./data, the project's.

    A relative path in `$NNTI_DATA` starts at the working directory or, as in notebooks, at the project's top.
    """
    if root is not None:
        return [Path(root).expanduser()]
    named = [Path(part).expanduser() for part in os.environ.get("NNTI_DATA", "").split(os.pathsep) if part]
    parts = [*named, Path("data")]
    return list(dict.fromkeys(base / part for part in parts for base in (Path.cwd(), home())))


def miniature_root() -> Path:
    """Return the folder that miniatures are drawn into (never `$NNTI_DATA`, which may be shared and read-only)."""
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


def list_runs() -> list[str]:
    """Return the names of all runs in runs/ that have a record."""
    return _with_file(runs_dir(), "record.json")


def find_run_dir(name_or_path: str | Path) -> Path:
    """Return the folder of a run, given by its path or by its name in runs/ or report/runs/.

    Raises RunError with a list of the existing runs.
    """
    shipped = home() / "report" / "runs"
    candidates = [Path(name_or_path), runs_dir() / name_or_path, shipped / name_or_path]
    for candidate in candidates:
        if (candidate / "experiment.json").is_file() or (candidate / "record.json").is_file():
            return candidate
    looked = ", ".join(dict.fromkeys(map(str, candidates)))
    looked += "; a run is named by its folder, not by a file" if Path(name_or_path).is_file() else ""
    there = ", ".join(dict.fromkeys([*list_runs(), *_with_file(shipped, "best.pt")])) or "none yet"
    raise RunError(f"no run '{name_or_path}' (looked at {looked}); there are: {there}")


def _with_file(folder: Path, name: str) -> list[str]:
    return sorted(path.parent.name for path in folder.glob(f"*/{name}"))


def write_whole(path: Path, content: bytes | str | Callable[[BinaryIO], object], previous: Path | None = None) -> None:
    """Write a file under another name, then move it into place: a reader sees the old file or the new one.

    Args:
        path: the file; its folder is made if needed, and permissions of an older file are kept.
        content: bytes, text, or a function that writes to a binary file.
        previous: where to keep an older file.

    Raises RunError, with the older file intact, if the file cannot be written.
    """
    if callable(content):
        buffer = io.BytesIO()  # torch.save hides the OSError of a full disk behind an error of its own
        content(buffer)
        content = buffer.getbuffer()
    part = path.with_name(path.name + ".part")
    try:
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with open(part, "wb") as file:
                file.write(content.encode() if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                with suppress(OSError):  # mounted cloud disks have no permissions of their own
                    shutil.copymode(path, part)
                if previous is not None:
                    os.replace(path, previous)
            os.replace(part, path)
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError while `path` is written into a RunError with the fix."""
    try:
        yield
    except OSError as error:
        raise RunError(
            f"{path} cannot be written ({error.strerror or error}). Make room on that disk, make the folder writable, "
            "or choose another; then run the same command again. What was saved before is intact"
        ) from error


def make_folder(folder: Path) -> Path:
    """Make a folder and return it; raise RunError now, not after the work, if nothing can be written into it."""
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(4096))  # a full disk takes a name, but no content
    return folder


def plain(value: Any) -> Any:
    """Return a value as JSON has it: arrays as lists, numbers that are not finite as None."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
