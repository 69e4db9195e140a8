"""Disks in user space and on the network, such as Google Drive's, may know few calls: a run is kept on them as well."""

import errno
import fcntl
import os
import shutil

import layouts
import pytest

from nnti.errors import RunError
from nnti.experiment import Experiment
from nnti.folders import one_writer, write_whole
from nnti.training.loop import fit
from nnti.training.run_folder import Checkpoints


def _unknown(number: int):
    def call(*arguments, **options):
        raise OSError(number, os.strerror(number))

    return call


@pytest.mark.parametrize("left", [False, True], ids=["no file", "a file of an earlier machine"])
@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOLCK])
def test_without_locks_a_training_goes_on_without_its_guard(tmp_path, monkeypatch, number, left):
    monkeypatch.setattr(fcntl, "flock", _unknown(number))
    if left:
        (tmp_path / "run.lock").write_text("4711\nanother machine\n")
    for _ in range(2):
        with one_writer(tmp_path):
            pass
    with one_writer(tmp_path):  # what the machine leaves if it goes away now
        shutil.copytree(tmp_path, tmp_path / "later")
    with one_writer(tmp_path / "later"):
        pass


def test_a_training_on_a_disk_without_locks_links_permissions_and_flushing(tmp_path, monkeypatch):
    layouts.write_camvid(tmp_path / "data" / "camvid")
    monkeypatch.setenv("NNTI_DATA", str(tmp_path / "data"))
    experiment = Experiment(
        name="tiny", dataset="camvid", batch_size=2, epochs=2, val_every=1, base_size=64, crop_size=48, val_size=32,
        precision="float32", device="cpu", num_workers=0, cache="none",
    )  # fmt: skip
    monkeypatch.setattr(fcntl, "flock", _unknown(errno.ENOSYS))
    monkeypatch.setattr(os, "link", _unknown(errno.EPERM))
    monkeypatch.setattr(shutil, "copymode", _unknown(errno.EPERM))
    monkeypatch.setattr(os, "fsync", _unknown(errno.EINVAL))
    assert [row["epoch"] for row in fit(experiment, tmp_path / "run", progress=False)] == [1, 2]
    assert {"last.pt", "previous.pt", "best.pt", "record.json"} <= set(os.listdir(tmp_path / "run"))


def test_a_failing_disk_is_not_taken_for_one_that_knows_no_flushing(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", _unknown(errno.EIO))
    with pytest.raises(RunError, match="cannot be written"):
        write_whole(tmp_path / "x", lambda file: file.write(b"x"))


def test_a_disk_may_change_a_files_time_later(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_last({"x": 1})
    os.utime(tmp_path / "last.pt", (0, 0))
    checkpoints.save_last({"x": 2})
    Checkpoints(tmp_path).save(tmp_path / "last.pt", {"x": 3})
    with pytest.raises(RunError, match="written by another training"):
        checkpoints.save_last({"x": 4})
