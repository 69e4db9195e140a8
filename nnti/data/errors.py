"""What is wrong with a file of a data set, in words that name the file and the fix."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["DataError", "FaultyFiles", "denied", "permissions_explained"]


class DataError(RuntimeError):
    """A file of a data set is missing, damaged or not what it should be; the message names it and the fix."""


class FaultyFiles(DataError):
    """Several files of a data set are at fault.

    Attributes:
        faults: one text each. rest: the data set of the files that are in order, None where there is none.
    """

    def __init__(self, faults: list[str], rest: object = None):
        super().__init__("\n".join(faults))
        self.faults, self.rest = faults, rest


def denied(path: str | os.PathLike) -> DataError:
    """Return the error for a file or folder that this user may not read."""
    return DataError(
        f"{os.fspath(path)} may not be read: permission denied. Make it readable (chmod -R a+rX on the folder that "
        "it belongs to), or ask whoever put it there"
    )


@contextmanager
def permissions_explained() -> Iterator[None]:
    """Turn the system's refusal of a file or folder into a DataError."""
    try:
        yield
    except PermissionError as error:
        raise denied(error.filename or "a file of the data set") from None
