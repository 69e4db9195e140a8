"""How a record is made anew: the command line whose settings are exactly its own."""

import json
import re
import shlex
from typing import Any

from nnti.config import Experiment, parse_setting

__all__ = ["command_of"]


def command_of(run: str, record: dict[str, Any]) -> str:
    """Return the command that trains what a record holds: an experiment, and all settings that differ from it.

    The experiment is the one that the record names, or names before `_seed` and a number. Where it is none of the
    package's, the command reads all settings from the run's folder.

    Args:
        run: name of the folder in report/runs/.
        record: its record.
    """
    experiment = Experiment.from_dict(record["experiment"])
    names = (experiment.name, re.sub(r"_seed\d+$", "", experiment.name))
    known = [name for name in names if name in Experiment.names()]
    if not known:
        return f"python -m nnti train report/runs/{run}"
    changes = {key: own for key, (own, _) in experiment.differences(Experiment.load(known[0])).items()}
    settings = [shlex.quote(_assignment(key, value)) for key, value in changes.items()]
    return " ".join(["python -m nnti train", known[0], *(["--set", *settings] if settings else [])])


def _assignment(key: str, value: Any) -> str:
    """Return key=value as `nnti.config.parse_setting` reads it back."""
    plain = f"{key}={value}"
    return plain if isinstance(value, str) and parse_setting(plain) == (key, value) else f"{key}={json.dumps(value)}"
