"""Drawings of the networks: all in them comes from the model, nothing overlaps, and the model stays as it was."""

import itertools

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from torch import nn

from nnti import figures
from nnti.figures import style as output
from nnti.figures.networks import DASHED, arrange, join_names, model_graph, shape_text, summarize_kinds
from nnti.figures.style import WIDTH, bare_page
from nnti.models import Block, ENet, PSPNet, R2UNet, architecture_table

SIZE = (96, 160)


class Chain(nn.Module):
    """`count` convolutions that keep the size; `inputs` by position."""

    def __init__(self, count, inputs=None):
        super().__init__()
        self.parts = nn.ModuleList(nn.Conv2d(3, 3, 1) for _ in range(count))
        self.inputs = inputs or {}

    def forward(self, x):
        for part in self.parts:
            x = part(x)
        return x

    def blocks(self):
        for at, part in enumerate(self.parts):
            yield Block("s", f"part{at}", "1×1", part, self.inputs.get(at, ()))


@pytest.fixture(autouse=True)
def coarse(monkeypatch):
    """Files of a quarter of the resolution: the same drawing, sooner."""
    monkeypatch.setattr(output, "DPI", 50)


def build(name):
    torch.manual_seed(0)
    return {
        "enet": lambda: ENet(21),
        "r2unet": lambda: R2UNet(19, widths=(4, 8, 16, 32)),
        "pspnet": lambda: PSPNet(19, backbone="resnet18", pretrained=False),
        "one": lambda: Chain(1),
        "many": lambda: Chain(30, {at: (f"part{at - 1}", f"part{at - 2}") for at in range(2, 30)}),
    }[name]()


MODELS = ("enet", "r2unet", "pspnet", "one", "many")


@pytest.fixture(params=MODELS)
def model(request):
    return build(request.param)


def labels(figure):
    """Every text of the drawing, line breaks left out."""
    return [text.get_text().replace("\n", " ") for axes in figure.axes for text in axes.texts]


def boxes(figure):
    """Each text's rectangle in pixels, as the renderer draws it."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [*figure.texts, figure._suptitle, *(text for axes in figure.axes for text in axes.texts)]
    texts += [text for legend in figure.legends for text in legend.get_texts()]
    return {text: text.get_window_extent(canvas.get_renderer()) for text in texts if text.get_text()}


def assert_readable(figure):
    """No text runs over another or off the page, and none is smaller than 7 points."""
    extents = boxes(figure)
    for (one, a), (two, b) in itertools.combinations(extents.items(), 2):
        assert not a.overlaps(b), (one.get_text(), two.get_text())
    for text, box in extents.items():
        assert box.x0 >= 0 and box.y0 >= 0 and text.get_fontsize() >= 7, text.get_text()
        assert box.x1 <= figure.bbox.width and box.y1 <= figure.bbox.height, text.get_text()


def beginning(node):
    """What a node's label begins with, spaces left out."""
    several = f"{len(node.names)}blocks" if len(node.names) > 1 else ""
    return node.title.replace(" ", "") + several + shape_text(node.shape)


def test_every_name_size_and_stride_comes_from_the_model(model):
    texts = labels(figures.architecture_figure(model, "title", SIZE))
    squeezed = [text.replace(" ", "") for text in texts]
    table = architecture_table(model, SIZE)
    nodes = {name: node for node in model_graph(model, SIZE) for name in node.names}
    for row in table.itertuples():
        node = nodes[row.name]
        assert node.shape == (row.channels, row.height, row.width)
        (label,) = [text for text in squeezed if text.startswith(beginning(node))]
        assert label.removeprefix(beginning(node)) in ("", f"stride{row.stride}")
        assert any(kind in " ".join(texts) for kind in (row.type, row.type.rsplit(" ", 1)[0]))


def test_arrows_are_the_inputs_that_the_model_declares(model):
    nodes = model_graph(model, SIZE)
    place = {name: at for at, node in enumerate(nodes) for name in node.names}
    expected, before = set(), "image"
    for block in model.blocks():
        expected |= {(place[name], place[block.name]) for name in block.inputs or (before,)}
        before = block.name
    if "output" in place:
        last = max(place[block.name] for block in model.blocks() if nodes[place[block.name]].leads)
        expected.add((last, place["output"]))
    arrows = arrange(nodes, WIDTH).arrows
    drawn = [(arrow.source, arrow.reader) for arrow in arrows]
    assert len(drawn) == len(set(drawn)) and set(drawn) == {pair for pair in expected if pair[0] != pair[1]}
    skips = {
        (arrow.source, arrow.reader) for arrow in arrows if arrow.text in nodes[arrow.reader].carries and arrow.text
    }
    assert skips == {(a, b) for a, b in drawn if nodes[b].column - nodes[a].column > 1}


