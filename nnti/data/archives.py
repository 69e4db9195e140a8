"""Unpacking of tar and zip archives that come from elsewhere: nothing leaves the folder, and there is room for it."""

import fnmatch
import glob
import gzip
import posixpath
import re
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from nnti.data.base import DataError

__all__ = ["MAKE_ROOM", "check_space", "find_archive", "unpack"]

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
