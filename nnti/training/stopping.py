"""Stopping a run on purpose: Ctrl-C, a notebook's interrupt and SIGTERM take effect after the current step."""

import os
import signal
import sys
import threading
from types import FrameType


class TrainingStopped(KeyboardInterrupt):
    """A run was stopped on request; the message says where it stands and how to resume.

    A notebook shows the message alone, and does not run the cells that were queued.
    """

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


class StopSignal:
    """Remembers the first signal; a second one interrupts at once.

    Attribute: `number`, the signal that came, or None.
    """

    def __init__(self):
        self.number: int | None = None
        self._before: dict[int, object] = {}

    def __enter__(self) -> "StopSignal":
        if threading.current_thread() is threading.main_thread():  # no other thread may set handlers
            for number in (signal.SIGINT, signal.SIGTERM):
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and background jobs ignore SIGINT
                    self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *exception: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def stop(self, message: str) -> None:
        """Exit after SIGTERM, else raise TrainingStopped with the message."""
        if self.number == signal.SIGTERM:
            print(message, file=sys.stderr)
            raise SystemExit(128 + self.number)
        raise TrainingStopped(message)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.number is not None:
            self.__exit__()
            os.kill(os.getpid(), number)
        self.number = number
