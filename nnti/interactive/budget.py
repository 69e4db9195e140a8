"""Work that may take a small share of the time only."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["Budget"]


class Budget:
    """Says when work that is not needed may be done, so that all of it together takes at most `share` of the time.

    Args:
        share: of the seconds since this was made.
        clock: seconds, rising.

    Attributes: `spent`, seconds; `costs`, those of each work's last time.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.perf_counter):
        self._most, self._clock, self._began = share, clock, clock()
        self.spent, self.costs = 0.0, {}

    @property
    def share(self) -> float:
        """What was spent, of the seconds since this was made."""
        return self.spent / (self._clock() - self._began)

    def allows(self, work: str) -> bool:
        """Whether `work` would stay within the share, if it costs what it did last time."""
        return self.spent + self.costs.get(work, 0.0) <= self._most * (self._clock() - self._began)

    @contextmanager
    def spending(self, work: str) -> Iterator[None]:
        """Count what `work` takes."""
        began = self._clock()
        try:
            yield
        finally:
            self.costs[work] = self._clock() - began
            self.spent += self.costs[work]
