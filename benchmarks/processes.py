"""Measurements of memory in processes of their own, read from Linux's /proc."""

import multiprocessing
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

__all__ = ["MEMORY_IS_READABLE", "RETURN_AT_ONCE", "in_fresh_process", "own_memory", "peak_resident", "resident"]

MEMORY_IS_READABLE = Path("/proc/self/smaps_rollup").is_file()  # Linux
# glibc keeps what a program frees for its next requests; with these settings it gives it back to the system
RETURN_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}


def in_fresh_process(function: Callable[..., Any], *arguments: Any, environment: dict[str, str] | None = None) -> Any:
    """Return what a module's function returns in a new Python process, which has allocated nothing before.

    `environment` is added to the process's variables.
    """
    before = dict(os.environ)
    os.environ.update(environment or {})
    try:
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            return pool.submit(_call, function, *arguments).result()
    finally:
        os.environ.clear()
        os.environ.update(before)


def _call(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function whose own processes, the loader's workers, are to start as they do elsewhere."""
    multiprocessing.set_start_method(multiprocessing.get_all_start_methods()[0], force=True)  # the first: the default
    return function(*arguments)


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    return _bytes("/proc/self/status", "VmRSS:")


def peak_resident() -> int:
    """Return the most that `resident` has been; unlike `ru_maxrss` without the process that started this one."""
    return _bytes("/proc/self/status", "VmHWM:")


def own_memory(processes: Iterable[int]) -> int:
    """Return the bytes that processes hold without a file behind them; what several of them share counts once."""
    kinds = ("Pss_Anon:", "Pss_Shmem:")
    return sum(_bytes(f"/proc/{process}/smaps_rollup", kind) for process in processes for kind in kinds)


def _bytes(path: str, name: str) -> int:
    lines = Path(path).read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))
