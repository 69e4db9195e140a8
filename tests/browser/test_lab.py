"""Dashboard, explorer and photo box in JupyterLab: a real browser clicks, a real kernel answers.

Needs Chromium and its driver (Debian: `apt-get install chromium chromium-driver`); skipped where they are missing.
"""

import time
from pathlib import Path

import nbformat
import papermill
import pytest
from lab import Lab, chromium
from layouts import write_voc
from papermill.parameterize import parameterize_notebook
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

pytestmark = pytest.mark.skipif(chromium() is None, reason="needs Chromium: apt-get install chromium chromium-driver")

PROJECT = Path(__file__).resolve().parents[2]
NOTEBOOKS = sorted((PROJECT / "notebooks").glob("task*.ipynb"))
PATIENCE = 900  # seconds for a whole notebook
EXPERIMENT = """from nnti import Experiment, explore, fit, segment_photo, watch
experiment = Experiment(
    name="{name}", train_split="trainval", batch_size=1, epochs={epochs}, val_every=1, base_size=64, crop_size=48,
    val_size=32, precision="float32", device="cpu", cache="none",
)"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    write_voc(folder / "data")
    places = {f"NNTI_{name.upper()}": str(folder / name) for name in ("data", "runs", "figures")}
    opened = Lab(folder, {**places, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)})
    yield opened
    opened.close()


def test_the_dashboard_grows_and_stops(lab):
    training = "for row in watch(fit(experiment)):\n    pass"
    experiment = EXPERIMENT.format(name="watched", epochs=500)
    notebook = lab.run("dashboard.ipynb", experiment, training, "print('a later', 'cell')")
    lab.wait_for("epoch 3/500", ".nnti-dashboard")
    lab.wait(lambda: len(lab.find(".nnti-dashboard img")) >= 3, "curves and predictions are not shown")
    lab.screenshot("dashboard")
    assert all(text in lab.text(".nnti-dashboard") for text in ("img/s", "left", "val mean IoU"))
    lab.button("Stop", ".nnti-dashboard").click()
    lab.wait_for("stopped in epoch", ".jp-OutputArea")
    lab.screenshot("dashboard_stopped")
    assert "to resume" in lab.text(".nnti-dashboard") and "Traceback" not in lab.text(".jp-OutputArea")
    assert (lab.folder / "runs" / "watched" / "last.pt").is_file()
    time.sleep(1)
    assert "a later cell" not in lab.text(".jp-OutputArea")  # what waited does not run
    assert "widgets" not in lab.saved(notebook).metadata  # GitHub shows such a file


def test_the_explorer_answers_clicks(lab):
    cells = "run = fit(experiment)\nlist(watch(run));", "explore(run.run)"
    lab.run("explorer.ipynb", EXPERIMENT.format(name="explored", epochs=1), *cells)
    lab.wait_for("1 of 2", ".nnti-explorer")
    canvas = lab.show(lab.wait(lambda: lab.find(".nnti-explorer .nnti-canvas"), "there is no canvas")[0])
    lab.button("prediction", ".nnti-explorer").click()
    lab.wait_for("most probable class", ".nnti-explorer")
    canvas.click()
    lab.wait_for("predicted:", ".nnti-explorer")
    lab.screenshot("explorer")

    layer = lab.find(".nnti-canvas img")[1]
    before = layer.get_attribute("src")
    lab.button("none", ".nnti-explorer").click()
    lab.wait(lambda: layer.get_attribute("src") != before, "the classes stay")
    handles = lab.find(".nnti-explorer .noUi-handle")
    ActionChains(lab.browser).click(lab.show(handles[-1])).send_keys(Keys.ARROW_RIGHT * 4).perform()
    lab.wait(lambda: layer.value_of_css_property("opacity") == "0.8", "the opacity stays")
    lab.button("errors", ".nnti-explorer").click()
    lab.wait_for("Void cannot be wrong", ".nnti-explorer")
    order = next(menu for menu in lab.find(".nnti-explorer select") if "worst first" in menu.text)
    Select(lab.show(order)).select_by_visible_text("worst first")
    lab.wait_for("1 of 2", ".nnti-explorer")
    lab.screenshot("explorer_sorted")
    complaints = [entry["message"] for entry in lab.browser.get_log("browser") if entry["level"] == "SEVERE"]
    assert not [message for message in complaints if "nnti" in message or "anywidget" in message]


def test_a_photo_is_uploaded_and_segmented(lab):
    photo = lab.folder / "my photo.jpg"
    Image.radial_gradient("L").convert("RGB").resize((300, 200)).save(photo)
    shown = (
        "import torch\nlist(fit(experiment, progress=False))\nsegment_photo('explored', torch.zeros(3, 60, 90).byte())"
    )
    lab.run("photo.ipynb", EXPERIMENT.format(name="explored", epochs=1), shown)
    lab.wait_for("example", ".nnti-photo")
    # a dialogue of the system cannot be filled in; what it would fill in is put where Selenium can
    lab.browser.execute_script("HTMLInputElement.prototype.click = function () { document.body.append(this); }")
    lab.button("Your photo (0)", ".nnti-photo").click()
    lab.wait(lambda: lab.find("body > input[type=file]"), "the upload button does nothing")[0].send_keys(str(photo))
    lab.wait_for("my photo.jpg", ".nnti-photo")
    canvas = lab.find(".nnti-photo .nnti-canvas")[0]
    lab.wait(lambda: abs(canvas.size["width"] / canvas.size["height"] - 1.5) < 0.02, "the photo is not shown")
    lab.show(canvas).click()
    lab.wait_for("%", ".nnti-photo")
    lab.screenshot("photo")


@pytest.mark.walk
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_walk_through_a_notebook_as_a_student_does(lab, path):
    settings = {"preset": "miniature", "epochs": 2}
    notebook = parameterize_notebook(papermill.iorw.load_notebook_node(str(path)), settings)
    nbformat.write(notebook, lab.folder / path.name)
    lab.open(lab.folder / path.name)
    lab.wait_for("img/s", ".nnti-dashboard", PATIENCE)
    lab.show(lab.find(".nnti-dashboard")[0])
    lab.screenshot(f"walk_{path.stem}_dashboard")
    lab.wait(lambda: lab.idle() or lab.find('[data-mime-type$="error"]'), "the notebook does not end", PATIENCE)
    cells = lab.saved(lab.folder / path.name).cells
    assert not [out for cell in cells for out in cell.get("outputs", ()) if out.output_type == "error"]
    lab.show(lab.find(".nnti-explorer")[0])
    lab.button("errors", ".nnti-explorer").click()
    lab.find(".nnti-explorer .nnti-canvas")[0].click()
    lab.wait_for("predicted:", ".nnti-explorer")
    lab.screenshot(f"walk_{path.stem}_explorer")
    assert {file.suffix for file in (lab.folder / "figures" / "miniature").iterdir()} == {".png", ".pdf"}
