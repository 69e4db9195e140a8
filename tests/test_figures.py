"""Figures: what they draw is what they were given, the same every time, and nobody's arguments change."""

import os
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image

from nnti import figures
from nnti.data import VOC, CamVid, SegmentationDataset
from nnti.experiment import Experiment
from nnti.figures import style as output
from nnti.figures.pictures import DISTINCT, void_color
from nnti.figures.style import RUN_COLORS, WIDTH
from nnti.models import ENet
from nnti.training.optimizer import poly
from nnti.training.run_folder import RunFolder, history_row

SCORES = ("mean_iou", "dice", "f1", "pixel_accuracy", "mean_pixel_accuracy", "sensitivity")
VOID = 255


class Toy(SegmentationDataset):
    """Three images of different sizes, four classes."""

    name, title = "camvid", "Toy"
    class_names = ("ground", "tree", "car", "sky")
    palette = np.array([(0, 0, 0), (0, 128, 0), (128, 0, 0), (0, 0, 200)], dtype=np.uint8)
    void_color = (255, 255, 255)

    def __init__(self, split="val", root=None):
        super().__init__(Path(), split, [(Path(), Path())] * 3)

    def __getitem__(self, index):
        random = torch.Generator().manual_seed(index)
        height, width = 30 + 8 * index, 40
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=random)
        label = torch.randint(0, 3, (height, width), dtype=torch.uint8, generator=random)  # never sky
        label[:3] = VOID
        return image, label


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Files of a quarter of the resolution: the same drawing, sooner."""
    monkeypatch.setattr(output, "DPI", 50)


@pytest.fixture
def dataset():
    return Toy()


def unread(cls):
    """A data set's colours and names without its files."""
    return cls.__new__(cls)


def measured(value):
    return {"loss": 2 - value, **dict.fromkeys(SCORES, value)}


def history(epochs=6, every=2, start=0.1):
    rows = [history_row(0, None, measured(0.02), learning_rate=0.01, train_seconds=0.0, val_seconds=1.0)]
    for epoch in range(1, epochs + 1):
        val = measured(start + 0.08 * epoch) if epoch % every == 0 else None
        rate = 0.01 * (1 - epoch / (epochs + 1))
        rows.append(history_row(epoch, measured(start + 0.1 * epoch), val, learning_rate=rate, train_seconds=2.0))
    return pd.DataFrame(rows)


def record(finished=True):
    result = {"images": 3, **measured(0.5), "iou_per_class": [0.9, 0.1, 0.5, None]}
    validation = {protocol: {"protocol": protocol, **result} for protocol in ("report", "full")}
    return {
        "name": "toy",
        "finished": finished,
        "experiment": Experiment(name="toy", dataset="camvid", precision="float32").to_dict(),
        "data": {"title": "Toy", "train_images": 9, "val_images": 3, "class_names": list(Toy.class_names)},
        "parameters": 1234,
        "device": "a machine",
        "epochs": 6,
        "seconds_per_epoch": 2.0,
        "best_epoch": 6,
        **({"validation": validation} if finished else {}),
    }


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path / "runs" / "toy")
    run.write_experiment(Experiment(name="toy", dataset="camvid", precision="float32"))
    run.write_history(history().to_dict("records"))
    return run


def names(paths):
    return sorted(path.name for path in paths)


def legend_labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def pictures(figure):
    return [axes.images[0].get_array() for axes in figure.axes]


