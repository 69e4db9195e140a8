"""Settings of the notebooks: folders of data, runs and figures, and the experiment that fits this machine.

Colab loses its disk when it disconnects. With `drive=True` runs are kept on Google Drive, and the next session resumes
them; data sets and their decoded copies stay on the machine's own, fast disk.
"""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from nnti.data.base import check_choice
from nnti.data.download import ARCHIVES, unpack_archives
from nnti.errors import DataError, SettingError
from nnti.experiment import Experiment
from nnti.folders import data_roots, figures_dir, home, runs_dir
from nnti.loaders import load_split

PRESETS = ("auto", "report", "short", "miniature")
MOUNT = "/content/drive"
FOLDER = "MyDrive/nnti"  # below it

_before: dict[str, str | None] = {}  # values of the variables before `prepare` set them


def choose(name: str, preset: str = "auto") -> tuple[Experiment, str]:
    """Return the experiment `name` for a `preset`, and a sentence that explains the choice.

    - 'report': as the report describes it; meant for a GPU.
    - 'short': real data, a small part of it, two epochs: `<name>_short`; a first look on a CPU.
    - 'miniature': the drawn miniature data set: `<name>_miniature`; meant for a CPU, no download.
    - 'auto': 'report' where the data and a GPU are here, 'short' where the data is, else 'miniature'.
    """
    if preset not in PRESETS:
        raise SettingError(f"preset={preset!r}: it must be one of {', '.join(PRESETS)}")
    reason = f"Preset '{preset}', as set."
    if preset == "auto":
        gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
        preset, reason = ("report", REPORT) if gpu else ("short", SHORT)
        try:
            experiment = _variant(name, preset)
            for split in (experiment.train_split, experiment.val_split):
                load_split(experiment, split)
        except DataError as error:
            preset, reason = "miniature", f"{MINIATURE}\n\n{error}"
    return _variant(name, preset), reason


REPORT = "Data and a GPU are here: the report's own settings."
SHORT = "The data is here, a GPU is not: a part of the data, two epochs. preset = 'report' takes all of it."
MINIATURE = "This runs on the drawn miniature, because the data is not here."


def _variant(name: str, preset: str) -> Experiment:
    return Experiment.load(name if preset == "report" else f"{name}_{preset}")


def prepare(
    data_root: str | Path | None = None, drive: bool = False, archives: Sequence[str] = tuple(ARCHIVES)
) -> None:
    """Set `NNTI_DATA`, `NNTI_RUNS` and `NNTI_FIGURES` for this process and those that it starts; say where things lie.

    May be called again with other arguments: the settings of an earlier call are undone first.

    Args:
        data_root: a folder in which data sets are looked for first; None: where they are looked for anyway.
        drive: on Google Colab, keep runs and figures in Google Drive's folder nnti/.
        archives: data sets, keys of `nnti.data.download.ARCHIVES`, whose archives are unpacked to the project's own
            data/ where they lie in Drive's nnti/data/, under the names that their authors gave them.

    Raises SettingError if the folder is not there, or for `drive` where there is none; DataError, with the fix, if an
    archive is damaged or too large for the disk. An archive that was unpacked already is left alone.
    """
    for name in archives:
        check_choice("archive of", name, ARCHIVES)
    for variable, value in _before.items():
        os.environ.pop(variable, None)
        if value is not None:
            os.environ[variable] = value
    _before.clear()
    if drive:
        top = _mount()
        _set("NNTI_RUNS", top / "runs")
        _set("NNTI_FIGURES", top / "figures")
    if data_root is not None:
        folder, others = Path(data_root).expanduser().absolute(), os.environ.get("NNTI_DATA")
        if not folder.is_dir() or not os.access(folder, os.R_OK | os.X_OK):
            raise SettingError(
                f"data_root={str(data_root)!r}: there is no such folder, or it may not be read. Set it to the one that "
                "holds the data sets' own folders (VOCdevkit, cityscapes, camvid), or to None"
            )
        _set("NNTI_DATA", f"{folder}{os.pathsep}{others}" if others else folder)
    for name in archives if drive else ():
        unpack_archives(name, top / "data", home() / "data")
    print(f"Runs: {runs_dir()}\nFigures: {figures_dir()}\nData sets: {', '.join(map(str, data_roots()))}")


def _set(variable: str, value: str | Path) -> None:
    _before[variable] = os.environ.get(variable)
    os.environ[variable] = str(value)


def _mount() -> Path:
    """Mount Google Drive and return its folder nnti/, made if needed."""
    try:
        from google.colab import drive
    except ImportError:
        raise SettingError(
            "drive=True is for Google Colab, and this is not Colab: set drive = False. Runs lie in runs/, or where the "
            "environment variables NNTI_RUNS and NNTI_FIGURES say"
        ) from None
    try:
        drive.mount(MOUNT)
        top = Path(MOUNT, FOLDER)
        (top / "data").mkdir(parents=True, exist_ok=True)
    except Exception as error:  # Colab has no class of its own for a refusal
        fix = "run this cell again and allow the access that Colab asks for, or set drive = False"
        raise SettingError(f"Google Drive could not be mounted ({error}): {fix}") from error
    return top
