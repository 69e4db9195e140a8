"""Run folders: whatever happens to a training, its files are whole, and it goes on to the same bits."""

import multiprocessing
import os
import random
import re
import resource
import shlex
import time
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import SERVER, contents, same_weights, timeless, train
from layouts import draw_image, save_image

from nnti.__main__ import main
from nnti.errors import RunError
from nnti.experiment import Experiment
from nnti.folders import list_runs, write_whole
from nnti.models import build_model
from nnti.models.saved import load_checkpoint, load_model
from nnti.training.loop import Fit, fit
from nnti.training.monitors import Monitor
from nnti.training.run_folder import RunFolder, find_run

KILLS = int(os.environ.get("NNTI_KILLS", 3))  # 20 make a thorough check


@pytest.fixture
def tiny(tiny) -> Experiment:
    """Two epochs, saved after every second step."""
    return tiny.replace(epochs=2, checkpoint_every="2 steps")


def one_epoch(experiment: Experiment, folder: Path) -> RunFolder:
    """Leave a run after its first epoch."""
    run = fit(experiment, folder, progress=False)
    next(iter(run))
    return run.run


def assert_same_run(one: Path, other: Path) -> None:
    """Weights, optimiser, history, best epoch and record are the same to the bit; only times differ."""
    for name in ("last.pt", "best.pt", *(path.name for path in one.glob("epoch_*.pt"))):
        a, b = load_checkpoint(one / name), load_checkpoint(other / name)
        assert a["epoch"] == b["epoch"] and a["model"].keys() == b["model"].keys()
        assert all(torch.equal(value, b["model"][key]) for key, value in a["model"].items())
    a, b = (load_checkpoint(folder / "last.pt") for folder in (one, other))
    assert a["best"] == b["best"]
    for key, state in a["optimizer"]["state"].items():
        assert torch.equal(state["momentum_buffer"], b["optimizer"]["state"][key]["momentum_buffer"])
    histories = [RunFolder(folder).history().drop(columns=["train_seconds", "val_seconds"]) for folder in (one, other)]
    pd.testing.assert_frame_equal(*histories, check_exact=True)
    records = [timeless(RunFolder(folder).record()) for folder in (one, other)]
    assert records[0] == records[1] and records[0]["finished"]


def flip(path: Path) -> None:
    """Change one bit within the largest tensor of a checkpoint."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    data = bytearray(path.read_bytes())
    data[largest.header_offset + largest.file_size // 2 + 256] ^= 1  # behind its header and the padding
    path.write_bytes(data)


# killed, damaged, full


def train_alone(experiment: Experiment, folder: Path) -> multiprocessing.Process:
    """Train in a process of its own."""
    process = SERVER.Process(target=train, args=(experiment, folder))
    process.start()
    return process


def place(folder: Path) -> tuple[int, int]:
    """Return the epoch and step that a folder's last checkpoint holds."""
    try:
        saved = load_checkpoint(folder / "last.pt")
    except RunError:
        return (-1, 0)
    return saved["epoch"], saved["partial"]["step"] if saved["partial"] else 0


