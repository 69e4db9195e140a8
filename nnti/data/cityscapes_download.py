"""Download of Cityscapes with the authors' own tool, csDownload of cityscapesscripts; it needs an account.

csDownload logs in, fetches an archive and compares its MD5 with the one that the server names. Around it: what is there
already stays, a download that was cut short goes on, archives put in place by hand are used, and what is unpacked is
counted before it is moved into place. Nothing is deleted but the copies that were fetched here.
"""

import builtins
import functools
import inspect
import shutil
import sys
import zipfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import requests
from cityscapesscripts.download import downloader

from nnti.data.archives import MAKE_ROOM, check_space, find_archive, unpack
from nnti.data.base import DataError
from nnti.data.cityscapes import ACCOUNT, COARSE, FINE, IMAGES, Cityscapes, count_files, find_split
from nnti.data.download import destination
from nnti.paths import data_roots

__all__ = [
    "COARSE_PACKAGES", "FINE_PACKAGES", "Package", "credentials_file", "download_cityscapes", "install_cityscapes",
]  # fmt: skip


@dataclass(frozen=True, eq=False)  # each package is one of its own: a key of dicts
class Package:
    """One archive of the download page."""

    name: str
    part: str  # the folder in it that is unpacked
    counts: dict[str, int]  # split's folder → how many images have a file there, at least
    size: float  # of the archive, GB
    unpacked: float  # of the files, GB, rounded up


FINE_COUNTS = {"train": 2975, "val": 500, "test": 1525}
COARSE_COUNTS = {"train": 2975, "val": 500, "train_extra": 19998}

FINE_PACKAGES = (
    Package("gtFine_trainvaltest.zip", FINE, FINE_COUNTS, 0.25, 1.2),
    Package("leftImg8bit_trainvaltest.zip", IMAGES, FINE_COUNTS, 11.8, 12),
)
COARSE_PACKAGES = (
    Package("gtCoarse.zip", COARSE, COARSE_COUNTS, 1.4, 4),
    Package("leftImg8bit_trainextra.zip", IMAGES, {"train_extra": 19998}, 47.3, 48),
)

COMMAND = "python -m nnti data cityscapes"
TIMEOUT = 60  # seconds without a byte before the connection counts as dead
SITE = "https://www.cityscapes-dataset.com"

BY_HAND = """\
By hand: log in at   {site}/downloads/
download             {names}
with a browser to    {folder}
and run again        {command}"""
NO_TERMINAL = """\
There is nobody to ask for the account's name and password. Either run {command} in a terminal,
or write the file    {path}
with the content     {{"username": "NAME OR EMAIL", "password": "PASSWORD"}}
which csDownload reads (a notebook's cell can write it; delete it afterwards)."""


def download_cityscapes(root: str | Path | None = None, coarse: bool = False) -> Path:
    """Download Cityscapes (12 GB, 25 GB while unpacking) to `root`/cityscapes; return the folder with leftImg8bit.

    `coarse` adds the coarse labels and the images of `train_extra` (49 GB, twice that while unpacking). `root` is by
    default the first folder in $NNTI_DATA, else the project's data/. What is there already is not fetched again.
    Raises DataError with the fix: no account at hand, a wrong password, too little room, a download that failed.
    """
    packages = FINE_PACKAGES + (COARSE_PACKAGES if coarse else ())
    missing = {package: splits for package in packages if (splits := _missing_splits(package, root))}
    if missing:
        with destination(root) as chosen:
            _obtain(missing, chosen, data_roots() if root is None else [chosen])
    folder = Cityscapes("train", root).root
    print(f"Cityscapes is at {folder}" if missing else f"Cityscapes is already at {folder}; nothing to do")
    return folder


def install_cityscapes(folder: Path, root: Path) -> Path | None:
    """Unpack Cityscapes' archives that lie in `folder` to `root`, and return where; otherwise as `install_archive`.

    gtFine_trainvaltest.zip and leftImg8bit_trainvaltest.zip, and those of the coarse labels where they lie there too.
    """
    found = {package: find_archive(folder, package.name) for package in (*FINE_PACKAGES, *COARSE_PACKAGES)}
    missing = {package: splits for package in found if found[package] and (splits := _missing_splits(package, None))}
    if not missing:
        return None
    with destination(root):
        check_space(Cityscapes.title, sum(package.unpacked for package in missing), root, MAKE_ROOM)
        for package, splits in missing.items():
            try:
                _install(package, found[package], root, splits)
            except DataError as error:
                raise DataError(f"{found[package]} is of no use: {error}. Copy it there again, or remove it") from error
    return root / "cityscapes"


def credentials_file() -> Path:
    """Return the file in which csDownload looks for the account's name and password."""
    return Path(downloader.appdirs.user_data_dir("cityscapesscripts", "cityscapes")) / "credentials.json"


def _missing_splits(package: Package, root: str | Path | None) -> tuple[str, ...]:
    """Return which split folders of a package are not there; raise DataError if one is there but incomplete."""
    missing = []
    for split, count in package.counts.items():
        try:
            folder = find_split(package.part, split, root)
        except DataError:
            missing.append(split)
            continue
        try:
            _check_count(folder, package.part, count)
        except DataError as error:
            fix = f"Move it away or delete it, then run again: {COMMAND}"
            raise DataError(f"{folder} is there but incomplete: {error}\n{fix}") from None
    return tuple(missing)


