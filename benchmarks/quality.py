"""Does bfloat16 learn as well as float32? Training runs on CamVid, kept as records beside this file, in one table.

`python -m nnti train enet_camvid_half --set precision=float32 seed=1 name=enet_camvid_half_float32_seed1` made them.
"""

from pathlib import Path

import numpy as np

from benchmarks.results import Goal, Table
from nnti.training.run_folder import RunFolder

__all__ = ["quality"]

RUNS = Path(__file__).resolve().parent / "runs"
EXPERIMENT = "enet_camvid_half"
PROTOCOL = "report"


def quality() -> tuple[Table, Goal]:
    """Return one row per seed with both precisions' validation mean IoU, and the goal: no further apart than seeds."""
    records = [RunFolder(path.parent).record() for path in sorted(RUNS.glob(f"{EXPERIMENT}_*/record.json"))]
    found = {(record["seed"], record["precision"]): record for record in records}
    seeds = sorted({seed for seed, _ in found})
    rows = [_row(seed, found[seed, "float32"], found[seed, "bfloat16"]) for seed in seeds]
    apart = abs(float(np.mean([row["bfloat16"] - row["float32"] for row in rows])))
    spread = float(np.std([row["float32"] for row in rows], ddof=1))
    record = records[0]
    data = record["data"]
    note = (
        f"Validation mean IoU ({PROTOCOL} protocol) of the best epoch of `{EXPERIMENT}` on {data['title']}, "
        f"{data['train_images']} training and {data['val_images']} validation images, {record['epochs']} epochs, "
        f"{record['device']}; the records are in benchmarks/runs/. Mean difference {apart:.4f}, standard deviation of "
        f"the float32 seeds {spread:.4f}."
    )
    goal = Goal("mean difference of bfloat16 and float32, in seeds' standard deviations", 1.0, round(apart / spread, 2))
    goal.at_most, goal.unit = True, "σ"
    return Table("Quality of bfloat16", rows, note), goal


def _row(seed: int, single: dict, half: dict) -> dict[str, float | int]:
    scores = {record["precision"]: record["validation"][PROTOCOL]["mean_iou"] for record in (single, half)}
    seconds = {f"{record['precision']}, s/epoch": round(record["seconds_per_epoch"], 1) for record in (single, half)}
    return {"seed": seed, **{name: round(score, 4) for name, score in scores.items()}, **seconds}
