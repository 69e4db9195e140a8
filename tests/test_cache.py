"""The decoded copy: the files' pixels, made once, made again when they change, safe against kills and full disks."""

import multiprocessing
import os
import pickle
import signal
import sys

import numpy as np
import pytest
import torch
from layouts import draw_image, save_image, write_camvid
from torch.utils.data import DataLoader

from nnti.data import CamVid, DataError, attach_cache, cache, class_frequencies

resource = pytest.importorskip("resource", reason="Windows has neither limits nor forked processes")
linux = pytest.mark.skipif(sys.platform != "linux", reason="needs memory files, which are Linux's")
FORK = multiprocessing.get_context("fork")  # a process that has torch loaded already


@pytest.fixture
def root(tmp_path, monkeypatch):
    """A CamVid of three training images of different sizes; the cache's folder beside it does not exist yet."""
    monkeypatch.setenv("NNTI_CACHE", str(tmp_path / "cache"))
    return write_camvid(tmp_path / "camvid")


def cached(root, mode="disk"):
    dataset = CamVid("train", root)
    assert attach_cache(dataset, mode, progress=False) == mode == dataset.cache
    return dataset


def copies(root):
    return sorted((root.parent / "cache").glob("*"))


def agrees_with_files(dataset):
    pairs = [(dataset[at], dataset.read(at)) for at in range(len(dataset))]
    return all(torch.equal(kept, read) for pair in pairs for kept, read in zip(*pair, strict=True))


@pytest.mark.parametrize("mode", ["disk", pytest.param("ram", marks=linux)])
def test_holds_what_the_files_hold_also_in_workers_and_other_processes(root, mode):
    dataset = cached(root, mode)
    assert agrees_with_files(dataset) and len(copies(root)) == (mode == "disk")
    assert agrees_with_files(pickle.loads(pickle.dumps(dataset)))  # how a worker that is not forked gets it
    for at, (image, label) in enumerate(DataLoader(dataset, batch_size=None, num_workers=1)):
        assert torch.equal(image, dataset.read(at)[0]) and torch.equal(label, dataset.read(at)[1])
    dataset[0][0].zero_()  # changes this process's view and no file
    assert mode == "ram" or agrees_with_files(cached(root))


def test_a_second_use_reads_no_image_and_no_label(root):
    cached(root)
    counted = class_frequencies(CamVid("train", root), progress=False)  # of the files
    second = CamVid("train", root)
    second.read = second.read_label = None
    assert attach_cache(second, "auto", progress=False) == "disk"
    assert second[2][0].shape[0] == 3
    second.label = None  # the copy has the numbers of pixels too
    assert np.array_equal(class_frequencies(second, progress=False), counted)


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
    assert copies(root) == []


@pytest.mark.parametrize("change", ["image", "label", "time"])
def test_changed_files_make_a_new_copy_in_place_of_the_old_one(root, change):
    dataset = cached(root)
    image, label = dataset.files[1]
    if change == "image":
        save_image(image, draw_image("another", dataset.read(1)[1].shape))
    elif change == "label":
        save_image(label, np.full(dataset.read(1)[1].shape, 7, dtype=np.uint8))
    else:
        os.utime(label, ns=(1, 1))
    stale = copies(root)[0].stat().st_ino
    assert agrees_with_files(cached(root))
    assert [path.stat().st_ino != stale for path in copies(root)] == [True]


def test_a_damaged_copy_is_made_again(root):
    cached(root)
    (path,) = copies(root)
    content = path.read_bytes()
    for damaged in (content[100:], content[:-5], b""):
        path.write_bytes(damaged)
        assert agrees_with_files(cached(root)) and path.read_bytes() == content


def build(root, reads, go):
    """Make the copy in another process: it tells when it reads an image, and goes on when it is told to."""
    dataset = CamVid("train", root)
    read = dataset.read

    def read_when_told(index):
        reads.set()
        assert go.wait(60)
        return read(index)

    dataset.read = read_when_told
    attach_cache(dataset, "disk", progress=False)


def test_a_kill_half_way_leaves_nothing_in_use_and_is_cleared_away_later(root):
    reads, go = FORK.Event(), FORK.Event()
    process = FORK.Process(target=build, args=(root, reads, go))
    process.start()
    assert reads.wait(60)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    (part,) = copies(root)
    assert part.suffix == ".part"
    os.utime(part, (1, 1))  # long ago
    assert agrees_with_files(cached(root)) and [path.suffix for path in copies(root)] == [".decoded"]


def test_two_processes_at_once_end_with_one_whole_copy(root):
    reads, go = [FORK.Event(), FORK.Event()], FORK.Event()
    processes = [FORK.Process(target=build, args=(root, event, go)) for event in reads]
    for process, event in zip(processes, reads, strict=True):
        process.start()
        assert event.wait(60)
    go.set()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    dataset = CamVid("train", root)
    assert attach_cache(dataset, "disk", build=False) == "disk" and agrees_with_files(dataset)
    assert len(copies(root)) == 1


def test_a_full_disk_is_gone_without_or_named(root):
    """A limit on the size of files stands for the full disk: both make `write` fail."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, limits[1]))
    try:
        with pytest.warns(UserWarning, match="going on without"):
            assert attach_cache(CamVid("train", root), "auto", progress=False) == "none"
        with pytest.raises(DataError, match="NNTI_CACHE.*cache='none'"):
            attach_cache(CamVid("train", root), "disk", progress=False)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert copies(root) == []


@linux
@pytest.mark.parametrize(
    "disk, memory, expected", [(10**9, 0, "disk"), (10**4, 10**9, "ram"), (10**4, 10**4, "none"), (0, 0, "none")]
)
def test_auto_goes_by_what_is_free(root, monkeypatch, capsys, disk, memory, expected):
    assert cache.free_disk(root / "not" / "there") > 0 and cache.free_memory() > 0
    monkeypatch.setattr(cache, "free_disk", lambda folder: disk)
    monkeypatch.setattr(cache, "free_memory", lambda: memory)
    assert attach_cache(CamVid("train", root), "auto") == expected
    assert f"cache '{expected}'" in capsys.readouterr().out
