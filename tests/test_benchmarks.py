"""The benchmarks' own machinery, and that pages show what was measured. Speed itself is not tested."""

import importlib

import pytest

from benchmarks import page, quality
from benchmarks.results import load, save
from benchmarks.run import BENCHMARKS
from nnti.folders import home
from nnti.inference.speed import compare

MACHINES = sorted(path.parent / path.stem for path in (home() / "benchmarks" / "results").glob("*.md"))


def test_variants_take_turns_for_three_rounds_at_least():
    called = []
    variants = {name: lambda name=name: called.append(name) for name in "ab"}
    timings = compare(variants, blocks=50, block_seconds=0, limit=0)
    assert "".join(called) == "ab" + "ab" * 3
    assert all(timing.blocks == 3 and 0 < timing.low <= timing.median <= timing.high for timing in timings.values())


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_can_be_imported(name):
    if name == "pipeline":
        pytest.importorskip("albumentations")
    assert callable(importlib.import_module(f"benchmarks.{name}").measure)


def test_committed_pages_are_what_their_results_and_records_say(tmp_path):
    assert MACHINES
    for folder in MACHINES:
        for path in folder.glob("*.json"):
            save(load(path), tmp_path / folder.name / path.name)
        assert page.write(tmp_path / folder.name).read_text() == folder.with_suffix(".md").read_text()
    table, goal = quality.quality()
    assert {row["seed"] for row in table.rows} == {0, 1, 2} and goal.reached > 0
