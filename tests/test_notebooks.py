"""Every notebook runs from top to bottom on the miniature, twice, from any directory, and is kept without outputs."""

from pathlib import Path

import nbformat
import papermill
import pytest

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("task*.ipynb"))


def read(path: Path):
    return nbformat.read(path, as_version=4)


def sources(notebook) -> list[str]:
    return [cell.source for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook) -> list[dict]:
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [output.get("data", {}) for cell in cells for output in cell.outputs]


def texts(notebook) -> str:
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    return "".join(output.get("text", "") for output in outputs)


def pictures(notebook) -> int:
    return sum("image/png" in data for data in outputs(notebook))


def test_there_are_notebooks():
    assert [path.stem for path in NOTEBOOKS] == ["task1_enet_voc", "task2_r2unet_cityscapes", "task3_pspnet_cityscapes"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_kept_without_outputs_in_short_cells(path):
    notebook = read(path)
    kinds = "".join("c" if cell.cell_type == "code" else "m" for cell in notebook.cells)
    assert "ccc" not in kinds  # at most two code cells in a row
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None
            assert len(cell.source.splitlines()) <= 16
    assert "widgets" not in notebook.metadata
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in notebook.cells) == 1


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_twice_from_any_directory(path, tmp_path, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # as the suite itself
    monkeypatch.setenv("NNTI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("NNTI_FIGURES", str(tmp_path / "figures"))
    options = {"kernel_name": "python3", "cwd": str(tmp_path), "progress_bar": False}
    settings = {"preset": "miniature", "epochs": 1}
    first = papermill.execute_notebook(path, tmp_path / "first.ipynb", settings, **options)
    assert "miniature" in texts(first)
    assert pictures(first) >= 8
    made = {file.name for file in (tmp_path / "figures" / "miniature").iterdir()}
    assert {name.rsplit(".")[-1] for name in made} == {"png", "pdf"}
    records = sorted((tmp_path / "runs").glob("*/record.json"))
    times = [file.stat().st_mtime_ns for file in records]
    assert records

    second = papermill.execute_notebook(path, tmp_path / "second.ipynb", settings, **options)
    for executed in (first, second):  # nobody could click widgets, and GitHub does not show files with their state
        assert "widgets" not in executed.metadata
        assert not [output for output in outputs(executed) if "application/vnd.jupyter.widget-view+json" in output]
    assert "is complete (1 of 1 epochs)" in texts(second)
    assert [file.stat().st_mtime_ns for file in records] == times  # nothing was trained again
    assert pictures(second) == pictures(first)
