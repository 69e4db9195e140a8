"""Where things lie: data, runs and figures, the same from any working directory.

A checkout of the project keeps everything inside itself; an installed package uses the working directory.

Files of a run that are whole or not there at all, and one writer at a time.
"""

import errno
import io
import os
import shutil
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from filelock import FileLock, SoftFileLock, Timeout

from nnti.errors import RunError

__all__ = ["cache_dir", "data_roots", "figures_dir", "home", "miniature_root", "one_writer", "runs_dir", "write_whole"]


def home() -> Path:
    """Return the project's top folder where `nnti` is used from a checkout, else the working directory."""
    top = Path(__file__).resolve().parent.parent
    return top if (top / "notebooks").is_dir() else Path.cwd()


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


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
UNKNOWN_CALL = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)
PART = ".part"
LOCK = "run.lock"


def write_whole(path: Path, write: Callable[[Any], Any], previous: Path | None = None) -> None:
    """Write a file beside its place, flush it to the disk and move it there: a reader sees the old file or the new one.

    Args:
        path: the file; its permissions stay as they are, a new one gets those of the user's mask.
        write: is given the open binary file.
        previous: name under which the file that is replaced stays.

    Raises RunError, with the old file intact, where it cannot be written.
    """
    part = path.with_name(path.name + PART)
    try:
        with open(part, "wb") as file:
            _write(file, write)
            file.flush()
            _flush(file.fileno())
        if path.exists():
            with suppress(OSError):  # mounted cloud disks have no permissions of their own
                shutil.copymode(path, part)
            if previous is not None:
                _keep(path, previous)
        os.replace(part, path)
        _flush_folder(path.parent)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise RunError(_cannot_write(path, error)) from error
    except BaseException:
        part.unlink(missing_ok=True)
        raise


@contextmanager
def one_writer(folder: Path) -> Iterator[None]:
    """Keep other trainings out of a run folder meanwhile; raise RunError if one is there. Ends with the process.

    Some network and cloud disks know no locks: there the training goes on without, for it is worth more than its guard.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(_cannot_write(folder, error)) from error
    lock = FileLock(folder / LOCK)
    try:
        with warnings.catch_warnings():  # of a stand-in for locks, which is not used here
            warnings.simplefilter("ignore")
            lock.acquire(timeout=0)
    except Timeout:
        if not isinstance(lock, SoftFileLock):
            raise RunError(
                f"{folder} is being trained by another process (or another notebook). Wait for it, stop it, or pass "
                "another run_dir (--run-dir)"
            ) from None
    except (NotImplementedError, OSError):
        pass
    if isinstance(lock, SoftFileLock):  # filelock's stand-in is a file that would outlive a machine that goes away
        lock.release()
    try:
        yield
    finally:
        lock.release()


class _Watched(io.RawIOBase):
    """A file that remembers what went wrong: torch.save reports a full disk as an error of its own."""

    def __init__(self, file: io.BufferedWriter):
        self.file, self.error = file, None

    def write(self, data) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def writable(self) -> bool:
        return True


def _write(file: io.BufferedWriter, write: Callable[[Any], Any]) -> None:
    watched = _Watched(file)
    try:
        write(watched)
    except Exception:
        if watched.error is not None:
            raise watched.error from None
        raise


def _keep(path: Path, previous: Path) -> None:
    """Give a file a second name, so that it is there under one of them whenever the machine stops."""
    link = previous.with_name(previous.name + PART)
    try:
        link.unlink(missing_ok=True)
        os.link(path, link)
        os.replace(link, previous)
    except OSError:  # disks without hard links: for a moment the file has its second name only
        os.replace(path, previous)


def _flush(number: int) -> None:
    """Wait until a file is on the disk; some mounted cloud disks do not know the call and see to it themselves."""
    try:
        os.fsync(number)
    except OSError as error:
        if error.errno not in UNKNOWN_CALL:
            raise


def _flush_folder(folder: Path) -> None:
    """Make the new name itself last; systems that cannot open a folder do so on their own."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(number)
    except OSError:
        pass
    finally:
        os.close(number)


def _cannot_write(path: Path, error: OSError) -> str:
    free = shutil.disk_usage(path.parent).free / 1e6 if path.parent.is_dir() else 0
    fix = f"make room on that disk ({free:.0f} MB are free)" if error.errno in FULL else "make it writable"
    return (
        f"{path} cannot be written ({error.strerror}). What was saved before is intact: {fix}, then give the same "
        "command again, and the training goes on from there"
    )
