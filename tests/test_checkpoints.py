"""Checkpoints that are damaged, foreign or cannot be written."""

import os
import pickle
import resource
import stat
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from layouts import write_voc

from nnti.errors import RunError
from nnti.experiment import Experiment
from nnti.folders import write_whole
from nnti.models import build_model
from nnti.models.saved import load_checkpoint, load_model
from nnti.training.loop import fit
from nnti.training.run_folder import Checkpoints, RunFolder


@pytest.fixture
def tiny(tmp_path, monkeypatch) -> Experiment:
    """Two epochs of two steps."""
    write_voc(tmp_path / "data")
    for name in ("data", "runs", "cache"):
        monkeypatch.setenv(f"NNTI_{name.upper()}", str(tmp_path / name))
    return Experiment(
        name="tiny", train_split="trainval", batch_size=2, epochs=2, val_every=1, base_size=64, crop_size=48,
        val_size=32, precision="float32", device="cpu", checkpoint_every="1 step", cache="none",
    )  # fmt: skip


@pytest.fixture
def checkpoint() -> dict:
    """A whole checkpoint of an untrained ENet."""
    torch.manual_seed(0)
    experiment = Experiment(name="x", model="enet")
    return {
        "experiment": experiment.to_dict(), "class_names": ["road", "sky", "car"], "palette": [[0, 0, 0]] * 3,
        "class_weights": None, "epoch": 1, "scores": {}, "model": build_model("enet", 3).state_dict(),
    }  # fmt: skip


def same(one: dict, other: dict) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


def flip(path: Path, at: int, bit: int = 0) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.write_bytes(data)


def inside(path: Path) -> int:
    """Return a place within the largest tensor of a checkpoint; between tensors lies padding, which means nothing."""
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=lambda entry: entry.file_size)
    return largest.header_offset + largest.file_size // 2 + 256  # behind its header and the padding


# damage


