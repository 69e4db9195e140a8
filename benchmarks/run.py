"""Run benchmarks, each in a process of its own, and write benchmarks/results/<machine>.md with its figure.

python -m benchmarks.run                  all of them
python -m benchmarks.run step metrics     these; what an earlier run on this machine found of the others is kept
"""

import argparse
import importlib
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks import page, results
from nnti.device import commit, device_name, resolve_device, versions

BENCHMARKS = ("pipeline", "step", "metrics", "memory", "inference", "growth", "dashboard")
RESULTS = Path(__file__).resolve().parent / "results"


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line names; return 1 if one of them failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.run", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument("--output", type=Path, default=RESULTS, metavar="DIR", help="default: benchmarks/results/")
    parser.add_argument("--into", type=Path, help=argparse.SUPPRESS)  # in the process of one benchmark
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.names) - set(BENCHMARKS))
    if unknown:
        parser.error(f"{', '.join(unknown)}: the benchmarks are {', '.join(BENCHMARKS)}")
    if options.into:
        return _measure(options.names[0], options.into)
    folder = options.output / machine()
    failed = [name for name in options.names or BENCHMARKS if not _in_own_process(name, folder)]
    page.write(folder)
    print(f"{folder}.md" + (f"; failed: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def machine() -> str:
    """Return the machine's name as a file's name: amd-epyc-2-threads."""
    words = "".join(sign if sign.isalnum() else " " for sign in device_name(resolve_device()).lower()).split()
    return "-".join(words)


def _in_own_process(name: str, folder: Path) -> bool:
    print(f"{name} …", flush=True)
    command = [sys.executable, "-m", "benchmarks.run", name, "--into", str(folder / f"{name}.json")]
    return subprocess.run(command, cwd=RESULTS.parent.parent).returncode == 0


def _measure(name: str, path: Path) -> int:
    started = time.perf_counter()
    result = importlib.import_module(f"benchmarks.{name}").measure()
    result.seconds = round(time.perf_counter() - started, 1)
    result.machine = {
        "device": device_name(resolve_device()),
        "processor": device_name(torch.device("cpu")),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions(),
        "commit": commit(),
    }
    results.save(result, path)
    print(f"{name}: {result.seconds:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
