"""Dashboard, explorer and photo box without a browser (tests/browser has one), and the notebooks from top to bottom."""

import datetime
import io
import threading
from pathlib import Path

import ipywidgets
import nbformat
import numpy as np
import papermill
import pytest
import torch
from conftest import same_weights, timeless, train
from jupyter_client.manager import start_new_kernel
from matplotlib.figure import Figure
from PIL import Image

from nnti.data import VOC
from nnti.errors import DataError
from nnti.inference.image import predict, probabilities
from nnti.metrics import ConfusionMatrix
from nnti.models.saved import load_model
from nnti.notebook import explore, segment_photo, watch
from nnti.notebook.dashboard import Budget, Dashboard
from nnti.notebook.explorer import Explorer, Views
from nnti.notebook.layers import Segmented, class_layer, error_layer, share_layer
from nnti.notebook.photo import LONGEST, PhotoBox
from nnti.progress import has_widgets
from nnti.training.loop import fit
from nnti.training.monitors import Monitor

NOTEBOOKS = sorted((Path(__file__).resolve().parent.parent / "notebooks").glob("task*.ipynb"))


@pytest.fixture
def tiny(tiny):
    """Two epochs of two steps."""
    return tiny.replace(batch_size=2, epochs=2)


@pytest.fixture
def run(whole):
    return whole.run


@pytest.fixture
def model(run):
    return load_model(run.best, torch.device("cpu"))[0]


@pytest.fixture
def explorer(run) -> Explorer:
    return Explorer(Views(run, None, "cpu"))


def picture(content: bytes, mode: str = "RGBA") -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert(mode))


def found(widget: ipywidgets.Widget, kind: type) -> list:
    """All widgets of a kind in a box, from top to bottom."""
    parts = [part for child in getattr(widget, "children", ()) for part in found(child, kind)]
    return [widget, *parts] if isinstance(widget, kind) else parts


def click(box: ipywidgets.Widget, name: str) -> None:
    next(button for button in found(box, ipywidgets.Button) if button.description == name).click()


def said(box: ipywidgets.Widget) -> str:
    return "\n".join(text.value for text in found(box, ipywidgets.HTML))


# who looks


@pytest.mark.parametrize("person", [True, False])
def test_widgets_are_for_cells_that_a_person_runs(person):
    assert not has_widgets()  # a plain process
    manager, client = start_new_kernel()
    try:
        out = []
        code = """import ipywidgets, nnti.progress as progress
            button = ipywidgets.Button()
            for _ in range(2):  # also where the kernel keeps nothing that `answering` takes away
                progress.answering(button)
            button.description = "changed"
            with progress.interface_events() as poll:
                poll(1)
            print(progress.has_widgets())""".replace("\n            ", "\n")
        options = {"allow_stdin": person, "stdin_hook": print, "output_hook": out.append, "timeout": 120}
        reply = client.execute_interactive(code, **options)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
    assert reply["content"]["status"] == "ok", reply["content"]
    assert [message["content"]["text"] for message in out if message["msg_type"] == "stream"] == [f"{person}\n"]


def test_watch_is_a_bar_of_text_and_a_line_per_validation_where_nobody_looks(tiny, tmp_path, capsys):
    rows = list(watch(fit(tiny, tmp_path / "run")))
    printed = capsys.readouterr()
    assert printed.out.count("val mean IoU") == len(rows) == 2
    assert f"{rows[-1]['val_mean_iou']:.3f} (report protocol)" in printed.out
    assert "8/8" in printed.err and "img/s" in printed.err  # one bar over all images
    assert list(watch(fit(tiny, tmp_path / "run", restart=True, progress=False))) and capsys.readouterr().out == ""


# the dashboard


def test_the_dashboard_shows_the_training_and_changes_nothing_in_it(tiny, whole, tmp_path):
    board = Dashboard()
    watched = fit(tiny, tmp_path / "run").watched_by(board)
    list(watched)
    assert repr(timeless(whole.rows)) == repr(timeless(watched.rows))  # NaN is not equal to itself
    assert same_weights(whole, watched)

    bars = found(board.box, ipywidgets.IntProgress)
    assert bars[0].value == 2 and bars[0].description == "epoch 2/2"
    assert "finished" in said(board.box) and "showing this took" in said(board.box)
    assert all(f"{row['val_mean_iou']:.4f}" in said(board.box) for row in whole.rows)
    curves, *pictures = [picture(image.value) for image in found(board.box, ipywidgets.Image) if image.value]
    assert curves.std() > 0
    assert [shown.shape[:2] for shown in pictures] == [(3 * h, w) for _, (h, w) in (
        (image, label.shape) for image, label in (watched.val_data[index] for index in range(2)))]  # fmt: skip
    stop = next(button for button in found(board.box, ipywidgets.Button))
    assert stop.layout.visibility == "hidden" and watched.monitors.members == [board]


