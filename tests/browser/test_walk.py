"""A walk through the three notebooks in JupyterLab, as a student does it: all cells, then the widgets. `make walk`."""

import shutil
from pathlib import Path

import nbformat
import papermill
import pytest
from lab import Lab, chromium
from papermill.parameterize import parameterize_notebook

PROJECT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("task*.ipynb"))
PATIENCE = 900  # seconds for a whole notebook

pytestmark = [
    pytest.mark.walk,
    pytest.mark.skipif(chromium() is None, reason="needs Chromium: apt-get install chromium chromium-driver"),
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("walk")
    opened = Lab(folder, {
        "NNTI_RUNS": str(folder / "runs"), "NNTI_FIGURES": str(folder / "figures"), "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(PROJECT),
    })  # fmt: skip
    yield opened
    opened.close()


def copy_with(path: Path, folder: Path, **parameters) -> Path:
    notebook = parameterize_notebook(papermill.iorw.load_notebook_node(str(path)), parameters)
    copied = folder / path.name
    nbformat.write(notebook, copied)
    return copied


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_walk(lab, path):
    notebook = copy_with(path, lab.folder, preset="miniature", epochs=2)
    lab.open(notebook)
    lab.run_all()
    lab.wait(lambda: lab.find(".nnti-dashboard"), "no dashboard", PATIENCE)
    lab.wait(lambda: "img/s" in lab.text(".nnti-dashboard"), "the dashboard does not move", PATIENCE)
    lab.show(lab.find(".nnti-dashboard img")[0])
    lab.screenshot(f"walk_{path.stem}_dashboard")
    lab.wait(lambda: lab.idle() or lab.find('[data-mime-type$="error"]'), "the notebook does not end", PATIENCE)
    assert not lab.outputs(notebook, "error")

    explorer = lab.wait(lambda: lab.find(".nnti-explorer"), "no explorer")[0]
    lab.show(explorer)
    lab.button("errors", ".nnti-explorer").click()
    lab.find(".nnti-explorer .nnti-canvas")[0].click()
    lab.wait(lambda: "predicted:" in lab.text(".nnti-explorer"), "a click on a pixel is not answered")
    lab.screenshot(f"walk_{path.stem}_explorer")
    for number, figure in enumerate(lab.find(".jp-OutputArea-output img")):
        if figure.size["width"] > 300 and number % 4 == 0:
            lab.show(figure)
            lab.screenshot(f"walk_{path.stem}_figure_{number}")
    made = {file.suffix for file in (lab.folder / "figures" / "miniature").iterdir()}
    assert made == {".png", ".pdf"}


def test_the_figures_were_all_made(lab):
    names = {file.stem for file in (lab.folder / "figures" / "miniature").glob("*.png")}
    assert {"voc_enet_curves", "cityscapes_r2unet_triptychs", "cityscapes_comparison_curves"} <= names
    shutil.rmtree(lab.folder / "figures")