def test_killed_at_random_moments_it_ends_in_the_same_bits(tiny, tmp_path):
    """Dropout included; each life gets some steps further, then is killed within the next tenths of a second."""
    settings = {"epochs": max(2, KILLS // 2), "val_every": 2, "keep_every": 2, "checkpoint_every": "2 steps"}
    experiment = tiny.replace(model="enet", model_arguments={}, **settings)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    first = train_alone(experiment, whole)
    moments = random.Random(0)
    for _ in range(KILLS):
        before, process = place(cut), train_alone(experiment, cut)
        while place(cut) == before and process.is_alive():
            time.sleep(0.05)
        process.join(moments.uniform(0, 0.4))
        process.kill()
        process.join()
    train_alone(experiment, cut).join(120)
    first.join(120)
    assert_same_run(whole, cut)


@pytest.mark.parametrize("damage", [flip, lambda path: os.truncate(path, 999), Path.unlink], ids=["bit", "cut", "gone"])
def test_without_a_whole_last_checkpoint_it_goes_on_from_the_one_before_to_the_same_bits(tiny, whole, tmp_path, damage):
    folder = one_epoch(tiny, tmp_path / "cut")
    damage(folder.last)
    if folder.last.exists():
        with pytest.warns(UserWarning, match=r"last.pt cannot be read.*going on from previous.pt"):
            run = fit(tiny, folder.path, progress=False)
    else:  # as between the two renames of a save
        run = fit(tiny, folder.path, progress=False)
    list(run)
    assert_same_run(whole.run.path, folder.path)


def test_a_folder_without_a_usable_checkpoint_is_refused_and_nothing_is_changed(tiny, tmp_path):
    folder = one_epoch(tiny, tmp_path / "a")
    saved = {path: path.read_bytes() for path in (folder.last, folder.previous)}
    flip(folder.last), flip(folder.previous)
    before = contents(folder.path)
    with pytest.raises(RunError, match=r"last.pt cannot be read[^;]*\); .*previous.pt cannot be read.*Nothing was ch"):
        fit(tiny, folder.path, progress=False)
    assert before == contents(folder.path)
    for path, content in saved.items():
        path.write_bytes(content)
    folder.best.replace(folder.last)
    with pytest.raises(RunError, match="last.pt cannot be continued: it lacks optimizer"):
        fit(tiny, folder.path, progress=False)
    folder.last.unlink(), folder.previous.unlink()
    (folder.path / "mine.pt").write_bytes(b"not ours")
    before = contents(folder.path)
    with pytest.raises(RunError, match="no last.pt"):
        fit(tiny, folder.path, progress=False)
    assert before == contents(folder.path)
    train(tiny.replace(epochs=1), folder.path, restart=True)
    assert (folder.path / "mine.pt").read_bytes() == b"not ours"


def test_a_best_checkpoint_that_is_damaged_or_gone_is_replaced_by_the_last_and_the_record_says_so(tiny, tmp_path):
    run = fit(tiny, tmp_path / "a", progress=False)
    rows = iter(run)
    for _ in range(2):
        next(rows)
    run.run.best.unlink()
    with pytest.warns(UserWarning, match="best.pt does not exist.*the last epoch takes its place"):
        list(rows)
    assert run.run.record()["best_epoch"] == load_checkpoint(run.run.best)["epoch"] == 2
    run.run.best.unlink()  # later, and who asks for it is told a command
    with pytest.raises(RunError, match="best.pt does not exist") as told:
        load_model(run.run.best)
    with pytest.warns(UserWarning, match="the last epoch takes its place"):
        assert main(shlex.split(str(told.value).partition("python -m nnti ")[2])) == 0
    assert load_model(run.run.best)[1]["epoch"] == 2


def test_a_damaged_record_is_written_anew(tiny, tmp_path):
    folder = train(tiny.replace(epochs=1), tmp_path / "a").run
    record = folder.path / "record.json"
    record.write_text(record.read_text()[:99])
    with pytest.raises(RunError, match="record.json is damaged.*train again"):
        folder.record()
    assert train(tiny.replace(epochs=1), folder.path).run.finished
    record.write_text('{"run": "something else"}')
    with pytest.raises(RunError, match="record.json is damaged.*train again"):
        folder.record()
    before = train(tiny.replace(epochs=1), folder.path).run.history()
    history = folder.path / "history.csv"
    history.write_text(history.read_text().replace(",", ";").replace(".", ","))  # as a German spreadsheet does
    with pytest.raises(RunError, match="history.csv is damaged.*train again"):
        folder.history()
    assert train(tiny.replace(epochs=1), folder.path).run.history().equals(before)


def test_a_full_disk_stops_the_training_and_with_room_it_goes_on_to_the_same_bits(tiny, tmp_path, whole):
    rows = iter(run := fit(tiny, tmp_path / "a", progress=False))
    next(rows)
    before, limits = contents(run.run.path), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
    try:
        with pytest.raises(RunError, match=r"last.pt cannot be written \(File too large\).*room.*intact"):
            next(rows)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert before == contents(run.run.path)
    train(tiny, run.run.path)
    assert_same_run(whole.run.path, run.run.path)


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path, previous = tmp_path / "folder" / "x", tmp_path / "folder" / "y"
    write_whole(path, "öne", previous)
    write_whole(path, lambda file: file.write(b"two"), previous)
    assert (path.read_bytes(), previous.read_text(encoding="utf-8")) == (b"two", "öne")

    def broken(file) -> None:
        file.write(b"thr")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, broken, previous)
    assert contents(path.parent) == {"x": b"two", "y": "öne".encode()}


@pytest.mark.parametrize(
    "command",
    [
        "predict {run} {photo} --output {place}",
        "export {run} --output {place}",
        "figures {run} --output {place}",
        "analyze {run} --output {place}",
        "evaluate {run} --json {place}/x.json",
        "complexity --no-timing --output {place}",
    ],
)
def test_a_place_that_cannot_be_written_is_named_before_the_work(whole, tmp_path, capsys, command):
    (tmp_path / "file").write_text("in the way")
    photo, place = next(tmp_path.rglob("*.jpg")), tmp_path / "file" / "x"
    parts = [part.format(run=whole.run.path, photo=photo, place=place) for part in command.split()]
    assert main([*parts, "--quiet"]) == 1
    said = capsys.readouterr()
    assert said.out == "" and re.fullmatch(rf"error: {place} cannot be written \(Not a directory\).*\n", said.err)


def test_a_disk_that_becomes_full_while_it_predicts_is_named(whole, tmp_path, capsys):
    photo, limits = tmp_path / "photo.png", resource.getrlimit(resource.RLIMIT_FSIZE)
    save_image(photo, draw_image("1", (60, 60)))
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, limits[1]))
    try:
        assert main(["predict", str(whole.run.path), str(photo), "--quiet"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert re.search(r"photo_overlay.png cannot be written \(File too large\).*room", capsys.readouterr().err)


# may a training go on in this folder?


def test_other_settings_are_refused_and_named_those_of_the_machine_may_change(tiny, tmp_path):
    folder = one_epoch(tiny, tmp_path / "a")
    before = folder.last.read_bytes()
    for changes, options, message in (
        ({"learning_rate": 0.1}, {}, r"learning_rate: 0.01 → 0.1\).*restart=True.*run_dir"),
        ({"flip": 0, "epochs": 3}, {"extend": True}, r"flip: 0.5 → 0.0\)"),
        ({"epochs": 3}, {}, r"epochs: 2 → 3\).*extend=True \(--extend\)"),
        ({"epochs": 1}, {"extend": True}, "epochs: 2 → 1"),
    ):
        with pytest.raises(RunError, match=message):
            fit(tiny.replace(**changes), folder.path, progress=False, **options)
    assert folder.last.read_bytes() == before
    free = tiny.replace(num_workers=1, cache="ram", checkpoint_every="1 s", keep_every=50)
    assert len(fit(free, folder.path, progress=False)) == 1


class AtEachStep(Monitor):
    """Calls a function after each training step."""

    def __init__(self, action):
        self.action = action

    def step(self, run: Fit, loss) -> None:
        self.action(run)


def test_a_run_that_has_learned_nothing_yet_is_replaced_by_one_with_other_settings(tiny, tmp_path):
    def interrupt(run: Fit) -> None:
        raise KeyboardInterrupt

    run = fit(tiny, tmp_path / "a", progress=False)
    run.monitors.members.append(AtEachStep(interrupt))
    with pytest.raises(KeyboardInterrupt):
        list(run)
    assert len(train(tiny.replace(epochs=1, crop_size=24), run.run.path).rows) == 2
    assert run.run.experiment().crop_size == 24


def test_data_that_has_changed_is_refused(tiny, tmp_path):
    folder = one_epoch(tiny, tmp_path / "a")
    saved = load_checkpoint(folder.last)
    torch.save({**saved, "class_names": saved["class_names"][::-1]}, folder.last)
    with pytest.raises(RunError, match="trained with 21 classes.*Restore the classes"):
        fit(tiny, folder.path, progress=False)
    torch.save(saved, folder.last)
    names = tmp_path / "data/VOCdevkit/VOC2012/ImageSets/Segmentation/trainval.txt"
    names.write_text("".join(names.read_text().splitlines(keepends=True)[:4]))
    gone = r"other images in its train_split \(5 images then, 4 now: 1 gone \(2008_000073\)\)"
    with pytest.raises(RunError, match=gone):
        fit(tiny, folder.path, progress=False)
    torch.save({**saved, "images": {"train_split": 5, "val_split": 2}}, folder.last)  # of an older version
    with pytest.raises(RunError, match=r"train_split \(5 images then, 4 now\)"):
        fit(tiny, folder.path, progress=False)


@pytest.mark.parametrize(
    ("every", "steps"), [("2 steps", [0, 0, 2, 2, 4]), (None, [0] * 5), ("0.001 s", [0, 1, 2, 3, 4])]
)
def test_checkpoints_within_an_epoch_come_as_often_as_asked(tiny, tmp_path, every, steps):
    run, seen = fit(tiny.replace(epochs=1, checkpoint_every=every), tmp_path / "a", progress=False), []
    run.monitors.members.append(AtEachStep(lambda run: seen.append(place(run.run.path)[1])))  # what last.pt holds
    list(run)
    assert seen == steps


def test_a_run_remembers_where_each_part_was_trained_and_how_it_updates_belongs_to_the_machine(tiny, whole, tmp_path):
    folder = one_epoch(tiny, tmp_path / "a")
    saved = load_checkpoint(folder.last)
    saved["sessions"][0]["device"] = "another machine"
    for group in saved["optimizer"]["param_groups"]:
        group.update(fused=True, foreach=False)
    torch.save(saved, folder.last)
    run = train(tiny, folder.path)
    assert all(group["fused"] is group["foreach"] is None for group in run.optimizer.param_groups)
    assert [(one["epoch"], one["step"]) for one in folder.record()["sessions"]] == [(1, 0), (2, 0)]
    assert folder.record()["device"] == folder.record()["sessions"][1]["device"] != "another machine"
    assert same_weights(whole, run)


def test_a_run_goes_on_where_training_is_in_float16(tiny, tmp_path, monkeypatch):
    folder = one_epoch(tiny.replace(precision="auto"), tmp_path / "a")
    monkeypatch.setattr("nnti.training.loop.resolve_precision", lambda name, device: torch.float16)
    run = train(tiny.replace(precision="auto"), folder.path)
    assert run.run.finished and run.scaler.is_enabled()


# one writer


def test_two_trainings_in_one_folder_are_refused_and_reading_processes_do_not_hold_the_lock(tiny, tmp_path):
    folder = RunFolder(tmp_path / "a")
    with folder.one_writer(), pytest.raises(RunError, match="being trained by another process"):
        train(tiny, folder.path)
    run = train(tiny.replace(num_workers=1, epochs=1), folder.path)
    with run.run.one_writer():
        pass


def test_a_folder_without_locks_serves_and_one_that_cannot_be_written_is_named(tiny, tmp_path):
    (tmp_path / "a" / "run.lock").mkdir(parents=True)
    assert train(tiny.replace(epochs=1), tmp_path / "a").run.finished
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written.*writable"):
        train(tiny, tmp_path / "file" / "run")


# reading


def test_runs_are_found_by_name_and_path_and_what_is_missing_is_named(tiny, tmp_path):
    folder = one_epoch(tiny, tmp_path / "runs" / "tiny")
    assert find_run("tiny").path == find_run(folder.path).path == folder.path
    assert list_runs() == ["tiny"]
    assert find_run("enet_camvid").record()["finished"]  # the report's
    with pytest.raises(RunError, match="no run 'tinny'.*there are: tiny, enet_camvid"):
        find_run("tinny")
    with pytest.raises(RunError, match="holds no record.json"):
        RunFolder(tmp_path).record()
    with pytest.raises(RunError, match="nowhere.pt does not exist.*nnti train"):
        load_checkpoint(tmp_path / "nowhere.pt")


def test_weights_that_are_not_those_described_are_named(tmp_path):
    experiment = Experiment(model="r2unet", model_arguments={"widths": [4, 6]}).to_dict()
    checkpoint = {"experiment": experiment, "class_names": ["a", "b", "c"]}
    weights = build_model("r2unet", 3, experiment["model_arguments"]).state_dict()
    renamed = {name.replace("head.bias", "head.shift"): value for name, value in weights.items()}
    for model, classes, message in (
        (weights, ["a", "b"], r"x.pt: the weights are not those of R2UNet.*size mismatch for head.weight"),
        (renamed, ["a", "b", "c"], "Missing key.*head.bias.*Unexpected.*head.shift"),
    ):
        torch.save({**checkpoint, "model": model, "class_names": classes}, tmp_path / "x.pt")
        with pytest.raises(RunError, match=message):
            load_model(tmp_path / "x.pt")
    torch.save(weights, tmp_path / "weights.pt")
    with pytest.raises(RunError, match="weights.pt is not a checkpoint of this project: it lacks experiment"):
        load_model(tmp_path / "weights.pt")
