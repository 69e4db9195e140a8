"""A decoded copy of a split: the pixels of all images and labels in one memory-mapped file.

Decoding an image takes many times longer than cutting a crop out of its pixels. The copy is written once and read by
all workers and all runs. For each sample the file holds the image, uint8 (3, H, W), then the label, uint8 (H, W);
after the last one, all heights and widths, int64 (2, N), the pixels of each label value, int64 (256,), and a digest of
the sources (32 bytes).
"""

import hashlib
import os
import re
import shutil
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from nnti.data.base import SegmentationDataset, check_choice, count_values, evenly_spread
from nnti.errors import DataError
from nnti.folders import cache_dir
from nnti.progress import progress_bar, write_line

CACHES = ("auto", "none", "ram", "disk")
FORMAT = 3  # increase it when the file format changes, or what `read_label` returns
SHARE_OF_DISK = 0.5  # 'auto' leaves half of the free disk space …
SHARE_OF_MEMORY = 0.4  # … and more than half of the free memory to others
PROBED = 16  # labels whose sizes are used to estimate the total
ABANDONED = 600  # seconds without a write after which an unfinished file counts as left by a killed process


class Decoded:
    """The decoded samples of a split; `decoded[i]` are views of the mapped file, (3, H, W) and (H, W).

    Writing to a view changes it for this process only, never the file.

    Attributes:
        path: the file, or the name of the piece of memory. kind: "disk" or "ram".
        sizes: int64 (2, N). counts: pixels of each label value, int64 (256,).
    """

    def __init__(self, path: Path, kind: str, sizes: np.ndarray, counts: np.ndarray, owned: BinaryIO | None = None):
        self.path, self.kind, self.sizes, self.counts = path, kind, sizes, counts
        self.ends = np.cumsum(4 * sizes[0] * sizes[1])
        self._owned = owned  # keeps the memory alive
        self._pixels: np.ndarray | None = None

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self._pixels is None:
            self._pixels = np.memmap(self.path, np.uint8, mode="c")
        (height, width), end = self.sizes[:, index].tolist(), int(self.ends[index])
        pixels = torch.from_numpy(self._pixels[end - 4 * height * width : end]).view(4, height, width)
        return pixels[:3], pixels[3]

    def __getstate__(self) -> dict[str, Any]:
        """Leave out the mapping: a spawned worker maps the file again."""
        return {**self.__dict__, "_pixels": None, "_owned": None}


def attach_cache(dataset: SegmentationDataset, mode: str = "auto", *, build: bool = True, progress: bool = True) -> str:
    """Let a data set read from a decoded copy of its files, made if it is missing or out of date.

    Args:
        dataset: changed in place; its `files` must stay as they are from now on.
        mode: 'disk' keeps the copy in `nnti.folders.cache_dir()`, 'ram' in memory that workers share (Linux only),
            'none' reads the files each time. 'auto' takes 'disk' if the copy exists or would fill less than half of the
            free space, else 'ram' if it would fill less than 40 % of the free memory, else 'none'.
        build: make the copy if needed; False only uses an existing one.
        progress: show a bar, and say what was chosen.

    Returns 'none', 'ram' or 'disk'. Raises DataError if 'disk' or 'ram' was requested and the copy cannot be made.
    """
    check_choice("cache", mode, CACHES)
    path, digest = (cache_dir(), b"") if mode == "none" else _identity(dataset)
    dataset.decoded = _open(path, len(dataset), digest) if mode in ("auto", "disk") else None
    if dataset.decoded is None and build and mode != "none":
        kind, reason = _choose(dataset, path.parent) if mode == "auto" else (mode, "as set")
        if progress:
            write_line(f"{dataset.title} {dataset.split}: cache '{kind}' ({reason})")
        if kind != "none":
            dataset.decoded = _build(dataset, kind, path, digest, progress, optional=mode == "auto")
    if dataset.decoded is not None:
        dataset.counted = dataset.decoded.counts
    return dataset.cache


def _choose(dataset: SegmentationDataset, folder: Path) -> tuple[str, str]:
    """Return the kind of copy that fits this machine, and why."""
    probes = evenly_spread(len(dataset), PROBED)
    size = 4 * sum(dataset.label(index).numel() for index in probes) * len(dataset) // len(probes)
    disk, memory = free_disk(folder), free_memory()
    what = "{:.3g} GB decoded, free: disk {:.3g} GB, memory {:.3g} GB".format(*(n / 1e9 for n in (size, disk, memory)))
    if size < SHARE_OF_DISK * disk:
        return "disk", f"{what}; in {folder}"
    if size < SHARE_OF_MEMORY * memory and hasattr(os, "memfd_create"):
        return "ram", what
    return "none", what