def _obtain(missing: dict[Package, tuple[str, ...]], root: Path, places: list[Path]) -> None:
    """Install the missing packages below `root`: first from archives in `places`, then from the server."""
    found = {package: _put_by_hand(package.name, places) for package in missing}
    needed = sum(package.unpacked + (0 if found[package] else package.size) for package in missing)
    downloads = root / ".cityscapes_download"
    arrived = sum(path.stat().st_size for path in downloads.glob("*.zip")) / 1e9
    check_space(Cityscapes.title, needed - arrived, root)
    rest = [package for package in missing if not _installed_by_hand(package, found[package], root, missing[package])]
    if rest:
        downloads.mkdir(exist_ok=True)
        try:
            _download(rest, missing, downloads, root)
        finally:
            with suppress(OSError):  # not empty: what has arrived is kept for the next run
                downloads.rmdir()


def _put_by_hand(name: str, places: list[Path]) -> Path | None:
    candidates = [folder / name for place in places for folder in (place, place / "cityscapes")]
    return next((archive for archive in candidates if archive.is_file()), None)


def _installed_by_hand(package: Package, archive: Path | None, root: Path, splits: tuple[str, ...]) -> bool:
    if archive is None:
        return False
    try:
        _install(package, archive, root, splits)
    except DataError as error:
        print(f"{archive} stays as it is but is of no use: {error}")
        return False
    return True


def _download(packages: list[Package], missing: dict[Package, tuple[str, ...]], folder: Path, root: Path) -> None:
    """Fetch and install packages; an archive that is whole already is left from a run that stopped while unpacking."""
    session = None
    try:
        for package in packages:
            archive = folder / package.name
            if not zipfile.is_zipfile(archive):
                session = session or _login()
                _fetch(session, package.name, folder)
            try:
                _install(package, archive, root, missing[package])
            except DataError as error:
                archive.unlink()
                raise DataError(f"{package.name} arrived but is of no use: {error}") from error
            archive.unlink()  # unpacked and checked: the copy would only take up room
    except DataError as error:
        names = " ".join(package.name for package in packages)
        by_hand = BY_HAND.format(site=SITE, names=names, folder=root, command=COMMAND)
        raise DataError(f"{error}\n{by_hand}") from error


def _login() -> requests.Session:
    """Return a session that is logged in, with the stored account or one that csDownload asks for."""
    path, stored = credentials_file(), credentials_file().is_file()
    nobody = DataError(f"{ACCOUNT}\n{NO_TERMINAL.format(command=COMMAND, path=path)}")
    if not stored:
        if not _can_ask():
            raise nobody
        print(ACCOUNT)
    try:
        session = downloader.login()
    except requests.RequestException as error:
        raise DataError(f"{SITE} cannot be reached ({error}); try again later") from error
    except (EOFError, NotImplementedError) as error:  # a notebook that runs without its page raises the second
        raise nobody from error
    except (ValueError, TypeError) as error:
        raise DataError(f"{path} is not a file of csDownload ({error}); delete it, or correct it") from error
    except Exception as error:  # csDownload has no class of its own for a refused login
        forgotten = f"; csDownload has deleted {path}, where they were stored" if stored else ""
        raise DataError(f"{SITE} refused the user name or the password ({error}){forgotten}. Try again") from error
    session.request = functools.partial(session.request, timeout=TIMEOUT)  # csDownload itself would wait for ever
    return session


def _can_ask() -> bool:
    """Tell whether input() reaches somebody: a terminal, or a notebook, whose kernel puts its own in place of it."""
    return (sys.stdin is not None and sys.stdin.isatty()) or not inspect.isbuiltin(builtins.input)


def _fetch(session: requests.Session, name: str, folder: Path) -> None:
    """Fetch one archive into `folder`, going on with what has arrived before, or anew if that is of no use."""
    archive = folder / name
    for resume in (True, False) if archive.exists() else (False,):
        try:
            downloader.download_packages(
                session=session, package_names=[name], destination_path=str(folder), resume=resume
            )
            return
        except Exception as error:  # csDownload raises this very class for whatever it finds
            if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
                raise  # the disk, not the network
            failure = error
        if not _is_spoilt(failure):
            break
        archive.unlink(missing_ok=True)
    kept = f"; what has arrived is kept, and the next run goes on: {COMMAND}" if archive.exists() else ""
    raise DataError(f"{name} could not be downloaded ({failure or type(failure).__name__}){kept}") from failure


def _is_spoilt(error: Exception) -> bool:
    """Tell whether what has arrived is of no use: the sum is wrong, or the server cannot go on after it."""
    response = getattr(error, "response", None)
    beyond_the_end = response is not None and response.status_code == requests.codes.requested_range_not_satisfiable
    return beyond_the_end or "MD5" in str(error)


def _install(package: Package, archive: Path, root: Path, splits: tuple[str, ...]) -> None:
    """Unpack `archive` into a temporary folder, count what came out, then move the missing splits into place."""
    temporary = root / ".unpacking_cityscapes"
    shutil.rmtree(temporary, ignore_errors=True)  # left by a run that was killed
    print(f"Unpacking {archive}")
    try:
        unpack(archive, temporary, package.part)
        for split in splits:
            _check_count(temporary / package.part / split, package.part, package.counts[split])
        target = root / "cityscapes" / package.part
        target.mkdir(parents=True, exist_ok=True)
        for split in splits:
            shutil.move(temporary / package.part / split, target / split)  # may be a link to another disk
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _check_count(folder: Path, part: str, count: int) -> None:
    present = count_files(folder, part) if folder.is_dir() else 0
    if present < count:
        raise DataError(f"{part}/{folder.name} holds files of {present} instead of {count} images")
