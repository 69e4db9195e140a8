"""A rendered data set appears all at once, or not at all; real data is never written over."""

import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from nnti.errors import DataError

__all__ = ["FACTS_FILE", "publish_once"]

FACTS_FILE = "miniature.json"  # marks a folder as a miniature and says which one
_ABANDONED = 3600  # seconds after which a half-written folder is taken for that of a killed process


def publish_once(folder: Path, facts: dict[str, int], render: Callable[[Path], None]) -> Path:
    """Fill `folder` by calling `render(draft)`, unless it already holds the miniature described by `facts`; return it.

    The draft is a folder beside it that is renamed when complete, so that a killed process leaves nothing behind
    that looks complete and two processes can render at the same time.

    Raises:
        DataError: the folder holds something that is no miniature, such as the real data set, or cannot be written.
    """
    if not _is_miniature(folder, facts):
        _refuse_other_data(folder)
        try:
            _render(folder, facts, render)
        except OSError as error:
            raise DataError(
                f"the miniature cannot be written into {folder} ({error.strerror or error}); make room there, or "
                "make the folder writable"
            ) from error
    return folder


def _render(folder: Path, facts: dict[str, int], render: Callable[[Path], None]) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(folder)
    draft = _sibling(folder)
    try:
        render(draft)
        (draft / FACTS_FILE).write_text(json.dumps(facts, indent=2) + "\n")
        _publish(draft, folder, facts)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _is_miniature(folder: Path, facts: dict[str, int]) -> bool:
    try:
        return json.loads((folder / FACTS_FILE).read_text()) == facts
    except (OSError, ValueError):
        return False


def _refuse_other_data(folder: Path) -> None:
    if folder.exists() and any(folder.iterdir()) and not (folder / FACTS_FILE).exists():
        raise DataError(
            f"{folder} holds files but no {FACTS_FILE}, so it may be the real data set and is left alone; "
            "render the miniature below another root, or move that folder away"
        )


def _sibling(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}-{os.getpid()}-{uuid4().hex[:8]}")


def _remove_abandoned(folder: Path) -> None:
    for draft in folder.parent.glob(f".{folder.name}-*"):
        try:
            old = time.time() - draft.stat().st_mtime > _ABANDONED
        except FileNotFoundError:  # another process has just finished with it
            continue
        if old:
            shutil.rmtree(draft, ignore_errors=True)


def _publish(draft: Path, folder: Path, facts: dict[str, int]) -> None:
    """Rename the draft into place; where another process was faster with the same facts, keep its folder."""
    for _ in range(10):
        if _is_miniature(folder, facts):
            return
        _refuse_other_data(folder)
        outdated = _sibling(folder)
        try:
            if folder.exists():
                folder.rename(outdated)
            draft.rename(folder)
            return
        except OSError:  # another process renamed between our look and our rename: look again
            continue
        finally:
            shutil.rmtree(outdated, ignore_errors=True)
    raise RuntimeError(f"{folder} keeps changing: are several processes rendering different miniatures there?")
