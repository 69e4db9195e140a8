"""Drawings of networks and of their insides: all comes from the model, nothing overlaps, the model stays as it was."""

import itertools

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn

from nnti import figures
from nnti.figures.graph import model_graph, shape_text
from nnti.figures.networks import arrange
from nnti.figures.style import WIDTH
from nnti.models import ENet, PSPNet, R2UNet, architecture_table

SIZE = (96, 160)


MODELS = {
    "enet": lambda: ENet(21),
    "r2unet": lambda: R2UNet(19, widths=(4, 8, 16, 32)),
    "pspnet": lambda: PSPNet(19, backbone="resnet10t"),
}
PUBLISHED = {"enet": MODELS["enet"], "r2unet": lambda: R2UNet(19), "pspnet": lambda: PSPNet(19)}


def build(name):
    torch.manual_seed(0)
    return MODELS[name]()


@pytest.fixture(params=MODELS)
def model(request):
    return build(request.param)


@pytest.fixture
def image():
    return torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def labels(figure):
    """Every text of the drawing, spaces and line breaks left out."""
    return ["".join(text.get_text().split()) for axes in figure.axes for text in axes.texts]


def assert_readable(figure):
    """No text runs over another or off the page, as the renderer draws them, and none is smaller than 7 points."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [*figure.texts, *(text for axes in figure.axes for text in axes.texts)]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    extents = {text: text.get_window_extent(canvas.get_renderer()) for text in texts if text.get_text()}
    for (one, a), (two, b) in itertools.combinations(extents.items(), 2):
        assert not a.overlaps(b), (one.get_text(), two.get_text())
    for text, box in extents.items():
        assert text.get_fontsize() >= 7 and min(box.min) >= 0, text.get_text()
        assert box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height, text.get_text()


def test_every_name_size_and_kind_comes_from_the_model(model):
    texts = labels(figures.architecture_figure(model, "title", SIZE))
    nodes = {name: node for node in model_graph(model, SIZE) for name in node.names}
    for row in architecture_table(model, SIZE).itertuples():
        node = nodes[row.name]
        assert node.shape == (row.channels, row.height, row.width)
        several = f"{len(node.names)}blocks" if len(node.names) > 1 else ""
        assert texts.count(node.title.replace(" ", "") + several + shape_text(node.shape)) == 1
        assert (row.type or "regular").replace(" ", "") in "".join(texts)


def test_arrows_are_the_inputs_that_the_model_declares(model):
    nodes = model_graph(model, SIZE)
    place = {name: at for at, node in enumerate(nodes) for name in node.names}
    expected, before = set(), "image"
    for block in model.blocks():
        expected |= {(place[name], place[block.name]) for name in block.inputs or (before,)}
        before = block.name
    if "output" in place:
        expected.add((place["classifier"], place["output"]))
    arrows = arrange(nodes, WIDTH).arrows
    drawn = [(arrow.source, arrow.reader) for arrow in arrows]
    assert len(drawn) == len(set(drawn)) and set(drawn) == {pair for pair in expected if pair[0] != pair[1]}
    for arrow in arrows:
        skip = nodes[arrow.reader].column - nodes[arrow.source].column > 1
        assert arrow.text == (nodes[arrow.reader].reads[arrow.source] if skip else "")


@pytest.mark.parametrize("model", ["r2unet", "pspnet"], indirect=True)
def test_nothing_overlaps(model, size=(33, 47)):
    assert_readable(figures.architecture_figure(model, "a title that is not so short, for a figure of a network", size))
    for one, two in itertools.combinations(arrange(model_graph(model, size), WIDTH).slabs, 2):
        for a, b in itertools.product(one.boxes, two.boxes):  # slabs and labels
            assert a[0] >= b[1] or b[0] >= a[1] or a[2] >= b[3] or b[2] >= a[3], (one.label, two.label)


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_networks_fit_the_page(name):
    with torch.device("meta"):  # shapes are enough
        model = PUBLISHED[name]()
    figure = figures.architecture_figure(model, "title")
    assert figure.get_figwidth() == pytest.approx(WIDTH, rel=0.01) and figure.get_figheight() < WIDTH
    indices = {"indices16×128×128", "indices64×64×64"}  # that ENet's poolings hand to its unpoolings
    assert indices & set(labels(figure)) == (indices if name == "enet" else set())
    assert_readable(figure)


@pytest.mark.parametrize(("steps", "step_norm"), [(2, "shared"), (4, "per_step")])
def test_the_recurrence_shows_each_step(steps, step_norm):
    figure = figures.recurrence_figure(steps, step_norm)
    texts = labels(figure)
    assert texts.count("3×3conv,w") == steps + 1
    norms = [text for text in texts if text.startswith("batchnorm")]
    assert len(norms) == steps + 1 and len(set(norms)) == (1 if step_norm == "shared" else steps + 1)
    assert {f"$x_{{{step}}}$" for step in range(steps + 1)} <= set(texts)
    assert_readable(figure)
    with pytest.raises(ValueError, match="1 to 4"):
        figures.recurrence_figure(9, step_norm)


def pictures(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def test_feature_steps_are_the_modules_states(image):
    model = build("r2unet")
    figure = figures.feature_steps(model, image, "title")
    shown = pictures(figure)
    assert len(shown) == 3 * (3 + 2) and all(picture.shape == (48, 64, 3) for picture in shown)
    assert [text.get_text() for text in figure.texts].count("$x_{2} - x_{1}$") == 3
    assert {"encoder.0.recurrent.0, 4 channels of 48 × 64"} < set(figure.get_suptitle().split("\n"))
    with torch.no_grad():  # nothing left of its input, nothing changes
        for norm in (norm for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)):
            norm.weight.zero_()
    still = pictures(figures.feature_steps(model, image, ""))
    assert (still[3] == still[3][0, 0]).all() and (still[0] == still[1]).all()
    with pytest.raises(ValueError, match="ENet has no recurrent convolution"):
        figures.feature_steps(ENet(2), image, "")


def test_pooled_maps_show_cells_as_large_as_they_are(image):
    figure = figures.pooled_maps(build("pspnet"), image, "title")
    shown = pictures(figure)
    assert len(shown) == 6 and all(picture.shape == (48, 64, 3) for picture in shown)
    np.testing.assert_array_equal(shown[0], image.permute(1, 2, 0))
    for bins, picture in zip((1, 2, 3, 6), shown[2:], strict=True):
        rows, columns = (np.arange(size) * bins // size for size in (48, 64))
        for row, column in itertools.product(range(bins), repeat=2):
            cell = picture[rows == row][:, columns == column]
            assert (cell == cell[0, 0]).all()
    assert len({tuple(picture[0, 0]) for picture in shown[2:]}) == 4
    with pytest.raises(ValueError, match="ENet has no pyramid"):
        figures.pooled_maps(ENet(2), image, "")


def test_attended_cells_are_weights_of_the_chosen_pixels(image):
    torch.manual_seed(0)
    model = PSPNet(19, backbone="resnet10t", context="attention")
    nn.init.normal_(model.pyramid.key.weight, std=100)  # else an untrained network attends to all cells alike
    figure = figures.attended_cells(model, image, [(0, 0), (40, 60)], "title")
    shown = pictures(figure)
    assert len(shown) == 10 and all(picture.shape == (48, 64, 3) for picture in shown)
    assert not np.array_equal(shown[0], shown[5]) and not np.array_equal(shown[4], shown[9])
    assert 10 < len(np.unique(shown[4].reshape(-1, 3), axis=0)) <= 36
    names = [text.get_text() for text in figure.texts]
    shares = [float(text.split(": ")[1].rstrip("%")) for text in names if text.endswith("%")]
    assert len(shares) == 8 and sum(shares) == pytest.approx(200, abs=5)
    with pytest.raises(ValueError, match="PSPNet has no attention"):
        figures.attended_cells(build("pspnet"), image, [(0, 0)], "")


@pytest.mark.parametrize("name", MODELS)
def test_drawing_changes_nothing(name, image):
    draw = {"r2unet": figures.feature_steps, "pspnet": figures.pooled_maps}
    model, before = build(name).train(), image.clone()
    next(model.children()).eval()  # some parts in another mode
    modes = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    draw[name](model, image, "title") if name in draw else figures.architecture_figure(model, "title", SIZE)
    assert torch.equal(image, before)
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
