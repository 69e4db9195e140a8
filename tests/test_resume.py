"""A training that is killed, at any moment and any number of times, ends in the bits of one that never was."""

import multiprocessing
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from layouts import write_voc

from nnti.errors import RunError, SettingError
from nnti.experiment import Experiment
from nnti.models.saved import load_checkpoint
from nnti.training.loop import fit
from nnti.training.run_folder import RunFolder

KILLS = 20
TIMES = {"train_seconds", "val_seconds", "seconds_per_epoch", "images_per_second"}
# a server process that has imported everything: each training is a fresh copy of it, started in a moment
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["nnti.training.loop", "nnti.__main__"])


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Experiment:
    """Five training images, two validation images, five steps an epoch, a checkpoint after each second step."""
    write_voc(tmp_path / "data")
    for name in ("data", "runs", "cache"):
        monkeypatch.setenv(f"NNTI_{name.upper()}", str(tmp_path / name))
    return Experiment(
        name="tiny", train_split="trainval", batch_size=1, epochs=4, val_every=2, keep_every=3, base_size=64,
        crop_size=48, val_size=32, precision="float32", device="cpu", checkpoint_every="2 steps", cache="none",
    )  # fmt: skip


def train(experiment: Experiment, folder: Path, killed_at: int | None = None) -> None:
    """What a process of its own does; `killed_at` kills it before it moves its n-th file to its place."""
    torch.set_num_threads(1)
    if killed_at is not None:
        _kill_at_move(killed_at)
    list(fit(experiment, folder, progress=False))


def _kill_at_move(number: int) -> None:
    moves, move = iter(range(1, 10**6)), os.replace

    def replace(*arguments) -> None:
        if next(moves) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        move(*arguments)

    os.replace = replace


def start(*arguments) -> multiprocessing.Process:
    process = SERVER.Process(target=train, args=arguments)
    process.start()
    return process


def finish(*arguments) -> None:
    process = start(*arguments)
    process.join(120)
    assert process.exitcode == 0


def timeless(value):
    """Leave out what was measured with a clock."""
    return (
        {key: timeless(item) for key, item in value.items() if key not in TIMES} if isinstance(value, dict) else value
    )


