"""The decoded copy: the files' pixels, made once, made again when they change, safe against kills and full disks."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from layouts import draw_image, save_image, write_camvid
from torch.utils.data import DataLoader

from nnti.data import CamVid, DataError, attach_cache, cache, class_frequencies

BUILD = """
import pathlib, sys, time
from nnti.data import CamVid, attach_cache
dataset = CamVid("train", sys.argv[1])
read = dataset.read
def read_when_told(index):
    print("reads\\n", end="")
    while not pathlib.Path(sys.argv[2]).exists():
        time.sleep(0.01)
    return read(index)
dataset.read = read_when_told
attach_cache(dataset, "disk", progress=False)
print("sum", int(dataset[0][0].sum()))
"""


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A CamVid of three training images of different sizes; the cache's folder beside it does not exist yet."""
    monkeypatch.setenv("NNTI_CACHE", str(tmp_path / "cache"))
    return write_camvid(tmp_path / "camvid")


def copies(root):
    return sorted((root.parent / "cache").glob("*"))


def agrees_with_files(dataset):
    pairs = [(dataset[at], dataset.read(at)) for at in range(len(dataset))]
    return all(torch.equal(kept, read) for pair in pairs for kept, read in zip(*pair, strict=True))


def build_when_told(root):
    """Start a process that makes the copy, but reads no image before the file `go` is there."""
    command = [sys.executable, "-u", "-c", BUILD, str(root), str(root / "go")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "reads\n"
    return process


@pytest.mark.parametrize("mode", ["disk", "ram"])
def test_holds_what_the_files_hold(root, mode):
    dataset = CamVid("train", root)
    assert attach_cache(dataset, mode, progress=False) == mode == dataset.cache
    assert agrees_with_files(dataset) and len(copies(root)) == (mode == "disk")


def test_a_second_use_reads_no_image_and_no_label(root):
    first, second = CamVid("train", root), CamVid("train", root)
    attach_cache(first, "disk", progress=False)
    counted = class_frequencies(CamVid("train", root), progress=False)
    second.read = second.read_label = None
    assert attach_cache(second, "auto", progress=False) == "disk"
    assert np.array_equal(class_frequencies(second, progress=False), counted) and second[2][0].shape[0] == 3


def test_splits_and_parts_of_splits_have_copies_of_their_own(root):
    part = CamVid("train", root)
    part.files = part.files[1:]
    for dataset in (CamVid("train", root), CamVid("val", root), part):
        attach_cache(dataset, "disk", progress=False)
        assert agrees_with_files(dataset)
    assert len(copies(root)) == 3


def test_none_and_build_false_leave_the_files_in_use(root):
    dataset = CamVid("train", root)
    assert attach_cache(dataset, "none") == attach_cache(dataset, "auto", build=False) == "none"
    assert dataset.decoded is None and copies(root) == []


@pytest.mark.parametrize("change", ["image", "label", "time"])
def test_changed_files_make_a_new_copy_in_place_of_the_old_one(root, change):
    attach_cache(CamVid("train", root), "disk", progress=False)
    dataset = CamVid("train", root)
    image, label = dataset.files[1]
    if change == "image":
        save_image(image, draw_image("another", dataset.read(1)[1].shape))
    elif change == "label":
        save_image(label, np.full(dataset.read(1)[1].shape, 7, dtype=np.uint8))
    else:
        os.utime(label, ns=(1, 1))
    stale = copies(root)[0].stat().st_ino
    attach_cache(dataset, "disk", progress=False)
    assert agrees_with_files(dataset)
    assert [path.stat().st_ino != stale for path in copies(root)] == [True]


@pytest.mark.parametrize("damage", ["pixels missing", "end cut off", "empty", "text"])
def test_a_damaged_copy_is_made_again(root, damage):
    attach_cache(CamVid("train", root), "disk", progress=False)
    path = copies(root)[0]
    content = path.read_bytes()
    kept = {"pixels missing": content[100:], "end cut off": content[:-5], "empty": b"", "text": b"x" * 99}
    path.write_bytes(kept[damage])
    dataset = CamVid("train", root)
    attach_cache(dataset, "disk", progress=False)
    assert agrees_with_files(dataset) and path.read_bytes() == content


def test_a_kill_half_way_leaves_nothing_in_use_and_is_cleared_away_later(root):
    process = build_when_told(root)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (part,) = copies(root)
    assert part.suffix == ".part"
    os.utime(part, (1, 1))  # long ago
    dataset = CamVid("train", root)
    assert attach_cache(dataset, "disk", progress=False) == "disk"
    assert agrees_with_files(dataset) and [path.suffix for path in copies(root)] == [".decoded"]


def test_two_processes_at_once_end_with_one_whole_copy(root):
    processes = [build_when_told(root) for _ in range(2)]
    (root / "go").touch()
    total = f"sum {int(CamVid('train', root).read(0)[0].sum())}\n"
    assert all(process.communicate(timeout=60)[0].endswith(total) for process in processes)
    dataset = CamVid("train", root)
    assert attach_cache(dataset, "disk", build=False) == "disk" and agrees_with_files(dataset)
    assert len(copies(root)) == 1


def test_no_room_on_the_disk(root):
    """A limit on the size of files stands for the full disk: both make `write` fail."""
    script = """
import resource, sys
from nnti.data import CamVid, DataError, attach_cache
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))
dataset = CamVid("train", sys.argv[1])
print(attach_cache(dataset, "auto", progress=False), dataset[0][0].shape[0])
try:
    attach_cache(dataset, "disk", progress=False)
except DataError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script, str(root)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("none 3\n")
    assert "going on without" in done.stderr
    assert "NNTI_CACHE" in done.stdout and "cache='none'" in done.stdout
    assert copies(root) == []


@pytest.mark.parametrize(
    "disk, memory, expected", [(10**9, 0, "disk"), (10**4, 10**9, "ram"), (10**4, 10**4, "none"), (0, 0, "none")]
)
def test_auto_goes_by_what_is_free(root, monkeypatch, capsys, disk, memory, expected):
    monkeypatch.setattr(cache, "free_disk", lambda folder: disk)
    monkeypatch.setattr(cache, "free_memory", lambda: memory)
    assert attach_cache(CamVid("train", root), "auto") == expected
    assert f"cache '{expected}'" in capsys.readouterr().out


def test_the_machine_says_what_is_free(tmp_path):
    assert cache.free_disk(tmp_path / "not" / "there") > 0
    assert sys.platform != "linux" or cache.free_memory() > 0


def test_writing_to_a_sample_changes_no_file(root):
    dataset = CamVid("train", root)
    attach_cache(dataset, "disk", progress=False)
    before = copies(root)[0].read_bytes()
    dataset[0][0].zero_()
    assert copies(root)[0].read_bytes() == before


@pytest.mark.parametrize("mode, start", [("disk", "fork"), ("ram", "spawn")])
def test_workers_share_the_copy(root, mode, start):
    dataset = CamVid("train", root)
    attach_cache(dataset, mode, progress=False)
    loader = DataLoader(dataset, batch_size=None, num_workers=1, multiprocessing_context=start)
    for at, (image, label) in enumerate(loader):
        assert torch.equal(image, dataset.read(at)[0]) and torch.equal(label, dataset.read(at)[1])


def test_what_cannot_be_done_is_named(root):
    dataset = CamVid("train", root)
    dataset.files[1][1].unlink()
    with pytest.raises(DataError, match=dataset.files[1][1].name):
        attach_cache(dataset, "disk", progress=False)
    with pytest.raises(DataError, match="did you mean 'disk'"):
        attach_cache(dataset, "disc")
