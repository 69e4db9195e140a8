"""Semantic segmentation for a course: from data sets to figures, in modules that a notebook can use one at a time.

    from nnti import Experiment, explore, fit, watch

    run = fit(Experiment.load("enet_voc_miniature"))
    for row in watch(run):  # trains; in a notebook with a dashboard
        ...
    explore(run.run)  # shows what it has learned, image by image

Data flows one way: `nnti.data` (uint8 image, uint8 label) → `nnti.augment` (on the device) → `nnti.models` → logits →
`nnti.metrics` → run record (JSON, CSV) → `nnti.figures`, `nnti.report`. Everything that the notebooks use can be
imported from here; each name is loaded when it is first used.
"""

import importlib
from typing import Any

_HOMES = {
    "nnti.augment": ("examples", "prepare"),
    "nnti.data": ("Folder", "class_frequencies", "evenly_spread", "load_dataset"),
    "nnti.device": ("device_name", "resolve_device"),
    "nnti.errors": ("DataError", "RunError", "SettingError", "UserError"),
    "nnti.experiment": ("Experiment", "Inference", "adjust"),
    "nnti.figures.complexity": ("complexity",),
    "nnti.folders": ("list_runs",),
    "nnti.inference.evaluate": ("baselines", "evaluate"),
    "nnti.inference.image": ("predict", "probabilities"),
    "nnti.loaders": ("load_split", "train_loader"),
    "nnti.loss": ("build_loss",),
    "nnti.models": ("architecture_table", "build_model", "count_parameters"),
    "nnti.models.saved": ("load_model",),
    "nnti.notebook": ("colab", "explore", "segment_photo", "watch"),
    "nnti.notebook.colab": ("choose",),
    "nnti.training.loop": ("fit",),
    "nnti.training.optimizer": ("build_optimizer",),
    "nnti.training.run_folder": ("RunFolder", "find_run"),
}
_MODULES = ("data", "figures", "metrics", "models", "published")
_EXPORTS = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_EXPORTS, *_MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"nnti.{name}")
    raise AttributeError(f"module 'nnti' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
