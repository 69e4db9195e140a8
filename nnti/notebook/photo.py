"""Upload a photo and see how a trained network segments it."""

import html
import tempfile
from pathlib import Path

import ipywidgets as widgets
from matplotlib.figure import Figure
from torch import Tensor, nn

from nnti.data.files import read_photo, reduced
from nnti.device import resolve_device
from nnti.errors import DataError
from nnti.figures.pictures import Classes, segmented_photo, to_picture
from nnti.inference.files import training_size
from nnti.inference.image import Inference, probabilities
from nnti.models.saved import load_model
from nnti.notebook.canvas import Canvas
from nnti.notebook.explorer import OPACITY, ClassToggles
from nnti.notebook.layers import Segmented, class_layer, probability_table
from nnti.progress import has_widgets
from nnti.training.run_folder import RunFolder, find_run

LONGEST = 1024  # pixels of what is shown: a browser's window; class probabilities of a whole photo would fill gigabytes


def segment_photo(
    run: str | Path | RunFolder, photo: str | Path | Tensor, device: str = "auto"
) -> widgets.Widget | Figure:
    """Return a box with an upload button that segments photos; `photo` is shown first.

    The photo is scaled to the size of the images that the network was trained on, and the result back.

    Args:
        run: a run with a best.pt, or its name or folder.
        photo: an image file of any kind, or a uint8 image (3, H, W).
        device: of the network.

    Without an interactive session (see `nnti.progress.has_widgets`), a figure of `photo`. Raises DataError for a file
    that is not an image.
    """
    if not isinstance(photo, Tensor) and not Path(photo).is_file():
        raise DataError(f"{photo}: there is no such file; give the path of a picture, seen from {Path.cwd()}")
    name, image = ("example", photo) if isinstance(photo, Tensor) else (Path(photo).name, read_photo(Path(photo)))
    model, checkpoint = load_model((run if isinstance(run, RunFolder) else find_run(run)).best, resolve_device(device))
    if has_widgets():
        box = PhotoBox(model, checkpoint)
        box.show(image, name)
        return box.box
    image = reduced(image, LONGEST)
    return segmented_photo(image, _segment(model, checkpoint, image).prediction, Classes.of(checkpoint), name)


class PhotoBox:
    """The widgets of `segment_photo`: `box` is the whole, `upload` the button, `canvas` the picture."""

    def __init__(self, model: nn.Module, checkpoint: dict):
        self.classes, self._model, self._checkpoint = Classes.of(checkpoint), model, checkpoint
        self.upload = widgets.FileUpload(accept="image/*", description="Your photo", layout={"width": "160px"})
        self.canvas, self._said, self._pixel = Canvas(), widgets.HTML(), widgets.HTML()
        opacity = widgets.FloatSlider(**OPACITY)
        widgets.jslink((opacity, "value"), (self.canvas, "opacity"))
        self.toggles = ClassToggles(self.classes, self._show_layer)
        head = widgets.HBox([self.upload, opacity, self._said], layout={"flex_flow": "row wrap"})
        self.box = widgets.VBox([head, self.canvas, self.toggles.box, self._pixel], layout={"max_width": "780px"})
        self.box.add_class("nnti-photo")
        self.upload.observe(lambda _: self._take(), "value")
        self.canvas.observe(lambda _: self._show_pixel(), "pixel")

    def show(self, image: Tensor, name: str) -> None:
        """Segment an image, uint8 (3, H, W), and show it, reduced to what a screen shows."""
        image = reduced(image, LONGEST)
        self._segmented = _segment(self._model, self._checkpoint, image)
        self.canvas.show_picture(to_picture(image))
        self._show_layer()
        self._said.value = html.escape(name)

    def _take(self) -> None:
        for file in self.upload.value:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / Path(file["name"]).name
                path.write_bytes(file["content"])
                try:
                    self.show(read_photo(path), path.name)
                except DataError as error:
                    self._said.value = html.escape(str(error).replace(f"{folder}/", ""))
        if self.upload.value:
            self.upload.value = ()  # the same file can be chosen again

    def _show_layer(self) -> None:
        self.canvas.show_layer(*class_layer(self._segmented.prediction, self.classes, self.toggles.shown))

    def _show_pixel(self) -> None:
        x, y = self.canvas.pixel
        self._pixel.value = probability_table(self._segmented, self.classes, x, y) if x >= 0 else ""


def _segment(model: nn.Module, checkpoint: dict, image: Tensor) -> Segmented:
    """Segment a uint8 image (3, H, W), scaled to the size that the network knows."""
    settings = checkpoint["experiment"]
    scale = training_size(settings) / max(image.shape[1:])
    return Segmented(probabilities(model, image, Inference(scales=(scale,)), settings["precision"]))