def test_a_flipped_bit_anywhere_is_found_or_harmless(tmp_path, checkpoint):
    """Weights, names, numbers: no flip may lead to other contents; what lies between the members has no meaning."""
    path = tmp_path / "x.pt"
    torch.save(checkpoint, path)
    whole, random, found = path.read_bytes(), np.random.default_rng(0), 0
    places = [
        *random.integers(0, len(whole), 60),
        *random.integers(len(whole) - 20_000, len(whole), 20),
        *range(0, 60, 7),
    ]
    for at in places:
        path.write_bytes(whole)
        flip(path, int(at), int(at) % 8)
        try:
            read = load_checkpoint(path)
        except RunError:
            found += 1
            continue
        assert same(checkpoint["model"], read["model"])
        assert {**read, "model": None} == {**checkpoint, "model": None}
    assert found > len(places) / 2


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.99, 0.9999])
def test_a_cut_off_checkpoint_is_named(tmp_path, checkpoint, share):
    path = tmp_path / "cut.pt"
    torch.save(checkpoint, path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(RunError, match="cut.pt cannot be read as a checkpoint: it is damaged or none"):
        load_checkpoint(path)


@pytest.mark.parametrize("damage", [lambda path: flip(path, inside(path)), lambda path: os.truncate(path, 999)])
def test_training_goes_on_from_the_one_before_to_the_same_bits(tiny, tmp_path, damage):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    list(fit(tiny, whole, progress=False))
    for _ in fit(tiny, cut, progress=False):
        break
    damage(cut / "last.pt")
    with pytest.warns(UserWarning, match=r"last.pt cannot be read.*going on from previous.pt"):
        run = fit(tiny, cut, progress=False)
    list(run)
    assert (cut / "last.damaged.pt").exists()
    assert same(*(load_checkpoint(folder / "last.pt")["model"] for folder in (whole, cut)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(fit(tiny, cut, progress=False)) == 0


def test_where_both_are_damaged_nothing_is_changed(tiny, tmp_path):
    for _ in fit(tiny, tmp_path / "a", progress=False):
        break
    for name in ("last.pt", "previous.pt"):
        flip(tmp_path / "a" / name, inside(tmp_path / "a" / name))
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    with pytest.raises(RunError, match=r"last.pt cannot be read.*previous.pt cannot be read.*Nothing was changed"):
        fit(tiny, tmp_path / "a", progress=False)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert len(list(fit(tiny, tmp_path / "a", restart=True, progress=False))) == 2


def test_a_damaged_best_checkpoint_is_replaced_by_the_kept_one(tiny, tmp_path):
    tiny = tiny.replace(keep_every=1)
    list(fit(tiny, tmp_path / "whole", progress=False))
    run = fit(tiny, tmp_path / "a", progress=False)
    rows = iter(run)
    next(rows), next(rows)
    flip(run.run.best, inside(run.run.best))
    list(rows)
    assert same(*(load_checkpoint(tmp_path / name / "best.pt")["model"] for name in ("whole", "a")))
    assert run.run.record()["best_epoch"] == RunFolder(tmp_path / "whole").record()["best_epoch"]


def test_without_any_best_checkpoint_the_last_is_measured_and_the_record_says_so(tiny, tmp_path):
    run = fit(tiny, tmp_path / "a", progress=False)
    rows = iter(run)
    next(rows), next(rows)
    run.run.best.unlink()
    with pytest.warns(UserWarning, match="best.pt is damaged or not of the best epoch"):
        list(rows)
    assert run.run.record()["best_epoch"] == load_checkpoint(run.run.best)["epoch"] == 2


def test_a_damaged_record_is_written_anew(tiny, tmp_path):
    list(fit(tiny, tmp_path / "a", progress=False))
    record = tmp_path / "a" / "record.json"
    whole = record.read_text()
    record.write_text(whole[: len(whole) // 2])
    with pytest.raises(RunError, match="record.json is damaged.*train again"):
        RunFolder(tmp_path / "a").record()
    assert list(fit(tiny, tmp_path / "a", progress=False)) == []
    assert RunFolder(tmp_path / "a").record()["finished"]


# foreign checkpoints


def test_a_checkpoint_without_a_state_to_go_on_from_is_refused(tiny, tmp_path):
    list(fit(tiny, tmp_path / "a", progress=False))
    (tmp_path / "a" / "best.pt").replace(tmp_path / "a" / "last.pt")
    with pytest.raises(RunError, match="last.pt cannot be gone on from: it lacks optimizer.*older version"):
        fit(tiny, tmp_path / "a", progress=False)


class Evil:
    def __reduce__(self):
        return os.system, (f"touch {Evil.mark}",)


def test_a_checkpoint_cannot_run_code(tmp_path, checkpoint):
    Evil.mark = tmp_path / "it_ran"
    torch.save({**checkpoint, "scores": Evil()}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Evil()))
    for name in ("evil.pt", "plain.pt"):
        with pytest.raises(RunError, match=f"{name} cannot be read"):
            load_model(tmp_path / name)
    assert not Evil.mark.exists()


def test_what_is_no_checkpoint_of_ours_is_told_what_lacks(tmp_path, checkpoint):
    torch.save(checkpoint["model"], tmp_path / "weights.pt")
    with pytest.raises(
        RunError, match=r"weights.pt is no checkpoint of this project: it lacks experiment.*build_model"
    ):
        load_model(tmp_path / "weights.pt")
    with zipfile.ZipFile(tmp_path / "archive.pt", "w") as archive:
        archive.writestr("a.txt", "hello")
    with pytest.raises(RunError, match="archive.pt cannot be read"):
        load_model(tmp_path / "archive.pt")


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod."])
def test_the_prefix_of_a_wrapper_is_named_with_the_way_to_take_it_off(tmp_path, checkpoint, wrapper):
    checkpoint["model"] = {f"{wrapper}{name}": value for name, value in checkpoint["model"].items()}
    torch.save(checkpoint, tmp_path / "wrapped.pt")
    with pytest.raises(RunError, match=rf"wrapped.pt: all names.*'{wrapper}'.*removeprefix") as raised:
        load_model(tmp_path / "wrapped.pt")
    assert f"removeprefix('{wrapper}')" in str(raised.value)


def test_another_number_of_classes_is_named(tmp_path, checkpoint):
    torch.save({**checkpoint, "class_names": ["road", "sky"]}, tmp_path / "x.pt")
    with pytest.raises(RunError, match=r"(?s)x.pt: .*\(.*3.*\), not \(.*2.*\).*number of classes"):
        load_model(tmp_path / "x.pt")


def test_weights_of_another_network_are_named(tmp_path, checkpoint):
    name = next(iter(checkpoint["model"]))
    checkpoint["model"]["extra.weight"] = checkpoint["model"].pop(name)
    torch.save(checkpoint, tmp_path / "x.pt")
    with pytest.raises(RunError, match=f"missing: {name}; not known: extra.weight"):
        load_model(tmp_path / "x.pt")


# writing


@pytest.fixture
def file_size_limit():
    """Let no file grow beyond so many bytes, as a full disk does; None takes the limit away."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(size: int | None) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (before[0] if size is None else size, before[1]))

    yield limit
    limit(None)


def test_a_full_disk_stops_the_training_and_with_room_it_goes_on_to_the_same_bits(tiny, tmp_path, file_size_limit):
    list(fit(tiny, tmp_path / "whole", progress=False))
    run = fit(tiny, tmp_path / "a", progress=False)
    rows = iter(run)
    next(rows)
    before = {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    file_size_limit(500_000)
    with pytest.raises(RunError, match=r"last.pt cannot be written \(File too large\).*intact: make room.*MB are free"):
        next(rows)
    file_size_limit(None)
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()}
    assert [row["epoch"] for row in fit(tiny, tmp_path / "a", progress=False)] == [2]
    assert same(*(load_checkpoint(tmp_path / name / "last.pt")["model"] for name in ("whole", "a")))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may mount a small disk")
def test_a_really_full_disk(tiny, tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.system(f"mount -t tmpfs -o size=14m none '{disk}' 2>/dev/null"):
        pytest.skip("this machine does not let root mount anything")
    try:
        run = fit(tiny, disk / "a", progress=False)
        rows = iter(run)
        next(rows)
        filler = disk / "filler"
        with pytest.raises(OSError, match="No space"), open(filler, "wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))
        before = (disk / "a" / "last.pt").read_bytes()
        with pytest.raises(RunError, match="No space left on device.*make room"):
            next(rows)
        assert (disk / "a" / "last.pt").read_bytes() == before
        filler.unlink()
        assert [row["epoch"] for row in fit(tiny, disk / "a", progress=False)] == [2]
    finally:
        os.system(f"umount '{disk}'")


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path, previous = tmp_path / "x", tmp_path / "y"
    write_whole(path, lambda file: file.write(b"one"), previous)
    write_whole(path, lambda file: file.write(b"two"), previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"two", b"one")

    def broken(file):
        file.write(b"thr")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_whole(path, broken, previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"two", b"one")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["x", "y"]


def test_disks_without_hard_links_keep_the_previous_file_as_well(tmp_path, monkeypatch):
    def refuse(*paths):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", refuse)
    path, previous = tmp_path / "x", tmp_path / "y"
    for text in (b"one", b"two"):
        write_whole(path, lambda file, text=text: file.write(text), previous)
    assert (path.read_bytes(), previous.read_bytes()) == (b"two", b"one")


def test_between_two_names_the_previous_file_is_gone_on_from(tmp_path, checkpoint):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_last(checkpoint)
    (tmp_path / "last.pt").rename(tmp_path / "previous.pt")
    assert same(Checkpoints(tmp_path).load_last()["model"], checkpoint["model"])


def test_permissions_stay_and_new_files_follow_the_mask(tmp_path):
    path = tmp_path / "x"
    before = os.umask(0o027)
    try:
        write_whole(path, lambda file: file.write(b"one"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o664)
        write_whole(path, lambda file: file.write(b"two"))
        assert stat.S_IMODE(path.stat().st_mode) == 0o664
    finally:
        os.umask(before)


def test_a_folder_that_cannot_be_written_is_named_before_anything_is_trained(tiny, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot be written.*make it writable"):
        list(fit(tiny, tmp_path / "file" / "run", progress=False))
