"""Dashboard, explorer and photo box in JupyterLab: a real browser clicks, a real kernel answers.

Needs Chromium and its driver (Debian: `apt-get install chromium chromium-driver`); skipped where they are missing.
"""

import time
from pathlib import Path

import nbformat
import pytest
from lab import Lab, chromium
from layouts import write_voc
from PIL import Image
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select

pytestmark = pytest.mark.skipif(chromium() is None, reason="needs Chromium: apt-get install chromium chromium-driver")

EXPERIMENT = """from nnti import Experiment, fit
from nnti.notebook import explore, segment_photo, watch

experiment = Experiment(
    name="tiny", train_split="trainval", batch_size=1, epochs=EPOCHS, val_every=1, base_size=64, crop_size=48,
    val_size=32, precision="float32", device="cpu", cache="none",
)"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lab")
    write_voc(folder / "data")
    project = Path(__file__).resolve().parents[2]
    opened = Lab(folder, {
        "NNTI_DATA": str(folder / "data"), "NNTI_RUNS": str(folder / "runs"), "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(project),
    })  # fmt: skip
    yield opened
    opened.close()


def test_the_dashboard_grows_and_stops(lab):
    notebook = lab.write(
        "dashboard.ipynb", EXPERIMENT.replace("EPOCHS", "500"), "for row in watch(fit(experiment)):\n    pass",
        "print('a later', 'cell')",
    )  # fmt: skip
    lab.open(notebook)
    lab.run_all()
    lab.wait(lambda: "epoch 3/500" in lab.text(".nnti-dashboard"), "the third epoch is not shown")
    lab.wait(lambda: len(lab.find(".nnti-dashboard img")) == 2, "curves and predictions are not shown")
    lab.screenshot("dashboard")
    assert "img/s" in lab.text(".nnti-dashboard") and "left" in lab.text(".nnti-dashboard")
    assert "val mean IoU" in lab.text(".nnti-dashboard")
    lab.button("Stop", ".nnti-dashboard").click()
    lab.wait(lambda: "the same call, or command, goes on from there" in lab.text(".jp-OutputArea"), "it does not stop")
    lab.screenshot("dashboard_stopped")
    assert ": saved" in lab.text(".nnti-dashboard") and "Traceback" not in lab.text(".jp-OutputArea")
    time.sleep(1)
    assert "a later cell" not in lab.text(".jp-OutputArea")  # what waited does not run
    assert (lab.folder / "runs" / "tiny" / "last.pt").is_file()

    assert lab.outputs(notebook, "display_data")
    assert "widgets" not in nbformat.read(notebook, 4).metadata  # GitHub shows such a file


def test_the_explorer_answers_clicks(lab):
    notebook = lab.write(
        "explorer.ipynb", EXPERIMENT.replace("EPOCHS", "1").replace('"tiny"', '"explored"'),
        "run = fit(experiment)\nlist(watch(run));", "explore(run.run)",
    )  # fmt: skip
    lab.open(notebook)
    lab.run_all()
    lab.wait(lambda: "1 of 2" in lab.text(".nnti-explorer"), "the first image is not shown")
    canvas = lab.wait(lambda: lab.find(".nnti-explorer .nnti-canvas"), "there is no canvas")[0]
    lab.show(canvas)
    lab.button("prediction", ".nnti-explorer").click()
    lab.wait(lambda: "most probable class" in lab.text(".nnti-explorer"), "the prediction is not shown")
    canvas.click()
    lab.wait(lambda: "predicted:" in lab.text(".nnti-explorer"), "a click on a pixel is not answered")
    lab.screenshot("explorer")

    layer = lab.find(".nnti-canvas img")[1]
    before = layer.get_attribute("src")
    lab.button("none", ".nnti-explorer").click()
    lab.wait(lambda: layer.get_attribute("src") != before, "the classes stay")
    lab.button("errors", ".nnti-explorer").click()
    lab.wait(lambda: "Void cannot be wrong" in lab.text(".nnti-explorer"), "errors are not shown")
    handles = lab.find(".nnti-explorer .noUi-handle")
    ActionChains(lab.browser).click(lab.show(handles[-1])).send_keys(Keys.ARROW_RIGHT * 4).perform()
    lab.wait(lambda: layer.value_of_css_property("opacity") == "0.8", "the opacity stays")

    order = [menu for menu in lab.find(".nnti-explorer select") if "worst first" in menu.text][0]
    Select(lab.show(order)).select_by_visible_text("worst first")
    lab.wait(lambda: "1 of 2" in lab.text(".nnti-explorer"), "the images are not sorted")
    lab.screenshot("explorer_sorted")
    assert not [message for message in lab.errors() if "nnti" in message or "anywidget" in message]


def test_a_photo_is_uploaded_and_segmented(lab):
    photo = lab.folder / "my photo.jpg"
    Image.radial_gradient("L").convert("RGB").resize((300, 200)).save(photo)
    notebook = lab.write(
        "photo.ipynb", EXPERIMENT.replace("EPOCHS", "1").replace('"tiny"', '"explored"'),
        "import torch\nlist(fit(experiment, progress=False))\n"
        "segment_photo('explored', torch.zeros(3, 60, 90, dtype=torch.uint8))",
    )  # fmt: skip
    lab.open(notebook)
    lab.run_all()
    lab.wait(lambda: "example" in lab.text(".nnti-photo"), "the example is not shown")
    # a dialogue of the system cannot be filled in; what it would fill in is put where Selenium can
    lab.browser.execute_script("HTMLInputElement.prototype.click = function () { document.body.append(this); }")
    lab.button("Your photo (0)", ".nnti-photo").click()
    lab.wait(lambda: lab.find("body > input[type=file]"), "the upload button does nothing")[0].send_keys(str(photo))
    lab.wait(lambda: "my photo.jpg" in lab.text(".nnti-photo"), "the photo is not taken")
    canvas = lab.find(".nnti-photo .nnti-canvas")[0]
    lab.wait(lambda: abs(canvas.size["width"] / canvas.size["height"] - 1.5) < 0.02, "the photo is not shown")
    lab.show(canvas).click()
    lab.wait(lambda: "%" in lab.text(".nnti-photo"), "a click is not answered")
    lab.screenshot("photo")
