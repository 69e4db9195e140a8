"""Semantic segmentation for a course: from data sets to figures, in rooms that a notebook can enter one by one.

    from nnti import Experiment, fit

    for row in fit(Experiment.load("enet_voc_miniature")):
        print(row["epoch"], row["val_mean_iou"])

Data flows one way: `nnti.data` → `nnti.augment` → `nnti.models` → `nnti.metrics` → `nnti.records` → `nnti.figures`.
"""

from nnti import data, metrics, models
from nnti.config import Experiment
from nnti.records import load_model
from nnti.train import fit

__all__ = ["Experiment", "data", "fit", "load_model", "metrics", "models"]
