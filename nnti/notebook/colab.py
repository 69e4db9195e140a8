"""Which experiment a notebook runs: the report's own, a short one, or the miniature's, depending on what is here.

Where a notebook finds its data and leaves its runs: a shared folder, or Google Drive on Google Colab.

Colab forgets its disk when it disconnects. With `drive=True` what was trained lies on Drive, and the next session goes
on from there; what is read again and again, data sets and their decoded copies, stays on the machine's own disk.
"""

import os
from collections.abc import Iterable
from pathlib import Path

import torch

from nnti.data import DataError
from nnti.data.base import check_choice
from nnti.data.download import RECIPES, install_archive, install_cityscapes
from nnti.errors import SettingError
from nnti.experiment import Experiment
from nnti.folders import data_roots, figures_dir, home, runs_dir
from nnti.loaders import load_split

__all__ = ["ARCHIVES", "PRESETS", "choose", "prepare"]


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


def _variant(name: str, preset: str) -> Experiment:
    return Experiment.load(name if preset == "report" else f"{name}_{preset}")


def _problem(experiment: Experiment) -> DataError | None:
    try:
        for split in (experiment.train_split, experiment.val_split):
            load_split(experiment, split)
    except DataError as error:
        return error
    return None


MOUNT = Path("/content/drive")
FOLDER = "MyDrive/nnti"  # below it
ARCHIVES = (*RECIPES, "cityscapes")

_set_here: dict[str, tuple[str | None, str]] = {}  # variable → what it was, what `prepare` made of it


def prepare(data_root: str | Path | None = None, drive: bool = False, archives: Iterable[str] = ARCHIVES) -> None:
    """Set `NNTI_DATA`, `NNTI_RUNS` and `NNTI_FIGURES` for this process and those that it starts; say where things lie.

    May be called again with other arguments: what an earlier call has set is taken back first.

    Args:
        data_root: a folder in which data sets are looked for first; None: where they are looked for anyway.
        drive: on Google Colab, keep runs and figures in Google Drive's folder nnti/, and unpack the archives that lie
            in its nnti/data/, under the names that their authors gave them, to the project's own data/.
        archives: those of which data sets, of `ARCHIVES`.

    Raises SettingError if the folder is not there, or for `drive` where there is none; DataError, with the fix, if an
    archive is damaged or too large for the disk. An archive that was unpacked already is left alone.
    """
    archives = list(archives)
    for name in archives:
        check_choice("archive of", name, ARCHIVES)
    _take_back()
    top = _mount() if drive else None
    if top is not None:
        _set("NNTI_RUNS", str(top / "runs"))
        _set("NNTI_FIGURES", str(top / "figures"))
    if data_root is not None:
        before = os.environ.get("NNTI_DATA")
        _set("NNTI_DATA", os.pathsep.join([_checked(data_root), *([before] if before else [])]))
    for name in archives if top is not None else ():
        _unpack(name, top / "data", home() / "data")
    print(f"Runs: {runs_dir()}\nFigures: {figures_dir()}\nData sets: {', '.join(map(str, data_roots()))}")


def _mount() -> Path:
    """Mount Google Drive and return its folder nnti/, made if need be."""
    try:
        from google.colab import drive
    except ImportError:
        raise SettingError(
            "drive=True is for Google Colab, and this is none: set drive = False. Runs lie in runs/, or where the "
            "environment variables NNTI_RUNS and NNTI_FIGURES say"
        ) from None
    fix = "run this cell again and allow the access that Colab asks for, or set drive = False"
    try:
        drive.mount(str(MOUNT))
        top = MOUNT / FOLDER
        (top / "data").mkdir(parents=True, exist_ok=True)
    except Exception as error:  # Colab has no class of its own for a refusal
        raise SettingError(f"Google Drive could not be mounted ({error}): {fix}") from error
    return top


def _checked(data_root: str | Path) -> str:
    folder = Path(data_root).expanduser().absolute()
    problem = f"data_root={str(data_root)!r}"
    if not os.path.isdir(folder) or not os.access(folder, os.R_OK | os.X_OK):
        raise SettingError(
            f"{problem}: there is no such folder, or it may not be read. Set it to the one that holds the data sets' "
            "own folders (VOCdevkit, cityscapes, camvid), or to None"
        )
    if os.pathsep in str(folder):
        raise SettingError(f"{problem}: '{os.pathsep}' separates folders in NNTI_DATA; rename the folder")
    return str(folder)


def _unpack(name: str, folder: Path, root: Path) -> None:
    if name == "cityscapes":
        install_cityscapes(folder, root)
    else:
        install_archive(name, folder, root)


def _set(variable: str, value: str) -> None:
    _set_here[variable] = os.environ.get(variable), value
    os.environ[variable] = value


def _take_back() -> None:
    """Restore the environment, but for what somebody else has changed meanwhile."""
    for variable, (before, ours) in _set_here.items():
        if os.environ.get(variable) != ours:
            continue
        if before is None:
            del os.environ[variable]
        else:
            os.environ[variable] = before
    _set_here.clear()
