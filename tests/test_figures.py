"""Figures: what they draw is what they were given, the same every time, and nobody's arguments change."""

import shutil
import warnings
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import contents
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from layouts import VOC_VAL
from matplotlib.colors import to_rgb
from matplotlib.font_manager import fontManager
from matplotlib.text import Text
from PIL import Image

from nnti import figures
from nnti.data import VOC, CamVid, SegmentationDataset
from nnti.experiment import Experiment
from nnti.figures.pictures import DISTINCT, void_color
from nnti.figures.style import RUN_COLORS, WIDTH
from nnti.training.optimizer import poly
from nnti.training.run_folder import RunFolder

SCORES = ("mean_iou", "dice", "f1", "pixel_accuracy", "mean_pixel_accuracy", "sensitivity")
VOID = 255


class Toy(SegmentationDataset):
    """Three images of different sizes, four classes, the last of which does not occur."""

    title = "Toy"
    class_names = ("ground", "tree", "car", "sky")
    palette = np.array([(0, 0, 0), (0, 128, 0), (128, 0, 0), (0, 0, 200)], dtype=np.uint8)
    void_color = (255, 255, 255)

    def __init__(self):
        super().__init__(Path(), "val", [(Path(), Path())] * 3)

    def __getitem__(self, index):
        random = torch.Generator().manual_seed(index)
        height, width = 30 + 8 * index, 40
        image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=random)
        label = torch.randint(0, 3, (height, width), dtype=torch.uint8, generator=random)
        label[:3] = VOID
        return image, label


@pytest.fixture
def dataset():
    return Toy()


def measured(value):
    return {"loss": 2 - value, **dict.fromkeys(SCORES, value)}


def history(epochs=6, every=2, start=0.1):
    """As a run folder's: validation before the first epoch and after every second."""
    rows = []
    for epoch in range(epochs + 1):
        train = measured(start + 0.1 * epoch) if epoch else dict.fromkeys(("loss", *SCORES))
        val = measured(start + 0.08 * epoch) if epoch % every == 0 else dict.fromkeys(("loss", *SCORES))
        row = {"epoch": epoch, "learning_rate": 0.01 * (1 - epoch / (epochs + 1))}
        row |= {f"train_{name}": value for name, value in train.items()}
        rows.append(row | {f"val_{name}": value for name, value in val.items()})
    return pd.DataFrame(rows).astype(float)


def legend_labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def pictures(figure):
    return [axes.images[0].get_array() for axes in figure.axes]


def triples(dataset, count=3):
    samples = [dataset[index % 3] for index in range(count)]
    return [(image, label, torch.where(label == VOID, 1, label)) for image, label in samples]


# training


