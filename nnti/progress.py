"""Is a person looking, through something that can show widgets?

Progress bars: widgets where a person watches a notebook, else lines of text.

Text too where a program executes the notebook: the state of widgets would be saved into the file, and GitHub does not
show such files.
"""

import importlib.util
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import tqdm.auto
import tqdm.std

__all__ = ["answering", "has_widgets", "interface_events", "progress_bar", "write_line"]


def has_widgets() -> bool:
    """Whether this code runs in a cell that a person watches, where widgets can be shown.

    False in a terminal, without ipywidgets, and where a program executes the notebook (papermill, nbconvert): its
    widgets nobody could click, and their state would be saved into the file.
    """
    kernel = _kernel()
    if kernel is None or importlib.util.find_spec("ipywidgets") is None:
        return False
    request = kernel.get_parent("shell") or {}
    # whoever executes cells without a person cannot answer input() and says so
    return request.get("content", {}).get("allow_stdin", True)


def interface_events() -> AbstractContextManager[Callable[[int], None]]:
    """Give a function `poll(n)` that answers clicks (up to n events) while a cell is busy.

    Newer kernels answer them by themselves, in a thread of their own (a "subshell"), for widgets that are `answering`;
    with older ones, such as Colab's, a click would wait until the cell is done.
    """
    kernel = _kernel()
    if kernel is None or "kernel subshells" in kernel.kernel_info.get("supported_features", ()):
        return nullcontext(lambda events: None)
    from jupyter_ui_poll import ui_events

    return ui_events()


def answering(widget: Any) -> None:
    """Let a widget be answered in a subshell, not in the cell that showed it: call it after the widget was changed."""
    # from ipykernel 7.4 on, whatever comes from a widget goes to the shell that used it last: the busy one
    vars(widget.comm).pop("_reply_subshell_id", None)


def _kernel():
    """Return the running Jupyter kernel, or None."""
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    kernel = getattr(get_ipython(), "kernel", None)
    return kernel if hasattr(kernel, "get_parent") else None


def progress_bar(*arguments, **options) -> tqdm.std.tqdm:
    """Return a tqdm bar; arguments as tqdm has them."""
    return (tqdm.auto.tqdm if has_widgets() else tqdm.std.tqdm)(*arguments, **options)


def write_line(text: str) -> None:
    """Print a line above the bars."""
    tqdm.std.tqdm.write(text)
