"""Execute the three notebooks from top to bottom, one bar each; `make` calls this.

python notebooks/execute.py [preset=miniature] [epochs=3] …   parameters as in the notebooks' settings cell

The executed copies, with their outputs, go to runs/notebooks/, and beside each a .txt with everything it printed. On a
CPU, Task I runs beside the other two: on half the cores each, small networks take little longer than on all of them.
Task III needs what Task II has trained.
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
    lanes = [sorted(HERE.glob("task*.ipynb"))]
    if given.get("device") == "cpu" or not torch.accelerator.is_available():
        lanes = [lanes[0][:1], lanes[0][1:]]
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // 2)))  # of each kernel
    with ProcessPoolExecutor(len(lanes), initializer=tqdm.set_lock, initargs=(tqdm.get_lock(),)) as pool:
        failures = list(filter(None, pool.map(partial(execute, folder, given), range(len(lanes)), lanes)))
    print(*failures, sep="\n")
    summarize(folder, started)
    return 1 if failures else 0


def execute(folder: Path, parameters: dict[str, Any], position: int, notebooks: list[Path]) -> str:
    """Execute notebooks one after the other, each in its own folder, and return what failed, or ''."""
    for notebook in notebooks:
        bar = {"desc": f"{notebook.stem:26}", "bar_format": BAR, "position": position}
        output = folder / notebook.name
        with open(output.with_suffix(".txt"), "w", encoding="utf-8") as log:
            try:
                papermill.execute_notebook(
                    notebook, output, parameters, kernel_name="python3", cwd=notebook.parent, stdout_file=log,
                    stderr_file=log, progress_bar=bar,
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
