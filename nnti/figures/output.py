"""Figures as files: the same figure always gives the same bytes, so that version control shows real changes only."""

import io
import os
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure

from nnti.figures.style import STYLE
from nnti.paths import figures_dir

__all__ = ["folder_for", "save"]

# neither a date nor a version of matplotlib
METADATA = {"png": {"Software": None}, "pdf": dict.fromkeys(("Creator", "Producer", "CreationDate"))}
DPI = 200


def folder_for(title: str) -> Path:
    """Return where figures of a data set go, by its title: those of a miniature are kept apart from real results."""
    return figures_dir() / "miniature" if "miniature" in title else figures_dir()


def save(figure: Figure, name: str, folder: str | Path | None = None) -> list[Path]:
    """Write `name`.png (200 dots per inch) and `name`.pdf (vector) and return their paths.

    Args:
        figure: any matplotlib figure.
        name: file name without its ending.
        folder: made if need be; None: `nnti.paths.figures_dir()`.
    """
    folder = figures_dir() if folder is None else Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return [_write(figure, folder / f"{name}.{kind}", kind) for kind in METADATA]


def _write(figure: Figure, path: Path, kind: str) -> Path:
    """Render in memory, write beside the file's place and move it there whole."""
    buffer = io.BytesIO()
    with plt.rc_context(STYLE):  # some settings are read only when a figure is rendered
        figure.savefig(buffer, format=kind, dpi=DPI, metadata=METADATA[kind])
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(buffer.getvalue())
    os.replace(temporary, path)
    return path
