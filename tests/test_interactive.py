"""The explorer and the photo box: what their controls do, without a browser (tests/browser has one)."""

import datetime
import io

import numpy as np
import pytest
import torch
from layouts import write_voc
from matplotlib.figure import Figure
from PIL import Image

from nnti.data import VOC, DataError
from nnti.experiment import Experiment
from nnti.inference.image import predict, probabilities
from nnti.metrics import ConfusionMatrix
from nnti.models.saved import load_model
from nnti.notebook import explore, segment_photo
from nnti.notebook.canvas import Layer
from nnti.notebook.explorer import Explorer, Segmented, class_layer, error_layer, load_views, share_layer
from nnti.notebook.photo import LONGEST, PhotoBox
from nnti.training.loop import fit


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of one epoch on a tiny data set in VOC's layout, and where its data is."""
    folder = tmp_path_factory.mktemp("explored")
    write_voc(folder / "data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NNTI_DATA", str(folder / "data"))
        experiment = Experiment(
            name="tiny", batch_size=2, epochs=1, base_size=64, crop_size=48, val_size=32, precision="float32",
            device="cpu", cache="none",
        )  # fmt: skip
        training = fit(experiment, folder / "run", progress=False)
        list(training)
        yield training.run


def decoded(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGBA"))


def click(explorer, name: str) -> None:
    next(button for button in explorer.toggles.box.children if button.description == name).click()


# layers


def test_confidence_and_entropy_of_known_probabilities():
    sure, unsure = torch.tensor([1.0, 0.0, 0.0, 0.0]), torch.full((4,), 0.25)
    half = torch.tensor([0.0, 0.5, 0.5, 0.0])
    found = Segmented(torch.stack([sure, unsure, half], dim=1)[:, None])
    assert found.confidence[0] == pytest.approx([1, 0.25, 0.5])
    assert found.entropy[0] == pytest.approx([0, 1, 0.5])
    assert found.prediction[0, 0] == 0 and found.prediction[0, 2] in (1, 2)
    assert found.at(2, 0) == pytest.approx([0, 0.5, 0.5, 0])


def test_layers_show_the_chosen_classes_and_never_call_void_wrong(run):
    data = load_views(run, None, "cpu").dataset
    truth = np.array([[0, 1, 255, 2]], dtype=np.uint8)
    layer = class_layer(truth, data, {1})
    assert layer.alphas[truth].tolist() == [[0, 255, 255, 0]]
    assert (layer.colors[1] == data.palette[1]).all()
    prediction = np.array([[1, 1, 1, 1]], dtype=np.uint8)
    wrong = error_layer(prediction, truth, data, range(21))
    assert wrong.alphas[wrong.values].tolist() == [[255, 0, 0, 255]]
    assert error_layer(prediction, truth, data, {2}).values.tolist() == [[0, 0, 0, 1]]
    ramp = share_layer(np.array([[0.0, 1.0]], dtype=np.float32))
    assert ramp.values.tolist() == [[0, 255]] and ramp.alphas.min() == 255


# the explorer


def test_the_explorer_of_a_run(run):
    explorer = Explorer(load_views(run, None, "cpu"))
    model, _ = load_model(run.best, torch.device("cpu"))
    data = explorer.views.dataset
    image, truth = data[0]
    assert set(explorer.splits.options) >= {"train", "val"} and explorer.splits.value == "val"
    assert explorer.canvas.size == [truth.shape[1], truth.shape[0]]

    explorer.layers.value = "prediction"
    prediction = predict(model, image, precision="float32").numpy()
    layer = decoded(explorer.canvas.layer)
    assert (layer[..., :3] == data.palette[prediction]).all() and (layer[..., 3] == 255).all()
    click(explorer, "none")
    assert (decoded(explorer.canvas.layer)[..., 3] == 0).all()
    name = data.class_names[prediction[0, 0]]
    click(explorer, name)
    assert ((decoded(explorer.canvas.layer)[..., 3] == 255) == (prediction == prediction[0, 0])).all()
    click(explorer, "all")

    explorer.layers.value = "errors"
    wrong = (prediction != truth.numpy()) & (truth.numpy() != 255)
    assert ((decoded(explorer.canvas.layer)[..., 3] == 255) == wrong).all()
    for kind in ("confidence", "entropy"):
        explorer.layers.value = kind
        assert decoded(explorer.canvas.layer).shape[:2] == tuple(truth.shape)

    matrix = ConfusionMatrix(21)
    matrix.update(torch.from_numpy(prediction), truth)
    assert f"mean IoU {matrix.compute()['mean_iou']:.3f}" in explorer._metrics.value


def test_a_clicked_pixel_tells_its_class_and_probabilities(run):
    explorer = Explorer(load_views(run, None, "cpu"))
    model, _ = load_model(run.best, torch.device("cpu"))
    data = explorer.views.dataset
    image, truth = data[0]
    assert "Click a pixel" in explorer._pixel.value
    explorer.canvas.pixel = [5, 3]
    shares = probabilities(model, image, precision="float32")[:, 3, 5]
    assert f"{100 * shares.max():.1f} %" in explorer._pixel.value
    assert f"predicted: {data.class_names[int(shares.argmax())]}" in explorer._pixel.value
    y, x = (truth == 255).nonzero()[0].tolist()
    explorer.canvas.pixel = [x, y]
    assert "truth: void" in explorer._pixel.value
    explorer.index.value = 1
    assert "Click a pixel" in explorer._pixel.value  # of another image


def test_worst_first_is_the_order_of_the_images_mean_iou(run):
    explorer = Explorer(load_views(run, "trainval", "cpu"))
    data, model = explorer.views.dataset, load_model(run.best, torch.device("cpu"))[0]
    expected = []
    for image, truth in data:
        matrix = ConfusionMatrix(21)
        matrix.update(predict(model, image, precision="float32"), truth)
        expected.append(matrix.compute()["mean_iou"])
        if len(expected) == len(data):
            break
    names = [image.stem for image, _ in data.files]
    explorer.order.value = "worst first"
    assert explorer.view.name == names[int(np.argmin(expected))]
    explorer.order.value = "best first"
    assert explorer.view.name == names[int(np.argmax(expected))]
    explorer.splits.value = "val"
    assert explorer.order.value == "as listed" and explorer.view.name == explorer.views.dataset.files[0][0].stem


def test_scores_come_from_an_analysis_that_is_there(run):
    views = load_views(run, None, "cpu")
    names = [image.stem for image, _ in views.dataset.files]
    found = [{"image": name, "mean_iou": place / 10} for place, name in enumerate(names)]
    run.write_analysis({"split": "val", "images": found})
    try:
        assert views.scores(lambda text: pytest.fail("nothing is to be segmented")) == [0.0, 0.1]
        told = []
        assert load_views(run, "train", "cpu").scores(told.append) and "image 1 of 3" in told[0]  # of another split
    finally:
        (run.path / "analysis.json").unlink()


def test_the_explorer_of_a_data_set_alone(run):
    data = VOC("train")
    explorer = Explorer(load_views(data, None, "cpu"))
    assert explorer.layers.options == ("truth",) and explorer.splits.options == ("train",)
    truth = data[0][1].numpy()
    layer = decoded(explorer.canvas.layer)
    assert (layer[truth != 255][:, :3] == data.palette[truth[truth != 255]]).all()
    explorer.canvas.pixel = [0, 0]
    assert "predicted" not in explorer._pixel.value
    with pytest.raises(DataError, match="pass the data set of that split"):
        explore(data, "val")


def test_where_nobody_can_click_a_figure(run):
    assert isinstance(explore(run), Figure)
    assert isinstance(explore(VOC("val")), Figure)
    with pytest.raises(DataError, match="nope.jpg: there is no such file"):
        segment_photo(run, "nope.jpg")
    assert isinstance(segment_photo(run, torch.zeros(3, 40, 60, dtype=torch.uint8)), Figure)


# a photo


def upload(box: PhotoBox, name: str, content: bytes) -> None:
    box.upload.value = ({"name": name, "type": "image/png", "size": len(content), "content": memoryview(content),
                         "last_modified": datetime.datetime(2020, 1, 1)},)  # fmt: skip


def test_an_uploaded_photo_is_segmented_at_the_size_that_the_network_knows(run):
    box = PhotoBox(*load_model(run.best, torch.device("cpu")))
    buffer = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 255, (1200, 1500, 4), dtype=np.uint8)
    Image.fromarray(pixels, "RGBA").save(buffer, format="png")
    upload(box, "a <photo>.png", buffer.getvalue())
    assert box.canvas.size == [LONGEST, 819]
    assert decoded(box.canvas.layer).shape[:2] == (819, LONGEST)
    assert box._said.value == "a &lt;photo&gt;.png" and box.upload.value == ()
    box.canvas.pixel = [10, 10]
    assert "%" in box._pixel.value


def test_a_file_that_is_no_image_is_refused_with_its_name(run):
    box = PhotoBox(*load_model(run.best, torch.device("cpu")))
    box.show(torch.zeros(3, 40, 60, dtype=torch.uint8), "before")
    upload(box, "../notes.txt", b"no image at all")
    assert box._said.value.startswith("notes.txt cannot be read")
    assert box.canvas.size == [60, 40]  # the picture before stays


def test_a_layer_is_a_palette_png(run):
    explorer = Explorer(load_views(run, None, "cpu"))
    values = np.arange(6, dtype=np.uint8).reshape(2, 3)
    colors, alphas = np.zeros((256, 3), np.uint8), np.zeros(256, np.uint8)
    colors[5], alphas[5] = (1, 2, 3), 200
    explorer.canvas.show_layer(Layer(values, colors, alphas))
    layer = decoded(explorer.canvas.layer)
    assert layer[1, 2].tolist() == [1, 2, 3, 200] and layer[0, 0, 3] == 0
    explorer.canvas.show_layer(None)
    assert explorer.canvas.layer == b""
