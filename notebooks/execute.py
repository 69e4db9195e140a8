"""Execute the three notebooks from top to bottom, one bar each; `make` calls this.

python notebooks/execute.py [preset=miniature] [epochs=3] …   parameters as in the notebooks' settings cell

The executed copies, with their outputs, go to runs/notebooks/, everything that is printed to runs/notebooks/log.txt.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

import papermill
from papermill.exceptions import PapermillExecutionError

from nnti.experiment import parse_setting
from nnti.folders import home, runs_dir

HERE = Path(__file__).resolve().parent


def main(arguments: list[str]) -> int:
    """Execute all notebooks and sum up what they trained; return 1 if a cell fails, after printing it."""
    given = dict(parse_setting(text) for text in arguments if not text.endswith("="))
    folder, started = home() / "runs" / "notebooks", time.time()
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "log.txt", "w", encoding="utf-8") as log:
        for notebook in sorted(HERE.glob("task*.ipynb")):
            try:
                execute(notebook, folder / notebook.name, given, log)
            except PapermillExecutionError as error:
                print(f"\n{notebook.name}: this cell failed\n\n{error.source}\n\n{error.ename}: {error.evalue}")
                print(
                    f"\nThe executed notebook, up to this cell: {folder / notebook.name}\nThe log: {folder / 'log.txt'}"
                )
                return 1
    summarize(folder, started)
    return 0


def execute(notebook: Path, output: Path, parameters: dict[str, Any], log) -> None:
    """Execute one notebook in its own folder, with a bar over its cells."""
    papermill.execute_notebook(
        notebook, output, parameters, kernel_name="python3", cwd=notebook.parent, stdout_file=log, stderr_file=log,
        progress_bar={"desc": f"{notebook.stem:26}", "bar_format": "{desc}{bar:24} {percentage:3.0f} %  {elapsed}"},
    )  # fmt: skip


def summarize(folder: Path, started: float) -> None:
    """Print each run that has ended since, with its validation scores, and what to look at."""
    print("\nmean IoU of the validation images (report protocol, full protocol)")
    for path in sorted(runs_dir().glob("*/record.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        if record["finished"] and path.stat().st_mtime >= started:
            scores = "  ".join(f"{found['mean_iou']:.3f}" for found in record["validation"].values())
            print(f"  {path.parent.name:40} {scores}  {record['data']['title']}, {record['epochs']} epochs")
    print(f"executed notebooks and their log: {folder}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
