"""Errors that a user can fix; each message says what is wrong and how to fix it."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Base class: an error that a user can fix; the command line prints it without a traceback."""


class SettingError(UserError, ValueError):
    """A setting has an unknown name, a wrong type or an impossible value; the message says what is right."""


class RunError(UserError, RuntimeError):
    """A run folder or checkpoint is missing, damaged or another experiment's; the message says what to do."""


class DataError(UserError, RuntimeError):
    """A file of a data set is missing, damaged or not what it should be; the message names it and the fix."""


class FaultyFiles(DataError):
    """Several files of a data set are faulty.

    Attributes:
        faults: one text each. rest: the data set without the faulty files, or None.
    """

    def __init__(self, faults: list[str], rest: object = None):
        super().__init__("\n".join(faults))
        self.faults, self.rest = faults, rest


class WeightsError(UserError, RuntimeError):
    """Pretrained weights could not be downloaded; the message says what to do."""


class MachineError(UserError, RuntimeError):
    """The machine ran out of memory or a process died; the message says what to change."""


def denied(path: str | os.PathLike) -> DataError:
    """Return the error for a file or folder that this user may not read."""
    return DataError(
        f"{os.fspath(path)} may not be read: permission denied. Make it readable (chmod -R a+rX on the folder that "
        "it belongs to), or ask whoever put it there"
    )


@contextmanager
def permissions_explained() -> Iterator[None]:
    """Turn a PermissionError into a DataError with the fix."""
    try:
        yield
    except PermissionError as error:
        raise denied(error.filename or "a file of the data set") from None
