"""Progress output: widgets for a person in a notebook, lines of text in terminals and executed notebooks.

Papermill and nbconvert would save the state of widgets into the file, and GitHub does not show such files.
"""

import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress

import tqdm.auto
import tqdm.std


def has_widgets() -> bool:
    """Whether this code runs in a notebook with a person who can click."""
    kernel = _kernel()
    if kernel is None:
        return False
    # clients that execute notebooks unattended declare that they cannot answer input()
    return (kernel.get_parent("shell") or {}).get("content", {}).get("allow_stdin", True)


def interface_events() -> AbstractContextManager[Callable[[int], None]]:
    """Yield a function `poll(n)` that handles up to n clicks while a cell is busy.

    Newer kernels handle clicks on `answering` widgets in a thread of their own (a "subshell"). With older ones, such as
    Colab's, a click would wait until the cell is done.
    """
    kernel = _kernel()
    if kernel is None or "kernel subshells" in kernel.kernel_info.get("supported_features", ()):
        return nullcontext(lambda events: None)
    from jupyter_ui_poll import ui_events

    return ui_events()


def answering(widget) -> None:
    """Handle clicks on a widget in a subshell while its cell is busy; call this after the last change to it.

    From 7.4 on, ipykernel sends them to the shell that last changed the widget, the busy one, and there is no public
    way to opt out. Where this attribute is missing, clicks simply go wherever the kernel sends them.
    """
    with suppress(AttributeError):
        del widget.comm._reply_subshell_id


def progress_bar(*arguments, **options) -> tqdm.std.tqdm:
    """Return a tqdm bar, as widget or text; the arguments are those of tqdm."""
    return (tqdm.auto.tqdm if has_widgets() else tqdm.std.tqdm)(*arguments, **options)


def write_line(text: str) -> None:
    """Print a line above the bars."""
    tqdm.std.tqdm.write(text)


def _kernel():
    """Return the running Jupyter kernel, or None."""
    if "IPython" not in sys.modules:  # importing it would slow the command line down
        return None
    from IPython import get_ipython

    return getattr(get_ipython(), "kernel", None)
