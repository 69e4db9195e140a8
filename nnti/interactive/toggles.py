"""A button per class, in its colour: which classes are shown."""

from collections.abc import Callable

import ipywidgets as widgets

from nnti.data import SegmentationDataset
from nnti.figures.masks import Classes

__all__ = ["ClassToggles"]

OFF = "#f0f0f0"


class ClassToggles:
    """Switches classes on and off.

    Args:
        classes: give names and colours. changed: called after a change.

    Attributes: `shown`, the numbers of the classes that are on; `box`, the widget.
    """

    def __init__(self, classes: SegmentationDataset | Classes, changed: Callable[[], None]):
        self.shown = set(range(classes.num_classes))
        self._changed = changed
        self._colors = [tuple(int(part) for part in color) for color in classes.palette]
        self._buttons = [self._button(name, number) for number, name in enumerate(classes.class_names)]
        every = [widgets.Button(description=text, layout={"width": "60px"}) for text in ("all", "none")]
        every[0].on_click(lambda _: self._set(set(range(classes.num_classes))))
        every[1].on_click(lambda _: self._set(set()))
        self.box = widgets.HBox([*every, *self._buttons], layout=widgets.Layout(flex_flow="row wrap"))
        self._paint()

    def _button(self, name: str, number: int) -> widgets.Button:
        button = widgets.Button(description=name, layout={"width": "auto"}, tooltip=f"show or hide {name}")
        button.on_click(lambda _: self._set(self.shown ^ {number}))
        return button

    def _set(self, shown: set[int]) -> None:
        self.shown = shown
        self._paint()
        self._changed()

    def _paint(self) -> None:
        for number, (button, color) in enumerate(zip(self._buttons, self._colors, strict=True)):
            on = number in self.shown
            button.style.button_color = f"rgb{color}" if on else OFF
            button.style.text_color = "white" if on and _is_dark(color) else "black"


def _is_dark(color: tuple[int, int, int]) -> bool:
    red, green, blue = color
    return 0.299 * red + 0.587 * green + 0.114 * blue < 140  # luma of ITU-R BT.601