@pytest.mark.parametrize("size", [(512, 1024), (33, 47)])
def test_nothing_overlaps(model, size):
    figure = figures.architecture_figure(model, "a title that is not so short, for a figure of a network", size)
    assert_readable(figure)


@pytest.mark.parametrize("name", ["enet", "r2unet", "pspnet"])
def test_the_networks_fit_the_page(name):
    full = {"r2unet": lambda: R2UNet(19), "pspnet": lambda: PSPNet(19, pretrained=False)}.get(name, lambda: ENet(21))()
    figure = figures.architecture_figure(full, "title")
    assert figure.get_figwidth() == pytest.approx(WIDTH) and figure.get_figheight() < WIDTH
    indices = {"indices 16×128×128", "indices 64×64×64"}  # that ENet's poolings hand to its unpoolings
    assert indices & set(labels(figure)) == (indices if name == "enet" else set())
    assert_readable(figure)


def test_slabs_grow_with_the_maps():
    slabs = arrange(model_graph(build("enet"), (256, 512)), WIDTH).slabs
    for one, two in itertools.combinations(slabs, 2):
        (c1, h1, w1), (c2, h2, w2) = one.node.shape, two.node.shape
        assert (one.height < two.height, one.back < two.back) == (h1 < h2, w1 < w2)
        assert (one.width < two.width) == (c1 < c2)


def test_a_u_has_a_line_per_size_and_level_skips():
    layout = arrange(model_graph(build("r2unet"), SIZE), WIDTH)
    lines = {}
    for slab in layout.slabs:
        lines.setdefault(slab.node.shape[1], set()).add(round(slab.y, 6))
    assert all(len(line) == 1 for line in lines.values())
    heights = [min(lines[size]) for size in sorted(lines, reverse=True)]
    assert heights == sorted(heights, reverse=True) and len(set(heights)) == 4
    axis = {round(slab.y, 6) for slab in arrange(model_graph(build("enet"), SIZE), WIDTH).slabs}
    assert len(axis) == 1


def test_a_head_for_training_only_is_dashed():
    nodes = model_graph(build("pspnet"), SIZE)
    assert [node.title for node in nodes if not node.leads] == ["auxiliary"]
    assert nodes[-1].title == "output" and nodes[-1].shape == (19, *SIZE)

    def dashed(name):
        axes = figures.architecture_figure(build(name), "", SIZE).axes[0]
        return sum(patch.get_linestyle() == DASHED for patch in axes.patches)

    assert dashed("pspnet") == 3 + 1 and dashed("one") == 0  # a slab's faces and the arrow to it


def test_equal_blocks_share_a_slab_unless_somebody_reads_between():
    assert [node.title for node in model_graph(Chain(4), SIZE)] == ["image", "part0 – 3"]
    read = Chain(4, {3: ("part2", "part1")})
    assert [node.title for node in model_graph(read, SIZE)] == ["image", "part0 – 1", "part2", "part3"]
    titles = [node.title for node in model_graph(build("enet"), SIZE)]
    assert titles[3:7] == ["bottleneck1.1 – 1.4", "bottleneck2.0", "bottleneck2.1 – 2.8", "bottleneck3.1 – 3.8"]


def test_kinds_and_names_are_summed_up():
    kinds = ["", "dilated 2", "asymmetric 5", "dilated 4", "", "asymmetric 5"]
    assert summarize_kinds(kinds) == "2 × regular, dilated 2, 4, 2 × asymmetric 5"
    assert summarize_kinds(["", ""]) == "regular" and summarize_kinds(["conv 3"]) == "conv 3"
    assert join_names(["up4", "up3", "encoder1", "pool 1×1"]) == "up4, 3, encoder1, pool 1×1"


def test_an_input_that_is_no_block_is_named():
    with pytest.raises(ValueError, match=r"'part1' reads \['part9'\].*part0"):
        figures.architecture_figure(Chain(2, {1: ("part9",)}), "", SIZE)


