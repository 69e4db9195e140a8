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

    Attribute: `spent`, seconds.
    """

    def __init__(self, share: float, clock: Callable[[], float] = time.perf_counter):
        self._share, self._clock, self._began = share, clock, clock()
        self.spent, self._costs = 0.0, {}

    def allows(self, work: str) -> bool:
        """Whether `work` would stay within the share, if it costs what it did last time."""
        return self.spent + self._costs.get(work, 0.0) <= self._share * (self._clock() - self._began)

    @contextmanager
    def spending(self, work: str) -> Iterator[None]:
        """Count what `work` takes."""
        began = self._clock()
        try:
            yield
        finally:
            self._costs[work] = self._clock() - began
            self.spent += self._costs[work]