def test_curves_are_twelve_lettered_panels_of_the_history():
    runs = {"one": history(), "two": history(9, 3, 0.05)}
    figure = figures.curves(runs, "two runs")
    assert len(figure.axes) == 12
    columns = ("dice", "f1", "mean_iou", "pixel_accuracy", "sensitivity", "loss")
    for at, axes in enumerate(figure.axes):
        split, column = ("train", "val")[at // 6], columns[at % 6]
        assert axes.get_title(loc="left").startswith(f"({'abcdefghijkl'[at]}) {'training' if at < 6 else 'validation'}")
        for line, frame in zip(axes.lines, runs.values(), strict=True):
            known = frame[frame[f"{split}_{column}"].notna()]
            np.testing.assert_array_equal(line.get_xdata(), known["epoch"])
            np.testing.assert_array_equal(line.get_ydata(), known[f"{split}_{column}"])
    assert legend_labels(figure) == ["one", "two"]
    assert any("same number for hard labels" in text.get_text() for text in figure.texts)


def test_validation_begins_untrained_and_shares_its_scale_with_training():
    figure = figures.curves({"run": history()}, "")
    assert figure.axes[0].lines[0].get_xdata()[0] == 1
    assert figure.axes[8].lines[0].get_xydata()[0].tolist() == [0, 0.02]
    for train, val in zip(figure.axes[:6], figure.axes[6:], strict=True):
        assert train.get_ylim() == val.get_ylim() and train.get_xlim() == val.get_xlim()
        highest = max(line.get_ydata().max() for axes in (train, val) for line in axes.lines)
        assert train.get_ylim()[0] == 0 and highest < train.get_ylim()[1]


def test_runs_differ_in_colour_line_and_marker():
    lines = figures.curves({str(n): history() for n in range(5)}, "").axes[0].lines
    for look in ("get_color", "get_linestyle", "get_marker"):
        assert len({str(getattr(line, look)()) for line in lines[:4]}) == 4


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_run_that_has_just_begun(epochs):
    figure = figures.curves({"run": history(epochs)}, "")
    assert ("not measured yet" in [text.get_text() for text in figure.axes[0].texts]) == (epochs == 0)
    figures.learning_rate({"run": history(epochs)}, "").draw_without_rendering()
    figure.draw_without_rendering()


def test_learning_rates_are_the_histories_and_the_training_loops():
    (axes,) = figures.learning_rate({"run": history()}, "").axes
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), history()["learning_rate"][1:])
    experiment = Experiment(epochs=3, learning_rate=0.02, power=0.9)
    line = figures.poly_schedule(experiment, 5).axes[0].lines[0]
    assert line.get_ydata() == pytest.approx([0.02 * poly(step, 15, 0.9) for step in range(15)])


@pytest.mark.parametrize("kind", [CamVid, VOC, Toy])
def test_void_is_not_a_class_colour(kind):
    dataset = Toy() if kind is Toy else unread(kind)
    void = figures.colorize(np.full((2, 2), VOID, dtype=np.uint8), dataset)[0, 0]
    distances = np.linalg.norm(dataset.palette.astype(float) - void, axis=1)
    assert distances.min() >= DISTINCT
    dataset.palette = np.array([dataset.void_color, *dataset.palette[1:]], dtype=np.uint8)
    assert void_color(dataset) != dataset.void_color


def test_colorize_paints_the_palette_and_refuses_wrong_masks(dataset):
    mask = torch.tensor([[0, 1, 2], [3, VOID, 1]], dtype=torch.uint8)
    painted = figures.colorize(mask, dataset)
    assert painted.dtype == np.uint8 and painted.shape == (2, 3, 3)
    np.testing.assert_array_equal(painted[mask != VOID], dataset.palette[mask[mask != VOID]])
    np.testing.assert_array_equal(painted, figures.colorize(mask.long().numpy(), dataset))
    with pytest.raises(ValueError, match=r"holds \[4, 7\]"):
        figures.colorize(np.array([[0, 4, 7]]), dataset)
    with pytest.raises(ValueError, match="argmax"):
        figures.colorize(torch.zeros(4, 5, 5), dataset)
    with pytest.raises(ValueError, match="same"):
        figures.overlay(torch.zeros(3, 5, 5), torch.zeros(5, 6, dtype=torch.uint8), dataset)


def test_overlay_mixes_image_and_colours(dataset):
    image, label = dataset[0]
    np.testing.assert_array_equal(figures.overlay(image, label, dataset, alpha=0), image.permute(1, 2, 0))
    np.testing.assert_array_equal(figures.overlay(image, label, dataset, alpha=1), figures.colorize(label, dataset))
    expected = 0.45 * image.permute(1, 2, 0).numpy() + 0.55 * figures.colorize(label, dataset)
    np.testing.assert_allclose(figures.overlay(image.float(), label, dataset), expected, atol=0.51)