def test_curves_are_twelve_lettered_panels_of_the_history():
    runs = {"one": history(), "two": history(9, 3, 0.05)}
    figure = figures.curves(runs, "two runs")
    columns = ("dice", "f1", "mean_iou", "pixel_accuracy", "sensitivity", "loss")
    assert len(figure.axes) == 12 and legend_labels(figure) == ["one", "two"]
    for at, axes in enumerate(figure.axes):
        split, column = ("train", "val")[at // 6], columns[at % 6]
        assert axes.get_title(loc="left").startswith(f"({'abcdefghijkl'[at]}) {'training' if at < 6 else 'validation'}")
        for line, frame in zip(axes.lines, runs.values(), strict=True):
            known = frame[frame[f"{split}_{column}"].notna()]
            np.testing.assert_array_equal(line.get_xdata(), known["epoch"])
            np.testing.assert_array_equal(line.get_ydata(), known[f"{split}_{column}"])
    for train, val in zip(figure.axes[:6], figure.axes[6:], strict=True):  # one scale for both, nothing cut off
        assert train.get_ylim() == val.get_ylim() and train.get_xlim() == val.get_xlim()
        assert 0 == train.get_ylim()[0] < max(max(line.get_ydata()) for line in train.lines) < train.get_ylim()[1]
    assert figure.axes[8].lines[0].get_xydata()[0].tolist() == [0, 0.1]  # the untrained network


@pytest.mark.parametrize("epochs", [0, 1])
def test_a_run_that_has_just_begun(epochs):
    figure = figures.curves({"run": history(epochs)}, "")
    assert ("not measured yet" in [text.get_text() for text in figure.axes[0].texts]) == (epochs == 0)
    figures.learning_rate({"run": history(epochs)}, "").draw_without_rendering()


def test_learning_rates_are_the_histories_and_the_training_loops():
    lines = figures.learning_rate({str(n): history() for n in range(4)}, "").axes[0].lines
    np.testing.assert_array_equal(lines[0].get_ydata(), history()["learning_rate"][1:])
    experiment = Experiment(epochs=3, learning_rate=0.02, power=0.9)
    line = figures.poly_schedule(experiment, 5).axes[0].lines[0]
    assert line.get_ydata() == pytest.approx([0.02 * poly(step, 15, 0.9) for step in range(15)])


# pictures


@pytest.mark.parametrize("kind", [CamVid, VOC, Toy])
def test_void_is_not_a_class_colour(kind):
    dataset = kind.__new__(kind)  # colours and names, without files
    void = figures.colorize(np.full((2, 2), VOID, dtype=np.uint8), dataset)[0, 0]
    assert np.linalg.norm(dataset.palette.astype(float) - void, axis=1).min() >= DISTINCT
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


def test_triptychs_show_image_truth_and_prediction(dataset):
    samples = triples(dataset)
    figure = figures.triptychs(samples, dataset, "title")
    shown = pictures(figure)
    for row, (image, label, prediction) in enumerate(samples):
        np.testing.assert_array_equal(shown[3 * row], image.permute(1, 2, 0))
        np.testing.assert_array_equal(shown[3 * row + 1], figures.colorize(label, dataset))
        np.testing.assert_array_equal(shown[3 * row + 2], figures.colorize(prediction, dataset))
    assert len(shown) == 9 and [text.get_text() for text in figure.texts].count("mean IoU 1.00") == 3
    assert legend_labels(figure) == ["ground", "tree", "car", "void"]  # what occurs, and no more
    assert to_rgb(figure.legends[0].get_patches()[1].get_facecolor()) == pytest.approx(dataset.palette[1] / 255)
    image, label, prediction = samples[0]
    void = torch.full_like(label, VOID)
    texts = [text.get_text() for text in figures.triptychs([(image, void, prediction)], dataset, "").texts]
    assert "all void" in texts


@pytest.mark.parametrize("count", [1, 12])
def test_any_number_of_rows_fits_the_page_without_overlap(dataset, count):
    figure = figures.triptychs(triples(dataset, count), dataset, "title")
    assert figure.get_figwidth() == WIDTH and figure.get_figheight() < 1.45 * WIDTH
    boxes = [axes.get_position() for axes in figure.axes]
    assert all(min(box.min) >= 0 and max(box.max) <= 1 for box in boxes)
    assert not any(a.overlaps(b) for at, a in enumerate(boxes) for b in boxes[:at])


def test_the_gallery_shows_the_image_and_its_crops(dataset):
    image, label = dataset[0]
    crop = (image.float()[:, :20, :20] + 0.3, label[:20, :20].long())
    shown = pictures(figures.augmentation_gallery(image, label, [crop] * 11, dataset, "crops"))
    assert len(shown) == 2 + 11
    mixed = 0.45 * crop[0].permute(1, 2, 0).numpy() + 0.55 * figures.colorize(crop[1], dataset)
    np.testing.assert_allclose(shown[2], mixed, atol=1)


# classes and errors


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


def test_confusions_are_shares_of_the_true_class():
    matrix = [[90, 10, 0], [400, 600, 0], [0, 0, 0]]
    axes = figures.confusion_heatmap(matrix, ["road", "car", "sky"], "title").axes[0]
    written = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in axes.texts}
    assert written == {(0, 0): "90", (0, 1): "10", (1, 0): "40", (1, 1): "60"}
    assert [label.get_text() for label in axes.get_yticklabels()] == ["road", "car", "sky (absent)"]


def test_error_distances_are_rates_at_whole_pixels():
    counts = {"pixels": [10, 20, 0, 70], "errors": [5, 2, 0, 7], "mean_iou_beyond": [0.5, 0.6]}
    figure = figures.error_distances({"boundary": counts, "void": counts, "left_out": [0, 2]}, "title")
    rate, score = figure.axes
    assert rate.lines[0].get_xdata().tolist() == [0, 1] and rate.lines[0].get_ydata().tolist() == [50, 10]
    assert list(score.lines[0].get_ydata()) == [0.5, 0.6]
    assert "14.0 %" in legend_labels(figure)[-1]
    assert all(tick == int(tick) for axes in (rate, score) for tick in axes.get_xticks())


# files and titles


