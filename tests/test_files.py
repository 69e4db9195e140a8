"""The list of a split's files: like a list of path pairs, at the memory of the names."""

import gc
import os
import pickle
import tracemalloc
from pathlib import Path

import layouts
import pytest

from nnti.data import VOC
from nnti.data.base import FilePairs

PAIRS = [
    (Path("/data/My Drive/aachen/b.png"), Path("/labels/aachen/b_labelIds.png")),
    (Path("/data/My Drive/köln/a long name.jpg"), Path("/labels/köln/ä.png")),
    (Path("relative/x.png"), Path("x.png")),
    (Path(os.fsdecode(b"/data/not-utf8-\xff.png")), Path("/data/b.png")),
]


def test_it_is_the_list_that_it_was_made_from():
    files = FilePairs(iter(PAIRS))
    assert len(files) == len(PAIRS) and list(files) == PAIRS and list(reversed(files)) == PAIRS[::-1]
    assert files[-1] == PAIRS[-1] and all(isinstance(path, Path) for pair in files for path in pair)
    assert list(files[1:]) == PAIRS[1:] and list(files[::-2]) == PAIRS[::-2] and PAIRS[2] in files
    with pytest.raises(IndexError):
        files[len(PAIRS)]


def test_paths_may_be_text():
    assert list(FilePairs((str(image), str(label)) for image, label in PAIRS)) == PAIRS


def test_other_processes_get_the_same_list():
    assert list(pickle.loads(pickle.dumps(FilePairs(PAIRS)))) == PAIRS


def test_an_empty_list_is_false_and_can_be_printed():
    assert not FilePairs([]) and list(FilePairs([])) == [] and "0 pairs" in repr(FilePairs([]))
    assert repr(FilePairs(PAIRS)).startswith("4 pairs of files") and "b_labelIds.png" in repr(FilePairs(PAIRS))


def test_it_takes_little_more_memory_than_the_names():
    folders = [(f"/data/cityscapes/image/city{city}", f"/data/cityscapes/label/city{city}") for city in range(20)]
    names = [f"city_{number:06}_000019.png" for number in range(200)]
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        files = FilePairs((f"{image}/{name}", f"{label}/{name}_id") for image, label in folders for name in names)
        gc.collect()  # Python keeps the room of some tuples for the next ones
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert taken < 1.4 * sum(len(path.name) for pair in files for path in pair)


def test_a_part_of_a_split_can_be_assigned(tmp_path):
    dataset = VOC("train", layouts.write_voc(tmp_path))
    kept = [dataset.files[at] for at in (2, 0)]
    dataset.files = kept
    assert list(dataset.files) == kept and len(dataset) == 2
    assert tuple(dataset[0][1].shape) == layouts.size_of(layouts.VOC_TRAIN[2])