class Presses(Monitor):
    """Clicks Stop while the second epoch's first step is under way, from a thread of its own, as kernels do."""

    def __init__(self, board: Dashboard):
        self.board = board

    def step(self, run, loss):
        if (run.state.done, run.state.step) == (1, 1):
            thread = threading.Thread(target=click, args=(self.board.box, "Stop"))
            thread.start()
            thread.join()


def test_stop_ends_after_the_step_with_everything_saved_and_the_same_call_goes_on(tiny, whole, tmp_path):
    board = Dashboard()
    run = fit(tiny, tmp_path / "run").watched_by(board)
    run.monitors.members.append(Presses(board))
    # as with a KeyboardInterrupt, waiting cells do not run
    with pytest.raises(KeyboardInterrupt, match="stopped in epoch 2 of 2 after step 1 of 2"):
        list(run)
    assert "stopped in epoch 2 after step 1" in said(board.box)
    assert same_weights(whole, train(tiny, tmp_path / "run"))


def test_a_budget_keeps_its_share():
    now = [0.0]
    budget = Budget(0.02, lambda: now[0])
    for _ in range(10_000):
        now[0] += 0.1
        if budget.allows("curves"):
            with budget.spending("curves"):
                now[0] += 0.5
            assert budget.spent <= 0.02 * now[0] or len(budget.costs) == 1 and budget.spent == pytest.approx(0.5)
    assert 0.018 < budget.share <= 0.02


# layers


def test_confidence_and_entropy_of_known_probabilities():
    certain, nothing = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.full((4,), 0.25)
    half = torch.tensor([0.0, 0.5, 0.5, 0.0])
    segmented = Segmented(torch.stack([certain, nothing, half], dim=1)[:, None])
    assert segmented.confidence[0] == pytest.approx([1, 0.25, 0.5])
    assert segmented.entropy[0] == pytest.approx([0, 1, 0.5])
    assert segmented.prediction[0, 0] == 0 and segmented.prediction[0, 2] in (1, 2)
    assert segmented.at(2, 0) == pytest.approx([0, 0.5, 0.5, 0])


def test_layers_show_the_chosen_classes_and_never_call_void_wrong(tiny):
    data, truth = VOC("val"), np.array([[0, 1, 255, 2]], dtype=np.uint8)
    values, colors = class_layer(truth, data, {1})
    assert colors[values][..., 3].tolist() == [[0, 255, 255, 0]]
    assert (colors[1, :3] == data.palette[1]).all()
    prediction = np.ones_like(truth)
    values, colors = error_layer(prediction, truth, data, range(21))
    assert colors[values][..., 3].tolist() == [[255, 0, 0, 255]]
    assert error_layer(prediction, truth, data, {2})[0].tolist() == [[0, 0, 0, 1]]
    assert not error_layer(prediction, truth, data, set())[0].any()
    values, colors = share_layer(np.array([[0.0, 1.0]], dtype=np.float32))
    assert values.tolist() == [[0, 255]] and colors[:, 3].min() == 255


# the explorer


def test_the_explorer_shows_what_the_network_makes_of_a_run_s_images(explorer, model):
    data = explorer.views.dataset
    image, truth = data[0]
    assert set(explorer.splits.options) >= {"train", "val"} and explorer.splits.value == "val"
    assert explorer.canvas.size == [truth.shape[1], truth.shape[0]]

    explorer.layers.value = "prediction"
    prediction = predict(model, image, precision="float32").numpy()
    layer = picture(explorer.canvas.layer)
    assert (layer[..., :3] == data.palette[prediction]).all() and (layer[..., 3] == 255).all()
    click(explorer.box, "none")
    assert (picture(explorer.canvas.layer)[..., 3] == 0).all()
    click(explorer.box, data.class_names[prediction[0, 0]])
    assert ((picture(explorer.canvas.layer)[..., 3] == 255) == (prediction == prediction[0, 0])).all()
    click(explorer.box, "all")

    explorer.layers.value = "errors"
    wrong = (prediction != truth.numpy()) & (truth.numpy() != 255)
    assert ((picture(explorer.canvas.layer)[..., 3] == 255) == wrong).all()
    for kind in ("confidence", "entropy"):
        explorer.layers.value = kind
        assert picture(explorer.canvas.layer).shape[:2] == tuple(truth.shape)
    matrix = ConfusionMatrix(21)
    matrix.update(torch.from_numpy(prediction), truth)
    assert f"mean IoU {matrix.compute()['mean_iou']:.3f}" in said(explorer.box)


def test_a_clicked_pixel_tells_its_class_and_probabilities(explorer, model):
    data = explorer.views.dataset
    image, truth = data[0]
    assert "Click a pixel" in said(explorer.box)
    explorer.canvas.pixel = [5, 3]
    shares = probabilities(model, image, precision="float32")[:, 3, 5]
    assert f"{100 * shares.max():.1f} %" in said(explorer.box)
    assert f"predicted: {data.class_names[int(shares.argmax())]}" in said(explorer.box)
    y, x = (truth == 255).nonzero()[0].tolist()
    explorer.canvas.pixel = [x, y]
    assert "truth: void" in said(explorer.box)
    explorer.index.value = 1
    assert "Click a pixel" in said(explorer.box)  # of another image