def test_saved_files_are_the_same_every_time_and_arguments_stay_as_they_were(tmp_path, dataset, monkeypatch):
    monkeypatch.setenv("NNTI_FIGURES", str(tmp_path / "b"))
    settings, samples = dict(matplotlib.rcParams), triples(dataset, 1)
    before = [tensor.clone() for tensor in samples[0]]
    drawn = [figures.triptychs(samples, dataset, "title") for _ in "ab"]
    first, second = figures.save(drawn[0], "x", tmp_path / "new" / "a"), figures.save(drawn[1], "x")
    assert [path.name for path in first] == ["x.png", "x.pdf"] and second == [tmp_path / "b" / p.name for p in first]
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert first[1].read_bytes().startswith(b"%PDF") and b"CreationDate" not in first[1].read_bytes()
    with Image.open(first[0]) as png:
        assert set(png.info) <= {"dpi"} and png.width == round(200 * WIDTH)
    frame, counts = history(), np.array([3, 2, 1, 0])
    figures.curves({"run": frame}, "")
    figures.class_frequencies(counts, dataset, "")
    pd.testing.assert_frame_equal(frame, history())
    assert all(torch.equal(a, b) for a, b in zip(before, samples[0], strict=True))
    assert counts.tolist() == [3, 2, 1, 0] and dict(matplotlib.rcParams) == settings


@pytest.fixture
def font(tmp_path):
    """Install a font with one letter, 水."""
    builder = FontBuilder(1000, isTTF=True)
    pen = TTGlyphPen(None)
    pen.moveTo((100, 0)), pen.lineTo((900, 0)), pen.lineTo((500, 800)), pen.closePath()
    builder.setupGlyphOrder([".notdef", "water"])
    builder.setupCharacterMap({ord("水"): "water"})
    builder.setupGlyf({".notdef": pen.glyph(), "water": pen.glyph()})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "water": (1000, 0)})
    builder.setupHorizontalHeader(ascent=800, descent=-200)
    builder.setupNameTable({"familyName": "Water", "styleName": "Regular", "psName": "Water"})
    builder.setupOS2(), builder.setupPost()
    builder.save(tmp_path / "water.ttf")
    before = list(fontManager.ttflist)
    fontManager.addfont(tmp_path / "water.ttf")
    yield
    fontManager.ttflist[:] = before


def test_names_in_any_script_and_with_any_sign_are_drawn_as_they_are(tmp_path, dataset, font):
    names = ["水 $a$", "_b_ 5%", "ß{c}^", "道"]
    dataset.class_names = names
    figure = figures.triptychs([(*dataset[0], torch.full((30, 40), 3))], dataset, "水 $x$")
    assert legend_labels(figure) == [*names[:3], "道", "void"]
    assert not any(text.get_parse_math() for text in figure.findobj(Text))
    with pytest.warns(UserWarning, match="no installed font has 道: .*sudo apt install fonts-noto-cjk$") as told:
        _, pdf = figures.save(figure, "x", tmp_path)
    assert len(told) == 1 and b"Water" in pdf.read_bytes()
    with warnings.catch_warnings(action="error"):  # said once
        figures.save(figures.per_class_iou({"_run": [0.1] * 4}, names, ""), "y", tmp_path)


def test_a_run_is_drawn_as_far_as_its_files_allow(whole, tmp_path):
    def drawn():
        return {path.stem for path in figures.render_run(run, tmp_path / "out", progress=False)}

    record = whole.run.record()
    assert figures.run_title(record) == "tiny: R2U-Net on PASCAL VOC 2012 (5 train / 2 val images)"
    run = RunFolder(tmp_path / "runs" / "a")
    run.write_experiment(whole.experiment)
    run.write_history(whole.rows)
    assert drawn() == set()
    shutil.copy(whole.run.best, run.best)
    run.write_record({key: value for key, value in record.items() if key != "validation"})
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.warns(UserWarning, match="a: no pictures"):
        assert drawn() == {"a_curves", "a_learning_rate"}
    (tmp_path / "moved").rename(tmp_path / "data")
    run.write_record(record)
    counts = {"pixels": [10, 20], "errors": [5, 2], "mean_iou_beyond": [0.5, 0.6]}
    images = [{"image": name, "mean_iou": 0.3} for name in VOC_VAL]
    names = list(VOC.class_names)
    where = {"split": "val", "epoch": record["best_epoch"], "class_names": names, "matrix": np.eye(21).tolist()}
    run.write_analysis({**where, "images": images, "boundary": counts, "void": counts, "left_out": [0, 2]})
    before = contents(run.path)
    kinds = ["curves", "learning_rate", "per_class_iou", "triptychs", "confusion", "error_distances", "best_and_worst"]
    assert drawn() == {f"a_{kind}" for kind in kinds}
    assert before == contents(run.path)
