"""A decoded copy of a split: the pixels of all images and labels in one file that is mapped into memory.

Decoding an image takes many times longer than cutting a crop out of its pixels. The copy is written once and read by
all workers and all runs; the operating system keeps in memory as much of it as fits. An image of Cityscapes and its
label take 8.4 MB.

The file holds of each sample the image, uint8 (3, H, W), then the label, uint8 (H, W), and behind the last sample a
description (JSON), its length and a mark. It is written under another name and moved when it is whole.
"""

import hashlib
import json
import os
import shutil
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from filelock import FileLock, Timeout
from PIL import Image

from nnti.data.base import SegmentationDataset, check_choice, evenly_spread
from nnti.errors import DataError, denied
from nnti.folders import cache_dir
from nnti.progress import progress_bar, write_line

__all__ = ["CACHES", "Decoded", "attach_cache", "decoded_bytes"]


CACHES = ("auto", "none", "ram", "disk")
FORMAT = 1  # of the file, and of what the data sets' `read_label` return: one more when either changes
MARK = b"nnti-decoded"
SHARE_OF_DISK = 0.5  # 'auto' leaves half of the free space to others, …
SHARE_OF_MEMORY = 0.4  # … and more than half of the free memory to the training
PROBED = 32  # images whose size stands for that of all


class Decoded:
    """The decoded samples of a split; `decoded[i]` are views of the mapped file, (3, H, W) and (H, W).

    Where a view is written to, this process alone sees the change; the file stays as it is.

    Attributes:
        path: the file, or the name of the piece of memory. kind: "disk" or "ram".
    """

    def __init__(self, path: Path, kind: str, heights: np.ndarray, widths: np.ndarray, owned: BinaryIO | None = None):
        self.path, self.kind, self.heights, self.widths = path, kind, heights, widths
        sizes = 4 * heights * widths
        self.starts = np.cumsum(sizes) - sizes
        self._owned = owned  # memory lives as long as it is open
        self._pixels: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        if self._pixels is None:
            self._pixels = np.memmap(self.path, np.uint8, mode="c")
        height, width, start = int(self.heights[index]), int(self.widths[index]), int(self.starts[index])
        pixels = torch.from_numpy(self._pixels[start : start + 4 * height * width]).view(4, height, width)
        return pixels[:3], pixels[3]

    def __getstate__(self) -> dict[str, Any]:
        """A worker process that is not a copy of this one maps the file again."""
        return {**self.__dict__, "_pixels": None, "_owned": None}

    @property
    def nbytes(self) -> int:
        """Bytes of all pixels."""
        return int(4 * (self.heights * self.widths).sum())


def attach_cache(dataset: SegmentationDataset, mode: str = "auto", *, build: bool = True, progress: bool = True) -> str:
    """Let a data set read from a decoded copy of its files, which is made where it is missing or older than they are.

    Args:
        dataset: changed in place; its `files` must stay as they are from now on.
        mode: 'disk' keeps the copy in `nnti.folders.cache_dir()`, 'ram' in memory that workers share (Linux only), 'none'
            reads the files each time. 'auto' takes 'disk' where the copy is there or would fill less than half of the
            free space, else 'ram' where it would fill less than 40 % of the free memory, else 'none'.
        build: make the copy; False uses one that is there, and nothing else.
        progress: show a bar, and a sentence that says what was chosen.

    Returns 'none', 'ram' or 'disk'. Raises DataError if a copy was asked for ('disk', 'ram') that cannot be made.
    """
    check_choice("cache", mode, CACHES)
    path = _path(dataset)
    fingerprint = None if mode == "none" else _fingerprint(dataset)
    dataset.decoded = _open(path, fingerprint) if mode in ("auto", "disk") else None
    if dataset.decoded is None and build and mode != "none":
        kind, reason = _choose(dataset, path.parent) if mode == "auto" else (mode, "as set")
        if progress:
            write_line(f"{dataset.title} {dataset.split}: cache '{kind}' ({reason})")
        if kind != "none":
            dataset.decoded = _build(dataset, kind, path, fingerprint, progress, optional=mode == "auto")
    return dataset.cache


def decoded_bytes(dataset: SegmentationDataset) -> int:
    """Estimate the size of the decoded copy from the headers of some images."""
    sizes = []
    for index in evenly_spread(len(dataset), PROBED):
        with _opened(dataset.files[index][0]) as image:
            sizes.append(4 * image.width * image.height)
    return round(sum(sizes) / len(sizes) * len(dataset))


def _choose(dataset: SegmentationDataset, folder: Path) -> tuple[str, str]:
    size, disk, memory = decoded_bytes(dataset), _free_disk(folder), _free_memory()
    what = f"{_giga(size)} decoded, free: disk {_giga(disk)}, memory {_giga(memory)}"
    if size < SHARE_OF_DISK * disk:
        return "disk", f"{what}; in {folder}"
    if size < SHARE_OF_MEMORY * memory and hasattr(os, "memfd_create"):
        return "ram", what
    return "none", what


def _build(dataset, kind: str, path: Path, fingerprint: str, progress: bool, optional: bool) -> Decoded | None:
    """Make the copy; where that fails for want of space, say so and go on without if it is `optional`."""
    try:
        return (
            _build_in_memory(dataset, progress) if kind == "ram" else _build_file(dataset, path, fingerprint, progress)
        )
    except OSError as error:
        problem = f"the decoded copy of {dataset.title} {dataset.split} cannot be kept in {path.parent} ({error})"
        fix = "set NNTI_CACHE to a folder with room for it, or cache='none' to read the files each time"
        if not optional:
            raise DataError(f"{problem}; {fix}") from error
        warnings.warn(f"{problem}; going on without. To change that, {fix}", stacklevel=3)
        return None