def _build(
    dataset: SegmentationDataset, kind: str, path: Path, digest: bytes, progress: bool, optional: bool
) -> Decoded | None:
    """Make the copy; if there is no room for it and it is `optional`, warn and return None."""
    try:
        return _build_in_memory(dataset, progress) if kind == "ram" else _build_file(dataset, path, digest, progress)
    except OSError as error:
        problem = f"the decoded copy of {dataset.title} {dataset.split} cannot be kept in {path.parent} ({error})"
        fix = "set NNTI_CACHE to a folder with room for it, or cache='none' to read the files each time"
        if not optional:
            raise DataError(f"{problem}; {fix}") from error
        warnings.warn(f"{problem}; going on without. To change that, {fix}", stacklevel=3)
        return None


def _build_file(dataset: SegmentationDataset, path: Path, digest: bytes, progress: bool) -> Decoded:
    """Write the copy under a name of this process and move it into place; of two processes, the last one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for part in path.parent.glob("*.part"):
        if time.time() - part.stat().st_mtime > ABANDONED:
            part.unlink(missing_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        with open(part, "wb") as file:
            sizes, counts = _write_samples(dataset, file, progress)
            file.write(sizes.tobytes() + counts.tobytes() + digest)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return Decoded(path, "disk", sizes, counts)


def _build_in_memory(dataset: SegmentationDataset, progress: bool) -> Decoded:
    if not hasattr(os, "memfd_create"):
        raise DataError("cache='ram' needs Linux; set cache='disk', which is read from memory too once it is warm")
    file = os.fdopen(os.memfd_create("nnti-decoded"), "wb")
    sizes, counts = _write_samples(dataset, file, progress)
    file.flush()
    return Decoded(Path(f"/proc/{os.getpid()}/fd/{file.fileno()}"), "ram", sizes, counts, owned=file)


def _write_samples(dataset: SegmentationDataset, file: BinaryIO, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """Append all samples in order; return their sizes and the pixels of each label value, as `Decoded` has them."""
    sizes, counts = np.empty((2, len(dataset)), dtype=np.int64), np.zeros(256, np.int64)
    title = f"{dataset.title} {dataset.split}: decoding once"
    with progress_bar(total=len(dataset), desc=title, unit="img", disable=not progress) as bar:
        for index, (image, label) in enumerate(_in_order(dataset)):
            file.write(image.contiguous().numpy())
            file.write(label.contiguous().numpy())
            sizes[:, index] = label.shape
            counts += count_values(label)
            bar.update()
    return sizes, counts


def _in_order(dataset: SegmentationDataset) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Decode all samples with a thread per core, a few ahead of the one that is yielded."""
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(dataset), 4 * threads):
            yield from pool.map(dataset.read, range(first, min(first + 4 * threads, len(dataset))))


def _open(path: Path, count: int, digest: bytes) -> Decoded | None:
    """Return a file's samples; None if it is missing, incomplete or out of date."""
    try:
        with open(path, "rb") as file:
            pixels = file.seek(-(16 * count + 8 * 256 + len(digest)), os.SEEK_END)
            sizes = np.frombuffer(file.read(16 * count), dtype=np.int64).reshape(2, count)
            counts = np.frombuffer(file.read(8 * 256), dtype=np.int64)
            if file.read() != digest:
                return None
    except (OSError, ValueError):
        return None
    decoded = Decoded(path, "disk", sizes, counts)
    return decoded if decoded.ends[-1] == pixels else None


def _identity(dataset: SegmentationDataset) -> tuple[Path, bytes]:
    """Return the path of the copy, and a digest of format, classes, and every file's size and times.

    The path depends on the list of files alone, so a new copy replaces an old one. Unpacking an archive can leave a
    changed file its old `st_mtime`, but not its `st_ctime`.
    """
    names, state = hashlib.sha256(), hashlib.sha256()
    state.update(f"{FORMAT} {dataset.name} {list(dataset.class_names)}{dataset.encoding}".encode())
    for path in (path for pair in dataset.files for path in pair):
        names.update(os.fsencode(path) + b"\n")
        try:
            found = path.stat()
        except OSError as error:
            raise DataError(f"{path} cannot be found ({error.strerror}); unpack the data set again") from None
        state.update(f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns}\n".encode())
    path = cache_dir() / f"{dataset.name}-{dataset.split}-{names.hexdigest()[:12]}.decoded"
    return path, state.digest()


def free_disk(folder: Path) -> int:
    """Return the bytes that can be written below a folder, which need not exist yet; 0 without permission."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free if os.access(folder, os.W_OK) else 0


def free_memory() -> int:
    """Return the bytes of memory that are free for this process, a container's limit included; 0 if unknown."""
    try:
        free = 1024 * int(re.search(r"MemAvailable:\s*(\d+)", Path("/proc/meminfo").read_text())[1])
    except (OSError, TypeError):  # not Linux
        return 0
    try:
        limit, used = (int(Path("/sys/fs/cgroup", f"memory.{name}").read_text()) for name in ("max", "current"))
    except (OSError, ValueError):  # "max": no limit
        return free
    return max(0, min(free, limit - used))
