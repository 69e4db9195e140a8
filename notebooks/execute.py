"""Execute the three notebooks from top to bottom, one bar each; `make` calls this.

python notebooks/execute.py [preset=miniature] [epochs=3] …   parameters as in the notebooks' settings cell

The executed copies, with their outputs, go to runs/notebooks/, and beside each a .txt with everything it printed. On a
CPU, Tasks I and II run side by side: on half the cores each, small networks take little longer than on all of them.
Task III, which compares itself with Task II, follows.
"""

import json
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import papermill
import torch
from papermill.exceptions import PapermillExecutionError
from tqdm.auto import tqdm

from nnti.experiment import parse_setting
from nnti.folders import home, runs_dir

HERE = Path(__file__).resolve().parent
BAR = "{desc}{bar:24} {percentage:3.0f} %  {elapsed}"


def main(arguments: list[str]) -> int:
    """Execute all notebooks and sum up what they trained; return 1 if a cell fails, after printing it."""
    given = dict(parse_setting(text) for text in arguments if not text.endswith("="))
    folder, started = home() / "runs" / "notebooks", time.time()
    folder.mkdir(parents=True, exist_ok=True)
    one, two, three = sorted(HERE.glob("task*.ipynb"))
    on_cpu = given.get("device") == "cpu" or not torch.accelerator.is_available()
    for together in [[one, two], [three]] if on_cpu else [[one], [two], [three]]:
        environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // len(together))), **os.environ}
        options = {"initializer": begin, "initargs": (environment, tqdm.get_lock())}
        with ProcessPoolExecutor(len(together), **options) as pool:
            failures = [*filter(None, pool.map(partial(execute, folder, given), range(len(together)), together))]
        if failures:
            print(*failures, sep="\n")
            return 1
    summarize(folder, started)
    return 0


def begin(environment: dict[str, str], lock) -> None:
    """Prepare a process that executes a notebook: its kernel's environment, and a lock for the bars of all."""
    os.environ.update(environment)
    tqdm.set_lock(lock)


def execute(folder: Path, parameters: dict[str, Any], position: int, notebook: Path) -> str:
    """Execute a notebook in its own folder, and return what failed, or ''."""
    output = folder / notebook.name
    bar = {"desc": f"{notebook.stem:26}", "bar_format": BAR, "position": position}
    if not sys.stderr.isatty():
        bar["mininterval"] = 60  # where a bar cannot be drawn over, each state of it is a line
    with open(output.with_suffix(".txt"), "w", encoding="utf-8") as log:
        try:
            papermill.execute_notebook(
                notebook, output, parameters, kernel_name="python3", cwd=notebook.parent, stdout_file=log,
                stderr_file=log, progress_bar=bar, extra_arguments=["--IPKernelApp.log_level=ERROR"],
            )  # fmt: skip
        except PapermillExecutionError as error:
            return (
                f"\n{notebook.name}: this cell failed\n\n{error.source}\n\n{error.ename}: {error.evalue}\n\n"
                f"The executed notebook, up to this cell: {output}\nWhat it printed: {log.name}"
            )
    return ""


def summarize(folder: Path, started: float) -> None:
    """Print each run that has ended since, with its validation scores, and what to look at."""
    print("\nmean IoU of the validation images (report protocol, full protocol)")
    for path in sorted(runs_dir().glob("*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["finished"] and path.stat().st_mtime >= started:
            scores = "  ".join(f"{found['mean_iou']:.3f}" for found in record["validation"].values())
            print(f"  {path.parent.name:40} {scores}  {record['data']['title']}, {record['epochs']} epochs")
    print(f"executed notebooks and what they printed: {folder}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
