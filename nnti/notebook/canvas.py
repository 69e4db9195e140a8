"""A widget with a layer over a picture: fades in the browser, reports clicked pixels."""

import io
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from PIL import Image

JPEG_QUALITY = 90
NOWHERE = [-1, -1]


class Canvas(anywidget.AnyWidget):
    """A picture, and over it a layer of the same size.

    Attributes (synchronised with the browser):
        opacity: of the layer, 0 … 1. pixel: [x, y] of the last click, in pixels of the picture; [−1, −1]: none.
    """

    _esm = Path(__file__).parent / "canvas.js"
    picture, layer = traitlets.Bytes().tag(sync=True), traitlets.Bytes().tag(sync=True)
    opacity = traitlets.Float(0.6).tag(sync=True)
    size, pixel = traitlets.List([1, 1]).tag(sync=True), traitlets.List(NOWHERE).tag(sync=True)

    def show_picture(self, pixels: np.ndarray) -> None:
        """Show another picture, uint8 (H, W, 3), without a layer or a mark."""
        with self.hold_sync():
            self.picture, self.layer = encoded(pixels, "jpeg", quality=JPEG_QUALITY), b""
            self.size, self.pixel = [pixels.shape[1], pixels.shape[0]], NOWHERE

    def show_layer(self, values: np.ndarray, colors: np.ndarray) -> None:
        """Lay a map of values, uint8 (H, W), over the picture; `colors`: uint8 (256, 4), RGB and opacity of each."""
        image = Image.fromarray(values)
        image.putpalette(colors.tobytes(), "RGBA")  # a palette PNG is small, and quick to make
        self.layer = encoded(image, "png", compress_level=1)


def encoded(picture: np.ndarray | Image.Image, kind: str, **options) -> bytes:
    """Return a picture as the bytes of a "png" or "jpeg" file; arrays are uint8 (H, W, 3)."""
    buffer = io.BytesIO()
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    image.save(buffer, format=kind, **options)
    return buffer.getvalue()
