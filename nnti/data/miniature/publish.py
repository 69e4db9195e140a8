"""A drawn data set appears all at once, or not at all; real data is never written over."""

import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from nnti.errors import DataError

FACTS_FILE = "miniature.json"  # marks a folder as a miniature and says which one


def publish(folder: Path, facts: dict[str, int], draw: Callable[[Path], None]) -> Path:
    """Fill `folder` by `draw(draft)`, unless it already holds the miniature that `facts` describe; return it.

    The draft lies beside it and is moved when it is whole, so that two processes can draw at the same time and a killed
    one leaves nothing behind that looks whole. Raises DataError if the folder holds anything but a miniature, such as
    the real data set, or cannot be written.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / FACTS_FILE).exists():
        raise DataError(
            f"{folder} holds files but no {FACTS_FILE}, so it may be the real data set and is left alone; draw the "
            "miniature below another root, or move that folder away"
        )
    if _facts(folder) == facts:
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
            old, new = Path(temporary) / "old", Path(temporary) / "new"
            new.mkdir()
            draw(new)
            (new / FACTS_FILE).write_text(json.dumps(facts, indent=2) + "\n")
            if folder.exists() and _facts(folder) != facts:
                folder.rename(old)
            new.rename(folder)
    except OSError as error:
        if _facts(folder) != facts:  # else another process was faster
            raise DataError(
                f"the miniature cannot be written into {folder} ({error.strerror or error}); make room there, or make "
                "the folder writable"
            ) from error
    return folder


def _facts(folder: Path) -> dict[str, int] | None:
    try:
        return json.loads((folder / FACTS_FILE).read_text())
    except (OSError, ValueError):
        return None