def triples(dataset, count=3):
    samples = [dataset[index % 3] for index in range(count)]
    return [(image, label, torch.where(label == VOID, 1, label)) for image, label in samples]


def test_triptychs_show_image_truth_and_prediction(dataset):
    samples = triples(dataset)
    figure = figures.triptychs(samples, dataset, "title")
    shown = pictures(figure)
    assert len(shown) == 9
    for row, (image, label, prediction) in enumerate(samples):
        np.testing.assert_array_equal(shown[3 * row], image.permute(1, 2, 0))
        np.testing.assert_array_equal(shown[3 * row + 1], figures.colorize(label, dataset))
        np.testing.assert_array_equal(shown[3 * row + 2], figures.colorize(prediction, dataset))
    assert [text.get_text() for text in figure.texts].count("mean IoU 1.00") == 3


def test_legends_list_only_what_occurs(dataset):
    figure = figures.triptychs(triples(dataset), dataset, "")
    assert legend_labels(figure) == ["ground", "tree", "car", "void"]
    patches = figure.legends[0].get_patches()
    assert to_rgb(patches[1].get_facecolor()) == pytest.approx(dataset.palette[1] / 255)
    image, _ = dataset[0]
    car = torch.full(image.shape[1:], 2)
    assert legend_labels(figures.triptychs([(image, car, car)], dataset, "")) == ["car"]


@pytest.mark.parametrize("count", [1, 3, 6, 8, 12])
def test_any_number_of_rows_fits_the_page_without_overlap(dataset, count):
    figure = figures.triptychs(triples(dataset, count), dataset, "title")
    assert figure.get_figwidth() == WIDTH and figure.get_figheight() < 1.45 * WIDTH
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(min(box.min) >= 0 and max(box.max) <= 1 for box in boxes)
    assert not any(a.overlaps(b) for at, a in enumerate(boxes) for b in boxes[:at])


def test_several_predictions_and_wrong_samples(dataset):
    image, label, prediction = triples(dataset)[0]
    columns = ("image", "ground truth", "ENet", "PSPNet")
    figure = figures.triptychs([(image, label, prediction, prediction)], dataset, "", columns, scores=False)
    assert len(figure.axes) == 4 and not any("IoU" in text.get_text() for text in figure.texts)
    with pytest.raises(ValueError, match="3 pictures for 4 columns"):
        figures.triptychs([(image, label, prediction)], dataset, "", columns)
    with pytest.raises(ValueError, match="sizes"):
        figures.triptychs([(image, label, prediction[:-1])], dataset, "")
    with pytest.raises(ValueError, match="empty"):
        figures.triptychs([], dataset, "")


@pytest.mark.parametrize("count", [1, 4, 6, 11])
def test_gallery_fills_the_page(dataset, count):
    image, label = dataset[0]
    crops = [(image.float()[:, :20, :20] + 0.3, label[:20, :20].long())] * count
    figure = figures.augmentation_gallery(image, label, crops, dataset, "crops")
    assert len(figure.axes) == 2 + count
    boxes = [axes.get_position() for axes in figure.axes]
    assert max(box.x1 for box in boxes) == pytest.approx(1, abs=0.02)
    assert boxes[1].y0 == pytest.approx(min(box.y0 for box in boxes[2:]), abs=0.01)
    np.testing.assert_array_equal(pictures(figure)[2], figures.overlay(*crops[0], dataset))


def test_class_frequencies_are_shares_in_class_colours(dataset):
    (axes,) = figures.class_frequencies([700, 1, 0, 299], dataset, "").axes
    assert [text.get_text() for text in axes.get_yticklabels()] == ["ground", "sky", "tree", "car"]
    assert [text.get_text() for text in axes.texts] == ["70 %", "29.9 %", "0.1 %", "absent"]
    ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
    assert ends[:3] == pytest.approx([70, 29.9, 0.1])
    assert to_rgb(axes.patches[1].get_facecolor()) == pytest.approx(dataset.palette[3] / 255)
    figures.class_frequencies([0, 0, 0, 0], dataset, "").draw_without_rendering()