def test_worst_first_is_the_order_of_the_images_mean_iou(run, model):
    explorer = Explorer(Views(run, "trainval", "cpu"))
    data, expected = explorer.views.dataset, []
    for image, truth in (data[index] for index in range(len(data))):
        matrix = ConfusionMatrix(21)
        matrix.update(predict(model, image, precision="float32"), truth)
        expected.append(matrix.compute()["mean_iou"])
    names = [image.stem for image, _ in data.files]
    explorer.order.value = "worst first"
    assert explorer.view.name == names[int(np.argmin(expected))]
    explorer.order.value = "best first"
    assert explorer.view.name == names[int(np.argmax(expected))]
    explorer.splits.value = "val"
    assert explorer.order.value == "as listed" and explorer.view.name == explorer.views.dataset.files[0][0].stem


def test_scores_come_from_an_analysis_that_is_there(run):
    views = Views(run, None, "cpu")
    images = [{"image": image.stem, "mean_iou": place / 10} for place, (image, _) in enumerate(views.dataset.files)]
    run.write_analysis({"split": "val", "images": images, "epoch": run.record()["best_epoch"]})
    told = []
    assert views.scores(told.append) == [0.0, 0.1] and not told
    assert Views(run, "train", "cpu").scores(told.append) and "image 1 of 3" in told[0]  # of another split
    run.write_analysis({"split": "val", "images": images, "epoch": 99})  # of a run that has improved since
    assert run.analysis() is None
    (run.path / "analysis.json").unlink()


def test_the_explorer_of_a_data_set_alone(tiny):
    data = VOC("train")
    explorer = Explorer(Views(data))
    assert explorer.layers.options == ("truth",) and explorer.splits.options == ("train",)
    truth = data[0][1].numpy()
    layer = picture(explorer.canvas.layer)
    assert (layer[truth != 255][:, :3] == data.palette[truth[truth != 255]]).all()
    explorer.canvas.pixel = [0, 0]
    assert "predicted" not in said(explorer.box)
    with pytest.raises(DataError, match="split"):
        explore(data, "val")


def test_where_nobody_can_click_a_figure(run):
    assert isinstance(explore(run), Figure) and isinstance(explore(VOC("val")), Figure)
    with pytest.raises(DataError, match=r"nope\.jpg"):
        segment_photo(run, "nope.jpg")
    assert isinstance(segment_photo(run, torch.zeros(3, 40, 60, dtype=torch.uint8)), Figure)


# a photo


def upload(box: PhotoBox, name: str, content: bytes) -> None:
    box.upload.value = ({"name": name, "type": "image/png", "size": len(content), "content": memoryview(content),
                         "last_modified": datetime.datetime(2020, 1, 1)},)  # fmt: skip


def test_an_uploaded_photo_is_segmented_and_a_file_that_is_none_is_refused(run):
    box = PhotoBox(*load_model(run.best, torch.device("cpu")))
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (1200, 1500, 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").save(buffer, format="png")
    upload(box, "a <photo>.png", buffer.getvalue())
    assert box.canvas.size == [LONGEST, 819]
    assert picture(box.canvas.layer).shape[:2] == (819, LONGEST)
    assert "a &lt;photo&gt;.png" in said(box.box) and box.upload.value == ()
    box.canvas.pixel = [10, 10]
    assert "%" in said(box.box)
    upload(box, "../notes.txt", b"no image at all")
    assert "notes.txt cannot be read" in said(box.box)
    assert box.canvas.size == [LONGEST, 819]  # the picture before stays


# the notebooks


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_valid_with_one_cell_of_settings_and_without_outputs(path):
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not [cell for cell in code if cell.outputs or cell.execution_count]
    assert len([cell for cell in code if "parameters" in cell.metadata.get("tags", ())]) == 1
    assert "widgets" not in notebook.metadata  # GitHub does not show such a file


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebook_runs_from_any_directory(path, tmp_path, monkeypatch):
    monkeypatch.setenv("NNTI_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("NNTI_FIGURES", str(tmp_path / "figures"))
    settings, options = {"preset": "miniature", "epochs": 1}, {"kernel_name": "python3", "progress_bar": False}
    executed = papermill.execute_notebook(path, tmp_path / "executed.ipynb", settings, cwd=str(tmp_path), **options)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", ())]
    assert "miniature" in "".join(output.get("text", "") for output in outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 8
    # nobody could click widgets, and GitHub does not show files with their state
    assert "widgets" not in executed.metadata and "widget-view" not in str([output.get("data") for output in outputs])
    assert {file.suffix for file in (tmp_path / "figures" / "miniature").iterdir()} == {".png", ".pdf"}
    assert list((tmp_path / "runs").glob("*/record.json"))
