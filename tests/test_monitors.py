"""Who looks on at a training changes nothing in it: bars, TensorBoard, the dashboard; and Stop loses nothing."""

import io
import sys
import threading
import warnings

import numpy as np
import pytest
import torch
from layouts import write_voc
from PIL import Image

from nnti import progress
from nnti import progress as frontend
from nnti.experiment import Experiment
from nnti.loaders import load_split
from nnti.models import build_model
from nnti.models.saved import load_checkpoint
from nnti.notebook.dashboard import Budget, Dashboard, watch
from nnti.training.loop import fit
from nnti.training.monitors import LONGEST, Monitor, Snapshots
from nnti.training.stopping import TrainingStopped


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Experiment:
    """Five training and two validation images; two epochs of two steps."""
    write_voc(tmp_path / "data")
    monkeypatch.setenv("NNTI_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("NNTI_RUNS", str(tmp_path / "runs"))
    return Experiment(
        name="tiny", train_split="trainval", batch_size=2, epochs=2, val_every=1, base_size=64, crop_size=48,
        val_size=32, precision="float32", device="cpu", cache="none",
    )  # fmt: skip


def same_weights(one, other) -> bool:
    models = [load_checkpoint(run.last)["model"] for run in (one, other)]
    return all(torch.equal(value, models[1][name]) for name, value in models[0].items())


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB"))


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
    with pytest.warns(UserWarning, match="Broken failed .* the training goes on: OSError"):
        rows = list(run)
    assert len(rows) == 2 and run.run.finished
    assert run.monitors.members == [events]


def test_end_is_told_where_the_loop_is_left_or_fails(tiny, tmp_path):
    run, events = fit(tiny, tmp_path / "left", progress=False), Events()
    run.monitors.members.append(events)
    for _ in run:
        break
    assert events.told[-1] == "end"

    run, events = fit(tiny, tmp_path / "failed", progress=False), Events()
    run.monitors.members.append(events)
    run.loss.class_weights = torch.full((21,), torch.nan)
    with pytest.raises(FloatingPointError):
        list(run)
    assert events.told[-1] == "end"


# the dashboard


def test_the_dashboard_shows_the_training_and_changes_nothing_in_it(tiny, tmp_path):
    plain = fit(tiny, tmp_path / "plain", progress=False)
    rows = list(plain)
    board = Dashboard()
    watched = fit(tiny, tmp_path / "watched").watched_by(board)
    seen = [{**row} for row in watched]
    timeless = [{key: value for key, value in row.items() if "seconds" not in key} for row in (*rows, *seen)]
    assert timeless[:2] == timeless[2:]
    assert same_weights(plain.run, watched.run)

    assert board._epochs.value == 2 and board._epochs.description == "epoch 2/2"
    assert board._numbers.value.startswith("finished")
    for row in rows:
        assert f"{row['val_mean_iou']:.4f}" in board._table.value
    assert picture(board._curves.value).std() > 0
    assert board._stop.layout.visibility == "hidden"
    shown = picture(board._pictures.value)
    image, label = watched.val_data[0]
    height = min(watched.val_data[index][1].shape[0] for index in range(2))
    assert shown.shape[0] == 3 * height + 8
    assert watched.monitors.members == [board]


def test_stop_ends_after_the_step_with_everything_saved_and_the_same_call_goes_on(tiny, tmp_path):
    whole = fit(tiny, tmp_path / "whole", progress=False)
    list(whole)

    class Presses(Monitor):
        def step(self, run, loss):
            if run.state.done == 1:
                board._stop.click()

    board = Dashboard()
    run = fit(tiny, tmp_path / "cut").watched_by(board)
    run.monitors.members.append(Presses())
    with pytest.raises(
        TrainingStopped, match="stopped in epoch 2 of 2 after step 1 of 2; saved in .*last.pt"
    ) as caught:
        list(run)
    assert caught.value._render_traceback_() == [str(caught.value)]
    assert isinstance(caught.value, KeyboardInterrupt)  # waiting cells do not run
    assert "stopped after epoch 1, step 1: saved" in board._numbers.value

    again = fit(tiny, tmp_path / "cut", progress=False)
    assert again.state.step == 1
    list(again)
    assert same_weights(whole.run, again.run)


def test_stop_may_come_from_another_thread(tiny):
    run = fit(tiny, progress=False)

    class FromOutside(Monitor):
        def step(self, run, loss):
            thread = threading.Thread(target=run.stop)
            thread.start()
            thread.join()

    run.monitors.members.append(FromOutside())
    with pytest.raises(TrainingStopped, match="epoch 1 of 2 after step 1 of 2"):
        list(run)


def test_a_budget_keeps_its_share():
    now = [0.0]
    budget = Budget(0.02, lambda: now[0])

    def work(seconds):
        with budget.spending("curves"):
            now[0] += seconds

    work(0.5)  # what is shown at the beginning is paid back by waiting
    for _ in range(10_000):
        now[0] += 0.1
        if budget.allows("curves"):
            work(0.5)
            assert budget.spent <= 0.02 * now[0]
    assert budget.spent > 0.018 * now[0]


def test_snapshots_are_small_and_leave_the_model_as_it_was(tiny):
    data = load_split(tiny, "val")
    large = torch.zeros(3, 600, 1000, dtype=torch.uint8), torch.full((600, 1000), 7, dtype=torch.uint8)
    large[1][:, 500:] = 255
    data.files = [data.files[0]]
    data.__class__ = type("Large", (type(data),), {"__getitem__": lambda self, index: large})
    model = build_model("enet", 21).train()
    (taken,) = Snapshots(data, tiny).take(model)
    assert taken.image.shape == taken.truth.shape == taken.prediction.shape == (288, LONGEST, 3)
    assert (taken.truth[:, :240] == data.palette[7]).all() and (taken.truth[:, 240:] == data.void_color).all()
    assert all(module.training for module in model.modules())


# where nobody looks, or through what


class Kernel:
    def __init__(self, **content):
        self._content = content

    def get_parent(self, channel):
        return {"content": self._content}


@pytest.mark.parametrize(
    ("content", "widgets"), [({"allow_stdin": True}, True), ({"allow_stdin": False}, False), ({}, True)]
)
def test_widgets_are_for_cells_that_a_person_runs(monkeypatch, content, widgets):
    assert not frontend.has_widgets()  # a plain process
    monkeypatch.setattr(frontend, "_kernel", lambda: Kernel(**content))
    assert frontend.has_widgets() == widgets
    monkeypatch.setattr(progress.tqdm.auto, "tqdm", lambda *arguments, **options: "widget")
    assert isinstance(progress.progress_bar(range(1), disable=True), str) == widgets
    monkeypatch.setattr(frontend.importlib.util, "find_spec", lambda name: None)
    assert not frontend.has_widgets()  # ipywidgets is missing


def test_watch_is_a_bar_of_text_and_a_line_per_validation_where_nobody_looks(tiny, capsys):
    rows = list(watch(fit(tiny)))
    said = capsys.readouterr()
    assert said.out.count("val mean IoU") == len(rows) == 2
    assert f"{rows[-1]['val_mean_iou']:.3f} (report protocol)" in said.out
    assert "tiny" in said.err and "img/s" in said.err
    assert list(watch(fit(tiny, restart=True, progress=False))) and capsys.readouterr().out == ""


# TensorBoard


def test_tensorboard_has_every_column_and_pictures_and_no_step_twice(tiny, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    plain = fit(tiny, tmp_path / "plain", progress=False)
    list(plain)
    experiment = tiny.replace(tensorboard=True)
    for _ in fit(experiment, tmp_path / "board", progress=False):
        break  # after the first epoch
    run = fit(experiment, tmp_path / "board", progress=False)
    list(run)
    assert same_weights(plain.run, run.run)

    events = accumulator.EventAccumulator(str(tmp_path / "board" / "tensorboard"), size_guidance={"images": 0})
    events.Reload()
    history = run.run.history()
    for column in ("train_loss", "val_mean_iou"):
        split, _, metric = column.partition("_")
        written = events.Scalars(f"{split}/{metric}")
        expected = history[column].dropna()
        assert [event.value for event in written] == pytest.approx(expected.tolist(), rel=1e-6)
        assert [event.step for event in written] == [2 * epoch for epoch in expected.index]
    assert [event.step for event in events.Images("image, truth, prediction/0")] == [0, 2, 4]
    assert picture(events.Images("image, truth, prediction/1")[-1].encoded_image_string).ndim == 3

    list(fit(experiment, tmp_path / "board", restart=True, progress=False))
    assert len(list((tmp_path / "board" / "tensorboard").iterdir())) == 1  # nothing of the earlier run is left


def test_without_tensorboard_a_warning_and_nothing_else(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run = fit(tiny.replace(tensorboard=True), progress=False)
    with pytest.warns(UserWarning, match="pip install tensorboard"):
        assert len(list(run)) == 2
    assert run.run.finished and not (run.run.path / "tensorboard").exists()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(fit(tiny, restart=True, progress=False))
