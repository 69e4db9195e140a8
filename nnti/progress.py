"""Progress bars: widgets where a person watches a notebook, else lines of text.

Text too where a program executes the notebook: the state of widgets would be saved into the file, and GitHub does not
show such files.
"""

import tqdm.auto
import tqdm.std

from nnti.frontend import has_widgets

__all__ = ["progress_bar", "write_line"]


def progress_bar(*arguments, **options) -> tqdm.std.tqdm:
    """Return a tqdm bar; arguments as tqdm has them."""
    return (tqdm.auto.tqdm if has_widgets() else tqdm.std.tqdm)(*arguments, **options)


def write_line(text: str) -> None:
    """Print a line above the bars."""
    tqdm.std.tqdm.write(text)