def test_absent_classes_have_no_bar_and_stay_out_of_the_mean(dataset):
    results = {"one": [0.2, None, 0.6, float("nan")], "two": np.array([0.5, 0.5, 0.5, 0.5]), "none": [None] * 4}
    figure = figures.per_class_iou(results, dataset.class_names, "")
    (axes,) = figure.axes
    assert [bar.get_width() for bar in axes.patches] == pytest.approx([0.2, 0.6, 0.5, 0.5, 0.5, 0.5])
    assert [line.get_xdata()[0] for line in axes.lines] == pytest.approx([0.4, 0.5])
    assert [text.get_text() for text in axes.texts].count("absent") == 6
    assert ["0.400" in label for label in legend_labels(figure)] == [True, False, False]
    assert to_rgb(axes.patches[2].get_facecolor()) == to_rgb(RUN_COLORS[1])
    with pytest.raises(ValueError, match="4 classes"):
        figures.per_class_iou({"short": [0.1]}, dataset.class_names, "")


def test_results_table_has_a_row_per_run_and_protocol():
    unknown = record()
    unknown["validation"] = {"full": {**unknown["validation"]["full"], "mean_iou": None}}
    table = figures.results_table([record(), record(finished=False), unknown])
    assert table["protocol"].tolist() == ["report", "full", "full"]
    assert table["mean IoU"].isna().tolist() == [False, False, True]
    assert table.loc[0, "loss"] == 1.5 and table.loc[0, "parameters"] == 1234 and table.loc[0, "val images"] == 3
    assert list(figures.results_table([]).columns) == list(table.columns)