def _build_file(dataset: SegmentationDataset, path: Path, fingerprint: str, progress: bool) -> Decoded:
    """Write the file, unless another process has just done so; nothing of a broken attempt remains in use."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")  # goes away with the process that holds it
    try:
        lock.acquire(timeout=0)
    except Timeout:
        write_line(f"{path} is being written by another process; waiting for it")
        lock.acquire()
    part = path.with_name(path.name + ".part")
    try:
        ready = _open(path, fingerprint)
        if ready is not None:
            return ready
        with open(part, "wb") as file:
            sizes = _write_samples(dataset, file, progress)
            _write_description(file, fingerprint, sizes)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
        return Decoded(path, "disk", *sizes)
    finally:
        part.unlink(missing_ok=True)
        lock.release()


def _build_in_memory(dataset: SegmentationDataset, progress: bool) -> Decoded:
    if not hasattr(os, "memfd_create"):
        raise DataError("cache='ram' needs Linux; set cache='disk', which is read from memory too once it is warm")
    file = os.fdopen(os.memfd_create("nnti-decoded"), "wb")
    sizes = _write_samples(dataset, file, progress)
    file.flush()
    return Decoded(Path(f"/proc/{os.getpid()}/fd/{file.fileno()}"), "ram", *sizes, owned=file)


def _write_samples(dataset: SegmentationDataset, file: BinaryIO, progress: bool) -> tuple[np.ndarray, np.ndarray]:
    """Append all samples in order; return their heights and widths, int64 each."""
    sizes = np.empty((2, len(dataset)), dtype=np.int64)
    title = f"{dataset.title} {dataset.split}: decoding once"
    with progress_bar(total=len(dataset), desc=title, unit="img", disable=not progress) as bar:
        for index, (image, label) in enumerate(_in_order(dataset)):
            file.write(image.contiguous().numpy())
            file.write(label.contiguous().numpy())
            sizes[:, index] = label.shape
            bar.update()
    return sizes[0], sizes[1]


def _in_order(dataset: SegmentationDataset) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Decode all samples with a thread per core, a few ahead of the one that is yielded."""
    threads = os.cpu_count() or 1
    with ThreadPoolExecutor(threads) as pool:
        for first in range(0, len(dataset), 4 * threads):
            yield from pool.map(dataset.read, range(first, min(first + 4 * threads, len(dataset))))


def _write_description(file: BinaryIO, fingerprint: str, sizes: tuple[np.ndarray, np.ndarray]) -> None:
    heights, widths = (side.tolist() for side in sizes)
    text = json.dumps({"fingerprint": fingerprint, "heights": heights, "widths": widths}).encode()
    file.write(text + len(text).to_bytes(8, "little") + MARK)


def _open(path: Path, fingerprint: str) -> Decoded | None:
    """Return a file's samples; None if it is not there, not whole, or made from other files."""
    try:
        with open(path, "rb") as file:
            tail = len(MARK) + 8
            file.seek(-tail, os.SEEK_END)
            pixels_and_text = file.tell()
            length = int.from_bytes(file.read(8), "little")
            if file.read() != MARK:
                return None
            file.seek(pixels_and_text - length)
            found = json.loads(file.read(length))
    except (OSError, ValueError):
        return None
    heights, widths = (np.array(found[side], dtype=np.int64) for side in ("heights", "widths"))
    decoded = Decoded(path, "disk", heights, widths)
    whole = decoded.nbytes == pixels_and_text - length
    return decoded if whole and found["fingerprint"] == fingerprint else None


def _path(dataset: SegmentationDataset) -> Path:
    """Return where the copy lies: one file for each list of files."""
    names = "\n".join(f"{image}\t{label}" for image, label in dataset.files)
    key = hashlib.sha256(names.encode(errors="surrogateescape")).hexdigest()[:12]
    return cache_dir() / f"{dataset.name}-{dataset.split}-{key}.decoded"


def _fingerprint(dataset: SegmentationDataset) -> str:
    """Sum up what the copy depends on: this code's format, the classes, and size and time of every file."""
    summed = hashlib.sha256(f"{FORMAT} {dataset.name} {list(dataset.class_names)}{dataset.encoding}".encode())
    for path in (path for pair in dataset.files for path in pair):
        try:
            state = path.stat()
        except PermissionError:
            raise denied(path) from None
        except OSError as error:
            raise DataError(f"{path} cannot be found ({error.strerror}); unpack the data set again") from None
        summed.update(f"{state.st_size} {state.st_mtime_ns}\n".encode())
    return summed.hexdigest()


def _opened(path: Path) -> Image.Image:
    try:
        return Image.open(path)  # the header alone
    except (OSError, SyntaxError) as error:
        raise DataError(f"{path} cannot be read ({error}); half copied? Copy or download it again") from error


def _free_disk(folder: Path) -> int:
    """Return the bytes that may be written below a folder that need not be there yet; 0 if none may."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free if os.access(folder, os.W_OK) else 0


def _free_memory() -> int:
    """Return the bytes of memory that are free for this process, a container's limit included; 0 if nobody says."""
    known = [_in_meminfo(), _in_container()]
    return min((free for free in known if free is not None), default=0)


def _in_meminfo() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    return next((1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:")), None)


def _in_container() -> int | None:
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            values = [int((Path("/sys/fs/cgroup") / name).read_text()) for name in (limit, used)]
        except (OSError, ValueError):  # "max": no limit
            continue
        return max(0, values[0] - values[1])
    return None


def _giga(size: int) -> str:
    return f"{size / 1e9:.3g} GB"