def seconds(call, *arguments) -> float:
    begun = time.perf_counter()
    call(*arguments)
    return time.perf_counter() - begun


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, optimiser, history, best epoch and record are the same to the bit; only times differ."""
    for name in ("last.pt", "best.pt", "epoch_003.pt"):
        a, b = load_checkpoint(one / name), load_checkpoint(other / name)
        assert a["epoch"] == b["epoch"]
        assert a["model"].keys() == b["model"].keys()
        assert all(torch.equal(a["model"][key], b["model"][key]) for key in a["model"])
    a, b = (load_checkpoint(folder / "last.pt") for folder in (one, other))
    assert a["best"] == b["best"]
    for key, state in a["optimizer"]["state"].items():
        assert torch.equal(state["momentum_buffer"], b["optimizer"]["state"][key]["momentum_buffer"])
    histories = [RunFolder(folder).history().drop(columns=["train_seconds", "val_seconds"]) for folder in (one, other)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    records = [timeless(RunFolder(folder).record()) for folder in (one, other)]
    assert records[0] == records[1]
    assert records[0]["finished"]


def test_killed_at_20_random_moments_it_ends_in_the_same_bits(tiny, tmp_path):
    long, whole, cut = tiny.replace(epochs=18), tmp_path / "whole", tmp_path / "cut"
    finish(tiny, tmp_path / "first")  # starts the server
    training, starting = (seconds(finish, long, whole) for _ in range(2))  # the second time there is nothing left to do
    moments, found = random.Random(0), []
    for number in range(KILLS):
        before, process = _place(_last(cut)), start(long, cut)
        process.join(moments.uniform(0, starting + (training - starting) / 15))
        # on a machine that has become slower meanwhile, two lives of three get further all the same
        while number % 3 and process.exitcode is None and _place(_last(cut)) == before:
            time.sleep(0.01)
        if process.exitcode is not None:  # faster than its moment
            break
        process.kill()
        process.join()
        found.append(_last(cut))
    assert len(found) > KILLS / 2
    assert any(saved and saved["partial"] for saved in found)  # in the middle of an epoch
    assert len({saved["epoch"] for saved in found if saved}) > 2
    finish(long, cut)
    assert_same_run(whole, cut)


def test_killed_before_any_file_is_moved_it_ends_in_the_same_bits(tiny, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    finish(tiny, whole)
    for number in range(1, 100):
        # the first lives end before anything new is saved; those after get some files further, each to another place
        process = start(tiny, cut, number if number < 6 else 6 + number % 7)
        process.join(120)
        if process.exitcode == 0:
            break
        assert process.exitcode == -signal.SIGKILL
    assert number > 10
    assert_same_run(whole, cut)


def test_the_command_line_killed_in_the_middle_of_an_epoch_goes_on(tiny, tmp_path):
    whole, cut = tmp_path / "whole", tmp_path / "runs" / "tiny"
    experiment = tiny.replace(epochs=3, checkpoint_every="1 steps")
    file = tmp_path / "tiny.json"
    experiment.save(file)
    finish(experiment, whole)
    command = [sys.executable, "-m", "nnti", "train", str(file), "--quiet"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    while not (saved := _last(cut)) or not saved["partial"] or saved["epoch"] < 1:
        assert process.poll() is None
        time.sleep(0.02)
    process.kill()
    process.wait()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert "goes on after epoch" in done.stdout
    assert_same_histories(whole, cut)


def assert_same_histories(one: Path, other: Path) -> None:
    a, b = (RunFolder(folder).history().drop(columns=["train_seconds", "val_seconds"]) for folder in (one, other))
    pd.testing.assert_frame_equal(a, b, check_exact=True)


def _place(saved: dict | None) -> tuple[int, int] | None:
    """Return the epoch and step of a checkpoint."""
    return saved and (saved["epoch"], saved["partial"]["step"] if saved["partial"] else 0)


def _last(folder: Path) -> dict | None:
    try:
        return load_checkpoint(folder / "last.pt")
    except RunError:
        return None


# going on under other settings


def test_settings_of_the_machine_may_change(tiny, tmp_path):
    list(fit(tiny.replace(epochs=2), tmp_path / "a", progress=False))
    again = fit(
        tiny.replace(epochs=2, num_workers=0, checkpoint_every=None, keep_every=50), tmp_path / "a", progress=False
    )
    assert len(again) == 0


def test_what_has_learned_nothing_yet_is_replaced(tiny, tmp_path, capsys):
    run = fit(tiny, tmp_path / "a", progress=False)
    run._open()
    run._begin()  # as if the first step had run out of memory
    list(fit(tiny.replace(epochs=1, learning_rate=0.02), tmp_path / "a", progress=False))
    assert RunFolder(tmp_path / "a").experiment().learning_rate == 0.02


def test_a_run_is_extended_only_when_asked_and_says_what_the_schedule_does(tiny, tmp_path, capsys):
    list(fit(tiny.replace(epochs=2), tmp_path / "a", progress=False))
    with pytest.raises(RunError, match=r"epochs: 2 → 4\).*extend=True \(--extend\)"):
        fit(tiny, tmp_path / "a", progress=False)
    with pytest.raises(RunError, match=r"epochs: 2 → 1"):
        fit(tiny.replace(epochs=1), tmp_path / "a", extend=True, progress=False)
    with pytest.raises(RunError, match=r"other settings \(flip: 0.5 → 0.0\)"):
        fit(tiny.replace(flip=0), tmp_path / "a", extend=True, progress=False)
    capsys.readouterr()
    run = fit(tiny, tmp_path / "a", extend=True, progress=False)
    assert "extended from 2 to 4 epochs" in (said := capsys.readouterr().out)
    assert "at 0.5 of its first value" in said
    rates = [row["learning_rate"] for row in run]
    assert rates == pytest.approx([0.01 * (1 - step / 20) for step in (14, 19)])
    record = run.run.record()
    assert record["extensions"] == [{"after_epoch": 2, "from_epochs": 2, "to_epochs": 4}]
    assert (record["epochs"], record["finished"]) == (4, True)


def test_another_number_of_images_is_refused(tiny, tmp_path):
    for _ in fit(tiny, tmp_path / "a", progress=False):
        break
    names = tmp_path / "data/VOCdevkit/VOC2012/ImageSets/Segmentation/trainval.txt"
    names.write_text("".join(names.read_text().splitlines(keepends=True)[:4]))
    with pytest.raises(RunError, match="trained with 5 images in its train_split, and there are 4 now"):
        fit(tiny, tmp_path / "a", progress=False)


@pytest.mark.parametrize("text", ["5", "5 minutes ago", "0 s", "-1 min", "1.5 steps", "steps"])
def test_intervals_that_mean_nothing_are_refused(tiny, text):
    with pytest.raises(SettingError, match="checkpoint_every=.*'5 min'"):
        tiny.replace(checkpoint_every=text)


@pytest.mark.parametrize(
    ("text", "meaning"),
    [("5 min", (300, "s")), ("90s", (90, "s")), ("0.5 h", (1800, "s")), ("1 step", (1, "steps")), (None, None)],
)
def test_intervals(tiny, text, meaning):
    assert tiny.replace(checkpoint_every=text).checkpoint_interval() == meaning


def test_checkpoints_come_as_often_as_asked(tiny, tmp_path, monkeypatch):
    for interval, expected in (("2 steps", [2, 4, 0, 2, 4, 5, 0]), (None, [0, 5, 0])):
        run = fit(tiny.replace(epochs=2, checkpoint_every=interval), tmp_path / str(interval), progress=False)
        steps, save = [], run.run.checkpoints.save_last

        def keep(found: dict, steps=steps, save=save) -> None:
            steps.append(found["partial"]["step"] if found["partial"] else 0)
            save(found)

        monkeypatch.setattr(run.run.checkpoints, "save_last", keep)
        list(run)
        assert steps == [0, 0, *expected]


def test_sessions_tell_where_a_run_was_trained(tiny, tmp_path, monkeypatch):
    for _ in fit(tiny, tmp_path / "a", progress=False):
        break
    monkeypatch.setattr("nnti.device.commit", lambda: "another commit")
    run = fit(tiny, tmp_path / "a", progress=False)
    list(run)
    record = run.run.record()
    assert [(one["epoch"], one["step"]) for one in record["sessions"]] == [(1, 0), (2, 0)]
    assert record["commit"] == record["sessions"][1]["commit"] == "another commit"


# one writer


def test_two_trainings_in_one_folder_are_refused(tiny, tmp_path):
    run = fit(tiny, tmp_path / "a", progress=False)
    with run.run.one_writer(), pytest.raises(RunError, match="being trained by another process"):
        list(fit(tiny, tmp_path / "a", progress=False))


def test_what_another_training_has_written_is_not_written_over(tiny, tmp_path):
    rows = iter(fit(tiny, tmp_path / "a", progress=False))
    next(rows)
    list(fit(tiny, tmp_path / "a", progress=False))
    before = (tmp_path / "a" / "last.pt").read_bytes()
    with pytest.raises(RunError, match="written by another training meanwhile"):
        next(rows)
    assert (tmp_path / "a" / "last.pt").read_bytes() == before


def test_numbers_depend_on_the_position_not_on_what_was_drawn_before(tiny, tmp_path):
    list(fit(tiny.replace(epochs=2), tmp_path / "a", progress=False))
    for _ in fit(tiny.replace(epochs=2), tmp_path / "b", progress=False):
        torch.rand(7), np.random.rand(3), random.random()  # what a notebook may do between two epochs
    assert_same_histories(tmp_path / "a", tmp_path / "b")
