"""Run folders: whatever happens to a training, its files are whole, and it goes on to the same bits."""

import json
import multiprocessing
import os
import random
import resource
import time
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from nnti.errors import RunError
from nnti.experiment import Experiment
from nnti.folders import list_runs, write_whole
from nnti.inference.evaluate import evaluate
from nnti.models import build_model
from nnti.models.saved import load_checkpoint, load_model
from nnti.training.loop import Fit, fit
from nnti.training.monitors import Monitor
from nnti.training.run_folder import RunFolder, find_run, write_evaluation

KILLS = int(os.environ.get("NNTI_KILLS", 4))  # 20 make a thorough check
TIMES = {"train_seconds", "val_seconds", "seconds_per_epoch", "images_per_second"}
# a server process that has imported everything: each training is a fresh copy of it, started in a moment
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["nnti.training.loop", "nnti.__main__"])


def train(experiment: Experiment, folder: Path, **options) -> Fit:
    run = fit(experiment, folder, progress=False, **options)
    list(run)
    return run


def one_epoch(experiment: Experiment, folder: Path) -> RunFolder:
    """Leave a run after its first epoch."""
    run = fit(experiment, folder, progress=False)
    next(iter(run))
    return run.run


def timeless(value):
    """Leave out what was measured with a clock."""
    if not isinstance(value, dict):
        return value
    return {key: timeless(item) for key, item in value.items() if key not in TIMES}


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


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# killed, damaged, full


def train_alone(experiment: Experiment, folder: Path) -> multiprocessing.Process:
    """Train in a process of its own."""
    process = SERVER.Process(target=_train_alone, args=(experiment, folder))
    process.start()
    return process


def _train_alone(experiment: Experiment, folder: Path) -> None:
    torch.set_num_threads(1)
    train(experiment, folder)


def place(folder: Path) -> tuple[int, int]:
    """Return the epoch and step that a folder's last checkpoint holds."""
    try:
        saved = load_checkpoint(folder / "last.pt")
    except RunError:
        return (-1, 0)
    return saved["epoch"], saved["partial"]["step"] if saved["partial"] else 0


