"""Who looks on at a training changes nothing in it: progress bar, snapshots, TensorBoard."""

import io
import math
import sys

import numpy as np
import pytest
from conftest import same_weights, train
from layouts import save_image
from PIL import Image

from nnti.data import VOC
from nnti.models import build_model
from nnti.training.loop import fit
from nnti.training.monitors import LONGEST, Monitor, Snapshots


@pytest.fixture
def tiny(tiny):
    """Two epochs of two steps."""
    return tiny.replace(epochs=2, batch_size=2)


class Events(Monitor):
    """Notes what it is told."""

    def __init__(self):
        self.told = []

    def begin(self, run):
        self.told.append("begin")

    def step(self, run, loss):
        self.told.append(("step", run.state.done, run.state.step))

    def phase(self, run, text):
        self.told.append(text)

    def epoch(self, run):
        self.told.append(("epoch", run.state.done))

    def end(self, run):
        self.told.append("end")


def test_monitors_are_told_everything_in_order(tiny):
    run, events = fit(tiny, progress=False), Events()
    run.monitors.members.append(events)
    list(run)
    validation = ["validation, report protocol", ""]
    assert events.told == [
        "begin", *validation, ("epoch", 0),
        ("step", 0, 1), ("step", 0, 2), *validation, ("epoch", 1),
        ("step", 1, 1), ("step", 1, 2), *validation, ("epoch", 2),
        *validation, "validation, full protocol", "", "end",
    ]  # fmt: skip


def test_a_monitor_that_fails_is_dropped_and_the_training_goes_on(tiny):
    class Broken(Monitor):
        def step(self, run, loss):
            raise OSError("the browser is gone")

    run, events = fit(tiny, progress=False), Events()
    run.monitors.members += [Broken(), events]
    with pytest.warns(UserWarning, match="Broken .*OSError"):
        assert len(list(run)) == 2
    assert run.run.finished and run.monitors.members == [events]


@pytest.mark.parametrize("fails", [False, True])
def test_end_is_told_where_the_loop_is_left_or_fails(tiny, fails):
    run, events = fit(tiny, progress=False), Events()
    run.monitors.members.append(events)
    rows = iter(run)
    next(rows)
    if fails:
        next(run.model.parameters()).data.fill_(math.nan)
        with pytest.raises(FloatingPointError):
            next(rows)
    else:
        rows.close()
    assert events.told[-1] == "end" and events.told.count("end") == 1


def test_snapshots_are_small_and_leave_the_model_as_it_was(tiny):
    data = VOC("val")
    for path, values in zip(data.files[0], (np.zeros((600, 1000, 3)), np.full((600, 1000), 7)), strict=True):
        if values.ndim == 2:
            values[:, 500:] = 255
        save_image(path, values.astype(np.uint8))
    model = build_model("r2unet", 21, {"widths": [4, 6]}).train()
    image, truth, prediction = Snapshots(data, tiny).take(model)[0]
    assert image.shape == truth.shape == prediction.shape == (288, LONGEST, 3)
    assert (truth[:, :240] == data.palette[7]).all() and (truth[:, 240:] == data.void_color).all()
    assert all(module.training for module in model.modules())


def test_tensorboard_has_every_column_and_pictures_and_no_step_twice(tiny, tmp_path, whole):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    experiment = tiny.replace(tensorboard=True)
    next(iter(fit(experiment, tmp_path / "board", progress=False)))  # left after the first epoch
    run = train(experiment, tmp_path / "board")
    assert same_weights(whole, run)

    events = accumulator.EventAccumulator(str(tmp_path / "board" / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    history = run.run.history()
    for column in ("train_loss", "val_mean_iou"):
        written, expected = events.Scalars(column.replace("_", "/", 1)), history[column].dropna()
        assert [event.value for event in written] == pytest.approx(expected.tolist(), rel=1e-6)
        assert [event.step for event in written] == [2 * epoch for epoch in expected.index]
    pictures = events.Images("image, truth, prediction/1")
    assert [event.step for event in pictures] == [0, 2, 4]
    assert Image.open(io.BytesIO(pictures[-1].encoded_image_string)).mode == "RGB"

    next(iter(fit(experiment, tmp_path / "board", restart=True, progress=False)))
    assert len(list((tmp_path / "board" / "tensorboard").iterdir())) == 1  # nothing of the earlier run is left


def test_without_tensorboard_a_warning_and_nothing_else(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)  # as where the package is not installed
    run = fit(tiny.replace(tensorboard=True), progress=False)
    with pytest.warns(UserWarning, match="pip install tensorboard"):
        assert len(list(run)) == 2
    assert run.run.finished and not (run.run.path / "tensorboard").exists()
