"""Time variants of one thing against each other in one run.

A shared machine is now fast, now slow: only what ran in the same minutes can be compared. Variants therefore take turns
in short blocks, and every figure that is quoted is a ratio of medians within one run.
"""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

__all__ = ["Timing", "compare"]


@dataclass(frozen=True)
class Timing:
    """Seconds per call of one variant: `median` and quartiles `low` and `high` over `blocks` alternating blocks."""

    median: float
    low: float
    high: float
    blocks: int

    @property
    def per_second(self) -> float:
        """Calls per second."""
        return 1 / self.median


def compare(
    variants: Mapping[str, Callable[[], object]],
    *,
    blocks: int = 7,
    block_seconds: float = 0.3,
    limit: float = 60.0,
    warmup: int = 1,
) -> dict[str, Timing]:
    """Call each variant in turn, `blocks` times round, as often in each block as fits into `block_seconds`.

    Args:
        variants: name → function without arguments; it must have finished its work when it returns.
        blocks: rounds; each gives one number per variant, the mean of that block.
        block_seconds: aim for the length of a block; a call that takes longer is a block of its own.
        limit: seconds after which no further round begins; three rounds are made in any case.
        warmup: untimed calls of each variant before the first round.
    """
    calls = {}
    for name, function in variants.items():
        for _ in range(max(1, warmup)):
            seconds = _seconds(function, 1)
        calls[name] = max(1, min(10_000, round(block_seconds / max(seconds, 1e-7))))
    measured: dict[str, list[float]] = {name: [] for name in variants}
    started = time.perf_counter()
    for done in range(blocks):
        if done >= 3 and time.perf_counter() - started > limit:
            break
        for name, function in variants.items():
            measured[name].append(_seconds(function, calls[name]) / calls[name])
    return {name: _timing(seconds) for name, seconds in measured.items()}


def _seconds(function: Callable[[], object], calls: int) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        function()
    return time.perf_counter() - started


def _timing(seconds: list[float]) -> Timing:
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return Timing(median, low, high, len(seconds))
