"""A widget that lays a layer over a picture, fades it without asking the kernel, and tells which pixel was clicked."""

import io
from dataclasses import dataclass
from pathlib import Path

import anywidget
import numpy as np
import traitlets
from PIL import Image

__all__ = ["Canvas", "Layer"]


JPEG_QUALITY = 90
NOWHERE = (-1, -1)


@dataclass(frozen=True)
class Layer:
    """A map of values and what they look like.

    Attributes:
        values: uint8 (H, W). colors: uint8 (256, 3). alphas: uint8 (256,), 255 is opaque.
    """

    values: np.ndarray
    colors: np.ndarray
    alphas: np.ndarray


class Canvas(anywidget.AnyWidget):
    """A picture, and over it a layer of the same size.

    Attributes (synchronised with the browser):
        opacity: of the layer, 0 … 1. pixel: (x, y) of the last click, in pixels of the picture; (−1, −1): none.
    """

    _esm = Path(__file__).parent / "canvas.js"
    picture, layer = traitlets.Bytes().tag(sync=True), traitlets.Bytes().tag(sync=True)
    opacity = traitlets.Float(0.6).tag(sync=True)
    size, pixel = traitlets.List([1, 1]).tag(sync=True), traitlets.List(list(NOWHERE)).tag(sync=True)

    def show_picture(self, pixels: np.ndarray) -> None:
        """Show another picture, uint8 (H, W, 3), without a layer or a mark."""
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, format="jpeg", quality=JPEG_QUALITY)
        with self.hold_sync():
            self.picture, self.layer = buffer.getvalue(), b""
            self.size, self.pixel = [pixels.shape[1], pixels.shape[0]], list(NOWHERE)

    def show_layer(self, layer: Layer | None) -> None:
        """Lay another layer over the picture; None: none."""
        self.layer = b"" if layer is None else _png(layer)


def _png(layer: Layer) -> bytes:
    """Return a palette PNG with an opacity for each of its values: small, and quick to make."""
    image, buffer = Image.fromarray(layer.values, "P"), io.BytesIO()
    image.putpalette(layer.colors.tobytes())
    image.save(buffer, format="png", transparency=layer.alphas.tobytes(), compress_level=1)
    return buffer.getvalue()
