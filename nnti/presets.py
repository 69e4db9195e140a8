"""Which experiment a notebook runs: the report's own, a short one, or the miniature's, depending on what is here."""

from typing import Any

import torch

from nnti.config import Experiment, SettingError
from nnti.data import DataError
from nnti.loaders import load_split

__all__ = ["PRESETS", "adjust", "choose"]

PRESETS = ("auto", "report", "short", "miniature")


def choose(name: str, preset: str = "auto") -> tuple[Experiment, str]:
    """Return the experiment `name` as `preset` has it, and a sentence that says what was chosen and why.

    - 'report': as the report describes it; meant for a GPU.
    - 'short': real data, a small part of it, two epochs: `<name>_short`; a first look on a CPU.
    - 'miniature': the rendered miniature data set: `<name>_miniature`; two minutes on a CPU, no download.
    - 'auto': 'report' where the data and a GPU are here, 'short' where the data is, else 'miniature'.
    """
    if preset not in PRESETS:
        raise SettingError(f"preset={preset!r}: it must be one of {', '.join(PRESETS)}")
    if preset != "auto":
        return _variant(name, preset), f"Preset '{preset}', as set."
    report, short = _variant(name, "report"), _variant(name, "short")
    gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
    problem = _problem(report) if gpu else _problem(short)
    if problem:
        return _variant(
            name, "miniature"
        ), f"This runs on the rendered miniature, because the data is not here.\n\n{problem}"
    if gpu:
        return report, "Data and a GPU are here: the report's own settings."
    return short, "The data is here, a GPU is not: a part of the data, two epochs. preset = 'report' takes all of it."


def adjust(experiment: Experiment, **changes: Any) -> Experiment:
    """Return the experiment with some settings changed, as a run of its own; a change to None keeps what there is.

    The name gets the changes as a suffix, so that runs with other numbers of epochs or seeds lie beside each other. The
    device is no part of it: a run may go on elsewhere.
    """
    changes = {name: value for name, value in changes.items() if value is not None}
    suffix = "".join(f"_{name}{value}" for name, value in changes.items() if name != "device")
    return experiment.replace(name=experiment.name + suffix, **changes)


def _variant(name: str, preset: str) -> Experiment:
    return Experiment.load(name if preset == "report" else f"{name}_{preset}")


def _problem(experiment: Experiment) -> DataError | None:
    try:
        for split in (experiment.train_split, experiment.val_split):
            load_split(experiment, split)
    except DataError as error:
        return error
    return None