def test_killed_at_random_moments_it_ends_in_the_same_bits(tiny, tmp_path):
    """Dropout included; each life gets some steps further, then is killed within the next tenths of a second."""
    experiment = tiny.replace(
        model="enet",
        model_arguments={},
        epochs=max(3, KILLS // 2),
        val_every=2,
        keep_every=3,
        checkpoint_every="2 steps",
    )
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    first = train_alone(experiment, whole)
    moments = random.Random(0)
    for _ in range(KILLS):
        before, process = place(cut), train_alone(experiment, cut)
        while place(cut) == before and process.is_alive():
            time.sleep(0.01)
        process.join(moments.uniform(0, 0.4))
        process.kill()
        process.join()
    train_alone(experiment, cut).join(120)
    first.join(120)
    assert_same_run(whole, cut)


@pytest.mark.parametrize("damage", [flip, lambda path: os.truncate(path, 999), Path.unlink], ids=["bit", "cut", "gone"])
def test_without_a_whole_last_checkpoint_it_goes_on_from_the_one_before_to_the_same_bits(tiny, tmp_path, damage):
    tiny = tiny.replace(epochs=2, checkpoint_every="2 steps")
    train(tiny, tmp_path / "whole")
    folder = one_epoch(tiny, tmp_path / "cut")
    damage(folder.last)
    if folder.last.exists():
        with pytest.warns(UserWarning, match=r"last.pt cannot be read.*going on from previous.pt"):
            run = fit(tiny, folder.path, progress=False)
    else:  # as between the two renames of a save
        run = fit(tiny, folder.path, progress=False)
    list(run)
    assert_same_run(tmp_path / "whole", folder.path)


def test_where_both_checkpoints_are_damaged_nothing_is_changed(tiny, tmp_path):
    folder = one_epoch(tiny, tmp_path / "a")
    flip(folder.last), flip(folder.previous)
    before = contents(folder.path)
    with pytest.raises(RunError, match=r"last.pt cannot be read.*previous.pt cannot be read.*Nothing was changed"):
        fit(tiny, folder.path, progress=False)
    assert before == contents(folder.path)


def test_a_best_checkpoint_that_is_damaged_or_gone_is_replaced_by_the_last_and_the_record_says_so(tiny, tmp_path):
    run = fit(tiny, tmp_path / "a", progress=False)
    rows = iter(run)
    for _ in range(3):
        next(rows)
    run.run.best.unlink()
    with pytest.warns(UserWarning, match="best.pt does not exist.*the last epoch takes its place"):
        list(rows)
    assert run.run.record()["best_epoch"] == load_checkpoint(run.run.best)["epoch"] == 3


def test_a_damaged_record_is_written_anew(tiny, tmp_path):
    folder = train(tiny.replace(epochs=1), tmp_path / "a").run
    record = folder.path / "record.json"
    record.write_text(record.read_text()[:99])
    with pytest.raises(RunError, match="record.json is damaged.*train again"):
        folder.record()
    train(tiny.replace(epochs=1), folder.path)
    assert folder.finished


def test_a_full_disk_stops_the_training_and_with_room_it_goes_on_to_the_same_bits(tiny, tmp_path):
    tiny = tiny.replace(epochs=2)
    train(tiny, tmp_path / "whole")
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
    assert_same_run(tmp_path / "whole", run.run.path)


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


# may a training go on in this folder?


def test_other_settings_are_refused_and_named_those_of_the_machine_may_change(tiny, tmp_path):
    folder = one_epoch(tiny, tmp_path / "a")
    before = folder.last.read_bytes()
    for changes, options, message in (
        ({"learning_rate": 0.1}, {}, r"learning_rate: 0.01 → 0.1\).*restart=True.*run_dir"),
        ({"flip": 0, "epochs": 4}, {"extend": True}, r"flip: 0.5 → 0.0\)"),
        ({"epochs": 4}, {}, r"epochs: 3 → 4\).*extend=True \(--extend\)"),
        ({"epochs": 2}, {"extend": True}, "epochs: 3 → 2"),
    ):
        with pytest.raises(RunError, match=message):
            fit(tiny.replace(**changes), folder.path, progress=False, **options)
    assert folder.last.read_bytes() == before
    free = tiny.replace(num_workers=1, cache="ram", checkpoint_every="1 s", keep_every=50)
    assert len(fit(free, folder.path, progress=False)) == 2


class OutOfPatience(Monitor):
    """Stops the training in its first step, as lack of memory would."""

    def step(self, run: Fit, loss) -> None:
        raise KeyboardInterrupt


def test_a_run_that_has_learned_nothing_yet_is_replaced_by_one_with_other_settings(tiny, tmp_path):
    run = fit(tiny, tmp_path / "a", progress=False)
    run.monitors.members.append(OutOfPatience())
    with pytest.raises(KeyboardInterrupt):
        list(run)
    assert len(train(tiny.replace(epochs=1, crop_size=24), run.run.path).rows) == 2
    assert run.run.experiment().crop_size == 24


def test_results_without_a_checkpoint_are_kept_unless_the_run_starts_over(tiny, tmp_path):
    (tmp_path / "record.json").write_text("{}")
    (tmp_path / "mine.pt").write_bytes(b"not ours")
    with pytest.raises(RunError, match=r"holds record.json of a run but no last.pt"):
        fit(tiny, tmp_path, progress=False)
    assert (tmp_path / "record.json").read_text() == "{}"
    train(tiny.replace(epochs=1), tmp_path, restart=True)
    assert (tmp_path / "mine.pt").read_bytes() == b"not ours"


def test_a_checkpoint_for_use_alone_is_not_gone_on_from(tiny, tmp_path):
    folder = one_epoch(tiny, tmp_path / "a")
    folder.best.replace(folder.last)
    with pytest.raises(RunError, match="last.pt cannot be continued: it lacks optimizer"):
        fit(tiny, folder.path, progress=False)


def test_data_that_has_changed_is_refused(tiny, tmp_path):
    folder = one_epoch(tiny, tmp_path / "a")
    saved = load_checkpoint(folder.last)
    torch.save({**saved, "class_names": saved["class_names"][::-1]}, folder.last)
    with pytest.raises(RunError, match="trained with 21 classes.*Restore the classes"):
        fit(tiny, folder.path, progress=False)
    torch.save(saved, folder.last)
    names = tmp_path / "data/VOCdevkit/VOC2012/ImageSets/Segmentation/trainval.txt"
    names.write_text("".join(names.read_text().splitlines(keepends=True)[:4]))
    with pytest.raises(RunError, match="trained with 5 images in its train_split, and there are 4 now"):
        fit(tiny, folder.path, progress=False)


class Looker(Monitor):
    """Notes which step the last checkpoint holds after each step."""

    def __init__(self):
        self.seen = []

    def step(self, run: Fit, loss) -> None:
        self.seen.append(place(run.run.path)[1])


@pytest.mark.parametrize(
    ("every", "seen"), [("2 steps", [0, 0, 2, 2, 4]), (None, [0] * 5), ("0.001 s", [0, 1, 2, 3, 4])]
)
def test_checkpoints_within_an_epoch_come_as_often_as_asked(tiny, tmp_path, every, seen):
    run = fit(tiny.replace(epochs=1, checkpoint_every=every), tmp_path / "a", progress=False)
    run.monitors.members.append(looker := Looker())
    list(run)
    assert looker.seen == seen


def test_a_run_remembers_where_each_part_of_it_was_trained_and_how_it_updates_belongs_to_the_machine(tiny, tmp_path):
    train(tiny, tmp_path / "whole")
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
    a, b = (load_checkpoint(path / "last.pt")["model"] for path in (tmp_path / "whole", folder.path))
    assert all(torch.equal(value, b[name]) for name, value in a.items())


# one writer


def test_two_trainings_in_one_folder_are_refused(tiny, tmp_path):
    folder = RunFolder(tmp_path / "a")
    with folder.one_writer(), pytest.raises(RunError, match="being trained by another process"):
        train(tiny, folder.path)


def test_reading_processes_do_not_hold_the_lock(tiny, tmp_path):
    run = train(tiny.replace(num_workers=1), tmp_path / "a")
    with run.run.one_writer():
        pass


def test_where_there_can_be_no_lock_the_training_goes_on_without(tiny, tmp_path):
    (tmp_path / "a" / "run.lock").mkdir(parents=True)
    assert train(tiny.replace(epochs=1), tmp_path / "a").run.finished


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_trained(tiny, tmp_path):
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
    with pytest.raises(RunError, match="holds no history.csv"):
        RunFolder(tmp_path).history()
    with pytest.raises(RunError, match="holds no record.json"):
        RunFolder(tmp_path).record()
    with pytest.raises(RunError, match="nowhere.pt does not exist.*nnti train"):
        load_checkpoint(tmp_path / "nowhere.pt")


def test_an_evaluation_says_what_was_measured_on_what(tiny, tmp_path):
    run = train(tiny.replace(epochs=1, protocol="full"), tmp_path / "a")
    model, checkpoint = load_model(run.run.path)
    result = evaluate(model, run.experiment, run.val_data, progress=False)
    path = write_evaluation(tmp_path / "new" / "x.json", run.run, checkpoint, run.device, run.val_data, [result])
    written = json.loads(path.read_text(encoding="utf-8"))
    assert (written["run"], written["epoch"], written["precision"], written["split"]) == ("a", 1, "float32", "val")
    assert written["validation"]["full"] == json.loads(json.dumps(run.run.record()["validation"]["full"]))
    assert None in written["validation"]["full"]["iou_per_class"]  # a class that does not occur; JSON has no NaN


def test_an_analysis_is_written_with_each_list_on_a_line(tmp_path):
    assert RunFolder(tmp_path).analysis() is None
    RunFolder(tmp_path).write_analysis({"matrix": np.eye(3, dtype=int)})
    assert RunFolder(tmp_path).analysis() == {"matrix": np.eye(3).tolist()}
    assert "[ 1, 0, 0 ]" in (tmp_path / "analysis.json").read_text()


def test_weights_that_are_not_those_described_are_named(tmp_path):
    experiment = Experiment(model="r2unet", model_arguments={"widths": [4, 6]}).to_dict()
    checkpoint = {"experiment": experiment, "class_names": ["a", "b", "c"]}
    weights = build_model("r2unet", 3, experiment["model_arguments"]).state_dict()
    renamed = {name.replace("head.bias", "head.shift"): value for name, value in weights.items()}
    for model, classes, message in (
        (weights, ["a", "b"], r"x.pt: the weights are not those of R2UNet.*\(3,\), not \(2,\)"),
        (renamed, ["a", "b", "c"], "head.bias is missing; head.shift is not known"),
    ):
        torch.save({**checkpoint, "model": model, "class_names": classes}, tmp_path / "x.pt")
        with pytest.raises(RunError, match=message):
            load_model(tmp_path / "x.pt")
    torch.save(weights, tmp_path / "weights.pt")
    with pytest.raises(RunError, match="weights.pt is not a checkpoint of this project: it lacks experiment"):
        load_model(tmp_path / "weights.pt")