def test_saved_files_are_the_same_every_time(tmp_path, dataset):
    folders = (tmp_path / "new" / "a", tmp_path / "b")
    drawn = (figures.triptychs(triples(dataset, 1), dataset, "title") for _ in folders)
    first, second = (figures.save(figure, "x", folder) for figure, folder in zip(drawn, folders, strict=True))
    assert names(first) == ["x.pdf", "x.png"] == sorted(os.listdir(tmp_path / "new" / "a"))
    for one, two in zip(first, second, strict=True):
        assert one.read_bytes() == two.read_bytes()
    pdf = next(path for path in first if path.suffix == ".pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"CreationDate" not in pdf
    with Image.open(next(path for path in first if path.suffix == ".png")) as png:
        assert set(png.info) <= {"dpi"} and png.width == round(output.DPI * WIDTH)


def test_arguments_and_settings_stay_as_they_were(dataset):
    settings = dict(matplotlib.rcParams)
    frame, samples, counts = history(), triples(dataset), np.array([3, 2, 1, 0])
    before = [tensor.clone() for sample in samples for tensor in sample]
    figures.curves({"run": frame}, "")
    figures.triptychs(samples, dataset, "")
    figures.augmentation_gallery(*samples[0][:2], [samples[0][:2]], dataset, "")
    figures.class_frequencies(counts, dataset, "")
    pd.testing.assert_frame_equal(frame, history())
    assert all(torch.equal(a, b) for a, b in zip(before, [t for sample in samples for t in sample], strict=True))
    assert counts.tolist() == [3, 2, 1, 0] and dict(matplotlib.rcParams) == settings


def test_default_folder_and_notebook(tmp_path, monkeypatch):
    monkeypatch.setenv("NNTI_FIGURES", str(tmp_path / "figures"))
    figure = figures.learning_rate({"run": history(2)}, "")
    assert {path.parent for path in figures.save(figure, "x")} == {tmp_path / "figures"}
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_render_finished_run_without_checkpoint(run, tmp_path):
    run.write_record(record())
    before = {path: path.read_bytes() for path in run.path.iterdir()}
    paths = figures.render_run(run, tmp_path / "out", progress=False)
    kinds = ("curves", "learning_rate", "per_class_iou")
    assert names(paths) == sorted(f"toy_{kind}.{end}" for kind in kinds for end in ("pdf", "png"))
    assert all(path.is_file() for path in paths)
    assert before == {path: path.read_bytes() for path in run.path.iterdir()}


def test_render_half_finished_run_with_and_without_checkpoint(run, tmp_path, monkeypatch):
    monkeypatch.setattr("nnti.data.available", lambda *dataset: True)
    monkeypatch.setattr("nnti.loaders.load_split", lambda experiment, split, limit: Toy(split))
    monkeypatch.setattr("nnti.figures.curves.curves", figures.learning_rate)  # drawn by other tests, and slow
    assert figures.render_run(run, tmp_path, progress=False) == []
    run.write_record(record(finished=False))
    assert len(figures.render_run(run, tmp_path, progress=False)) == 4
    trained = {"experiment": run.experiment().to_dict(), "class_names": list(Toy.class_names), "epoch": 6}
    run.checkpoints.save(run.best, {**trained, "model": ENet(4).state_dict()})
    assert {"toy_triptychs.pdf", "toy_triptychs.png"} < set(names(figures.render_run(run, tmp_path, progress=False)))
    monkeypatch.setattr("nnti.data.available", lambda *dataset: False)
    assert len(figures.render_run(run, tmp_path, progress=False)) == 4


def test_titles_name_model_data_and_images():
    assert figures.run_title(record()) == "toy: ENet on Toy (9 train / 3 val images)"
    miniature = record()
    miniature["data"]["title"] = "VOC miniature (rendered)"
    assert figures.run_title(miniature) == "toy: ENet on VOC miniature (rendered; 9 train / 3 val images)"


def test_a_photo_beside_what_was_found(dataset):
    image, prediction = dataset[0][0], torch.full((30, 40), 2, dtype=torch.uint8)
    checkpoint = {"experiment": {"dataset": "toy"}, "class_names": dataset.class_names, "palette": dataset.palette}
    figure = figures.segmented_photo(image, prediction, figures.Classes.of(checkpoint), "a photo")
    photo, found = (axes.get_images()[0].get_array() for axes in figure.axes)
    assert (photo == image.permute(1, 2, 0).numpy()).all()
    assert (found == figures.overlay(image, prediction, dataset)).all()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["car"]


def test_confusions_are_shares_of_the_true_class():
    matrix = [[90, 10, 0], [400, 600, 0], [0, 0, 0]]
    figure = figures.confusion_heatmap(matrix, ["road", "car", "sky"], "title")
    axes = figure.axes[0]
    written = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "90", (0, 1): "10", (1, 0): "40", (1, 1): "60"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["road", "car", "sky (absent)"]
    with pytest.raises(ValueError, match="3, 3.*2 classes"):
        figures.confusion_heatmap(matrix, ["road", "car"], "title")


def test_ablations_show_every_seed_and_what_was_not_run():
    scores = {"augmentation": {"with": [0.4, 0.5], "without": []}, "power": {"1": [0.3]}}
    figure = figures.ablation_dots(scores, "title")
    axes = figure.axes[0]
    assert [line.get_xdata().tolist() if hasattr(line.get_xdata(), "tolist") else list(line.get_xdata())
            for line in axes.lines] == [[0.4, 0.5], [0.3]]  # fmt: skip
    texts = [text.get_text() for text in axes.texts]
    assert texts == ["augmentation", "0.450 ± 0.071", "not run", "power", "0.300, one seed"]


def test_error_distances_are_rates(tmp_path):
    counts = {"pixels": [10, 20, 0, 70], "errors": [5, 2, 0, 7], "mean_iou_beyond": [0.5, 0.6]}
    analysis = {"boundary": counts, "void": counts, "left_out": [0, 2]}
    figure = figures.error_distances(analysis, "title")
    rate, score = figure.axes
    assert rate.lines[0].get_xdata().tolist() == [0, 1]
    assert rate.lines[0].get_ydata().tolist() == [50, 10]
    assert list(score.lines[0].get_ydata()) == [0.5, 0.6]
    assert "14.0 %" in figure.legends[0].get_texts()[-1].get_text()
    for axes in (rate, score):  # distances are whole pixels
        assert all(tick == int(tick) for tick in axes.get_xticks())