@pytest.mark.parametrize("steps", [1, 2, 4])
@pytest.mark.parametrize("step_norm", ["shared", "per_step"])
def test_recurrence_shows_each_step(steps, step_norm):
    figure = figures.recurrence_figure(steps, step_norm)
    texts = labels(figure)
    assert texts.count("3×3 conv, w") == steps + 1
    norms = [text for text in texts if text.startswith("batch norm")]
    assert len(norms) == steps + 1 and len(set(norms)) == (1 if step_norm == "shared" else steps + 1)
    assert {f"$x_{{{step}}}$" for step in range(steps + 1)} <= set(texts)
    assert_readable(figure)


def test_recurrence_refuses_what_it_cannot_draw():
    with pytest.raises(ValueError, match="1 to 4"):
        figures.recurrence_figure(9)
    with pytest.raises(ValueError, match="'per_step'"):
        figures.recurrence_figure(2, "none")


@pytest.fixture
def image():
    return torch.randint(0, 256, (3, 48, 64), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def pictures(figure):
    return [np.asarray(axes.images[0].get_array()) for axes in figure.axes]


def test_feature_steps_are_the_modules_states(image):
    model = build("r2unet")
    figure = figures.feature_steps(model, image, "title", unit=3, channels=2)
    assert len(figure.axes) == 2 * (3 + 2)
    texts = [text.get_text() for text in figure.texts]
    assert texts.count("$x_2 - x_1$") == 0 and texts.count("$x_{2} - x_{1}$") == 1
    assert (
        "encoder.1.recurrent.1" in figure._suptitle.get_text()
        and "8 channels of 24 × 32" in figure._suptitle.get_text()
    )
    assert all(picture.shape == (48, 64, 3) for picture in pictures(figure))
    with torch.no_grad():  # nothing left of its input, nothing changes
        for norm in (norm for norm in model.modules() if isinstance(norm, nn.BatchNorm2d)):
            norm.weight.zero_()
    still = pictures(figures.feature_steps(model, image, "", unit=3, channels=1))
    assert (still[3] == still[3][0, 0]).all() and (still[0] == still[1]).all()
    with pytest.raises(ValueError, match="14 recurrent convolutions.*number 14"):
        figures.feature_steps(model, image, "", unit=14)
    with pytest.raises(ValueError, match="ENet has 0"):
        figures.feature_steps(ENet(2), image, "")


def test_pooled_maps_show_cells_as_large_as_they_are(image):
    figure = figures.pooled_maps(build("pspnet"), image, "title")
    shown = pictures(figure)
    assert len(shown) == 6 and all(picture.shape == (48, 64, 3) for picture in shown)
    np.testing.assert_array_equal(shown[0], image.permute(1, 2, 0))
    for bins, picture in zip((1, 2, 3, 6), shown[2:], strict=True):
        rows, columns = (np.arange(size) * bins // size for size in (48, 64))
        cells = {
            (row, column): picture[rows == row][:, columns == column] for row in range(bins) for column in range(bins)
        }
        assert all((cell == cell[0, 0]).all() for cell in cells.values())
    assert len({tuple(picture[0, 0]) for picture in shown[2:]}) == 4
    assert [text.get_text() for text in figure.texts].count("3 × 3 means") == 1
    with pytest.raises(ValueError, match="ENet has 0 pyramids"):
        figures.pooled_maps(ENet(2), image, "")


DRAWINGS = {
    "enet": lambda model, image: figures.architecture_figure(model, "title", SIZE),
    "r2unet": lambda model, image: figures.feature_steps(model, image, "title"),
    "pspnet": lambda model, image: figures.pooled_maps(model, image, "title"),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_same_bytes_and_the_model_as_it_was(name, image, tmp_path):
    model, before = build(name).train(), image.clone()
    modes = [module.training for module in model.modules()]
    state = {key: value.clone() for key, value in model.state_dict().items()}
    first, second = (figures.save(DRAWINGS[name](model, image), "x", tmp_path / part) for part in "ab")
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]
    assert torch.equal(image, before) and all(
        torch.equal(state[key], value) for key, value in model.state_dict().items()
    )
    assert [module.training for module in model.modules()] == modes
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


def test_long_titles_break_where_one_pauses():
    title = "R2U-Net and PSPNet on Cityscapes (2975 train / 500 val images), validation by the report protocol"
    assert bare_page(1, title)[0]._suptitle.get_text() == title.replace("images), ", "images),\n")
    words = " ".join(["word"] * 30)
    lines = bare_page(1, words)[0]._suptitle.get_text().split("\n")
    assert len(lines) == 2 and " ".join(lines) == words and abs(len(lines[0]) - len(lines[1])) < 20
