"""Semantic segmentation for a course: from data sets to figures, in rooms that a notebook can enter one by one.

    from nnti import Experiment, explore, fit, watch

    run = fit(Experiment.load("enet_voc_miniature"))
    for row in watch(run):  # trains; in a notebook with a dashboard
        ...
    explore(run.run)  # what it has learned, image by image

Data flows one way: `nnti.data` (uint8 image, uint8 label) → `nnti.augment` (on the device) → `nnti.models` → logits →
`nnti.metrics` → `nnti.records` (JSON, CSV) → `nnti.figures`, `nnti.report`. Everything that the notebooks use can be
imported from here, each name being loaded when it is first used, but for two functions that modules are named after:
`from nnti.inference import predict`, `from nnti.complexity import complexity`.
"""

import importlib
from typing import Any

_HOMES = {
    "nnti.augment": ("collate", "cut", "draw", "place_random", "warp"),
    "nnti.config": ("Experiment", "SettingError"),
    "nnti.data": ("DataError", "Folder", "class_frequencies", "evenly_spread", "load_dataset"),
    "nnti.device": ("device_name", "resolve_device"),
    "nnti.evaluate": ("prepare",),
    "nnti.inference": ("Inference", "probabilities"),
    "nnti.interactive": ("explore", "segment_photo", "watch"),
    "nnti.loaders": ("load_split", "train_loader"),
    "nnti.models": ("architecture_table", "build_model", "count_parameters"),
    "nnti.optimization": ("build_loss", "build_optimizer"),
    "nnti.presets": ("adjust", "choose"),
    "nnti.records": ("RunError", "RunFolder", "find_run", "list_runs", "load_model"),
    "nnti.train": ("fit",),
}
_MODULES = ("data", "figures", "metrics", "models", "published", "session")
_EXPORTS = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [*_EXPORTS, *_MODULES]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _EXPORTS:
        return getattr(importlib.import_module(_EXPORTS[name]), name)
    if name in _MODULES:
        return importlib.import_module(f"nnti.{name}")
    hint = {"predict": "; from nnti.inference import predict", "complexity": "; from nnti.complexity import complexity"}
    raise AttributeError(f"module 'nnti' has no attribute '{name}'{hint.get(name, '')}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
