"""How a foreign graph holds pixels: their range, layout and element type, and what a bundle makes of them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto

from latentserve.contract import CHANNELS, MAX_IMAGE_PIXELS
from latentserve_training.errors import ExportError
from latentserve_training.foreign.affine import Affine
from latentserve_training.foreign.description import ForeignModel, channels_text
from latentserve_training.foreign.graph import ForeignGraph
from latentserve_training.foreign.nodes import Nodes
from latentserve_training.foreign.tensor import PIXELS, as_rows, batch_of, dtype_of, row_shape

Shape = tuple[int, int, int]
"""Channels, height and width."""
Layout = Literal["nchw", "nhwc"]

_LAST = (1, 3, 4)
"""Numbers of channels by which an axis that nobody named is known for that of the channels."""
_BYTES = (0.0, 255.0)


@dataclass(frozen=True)
class Pixels:
    """The images of one tensor of a foreign graph, and a bundle's: float32 [batch, channels, height, width], 0 to 1."""

    tensor: str
    shape: Shape
    layout: Layout
    dtype: int
    """One of onnx.TensorProto's data types."""
    low: float
    high: float
    known: tuple[int, ...] | None
    """The shape of the tensor's rows, as far as the file says."""
    guessed: bool = False
    """Whether the layout was not described and is not the usual one."""

    @property
    def own_shape(self) -> Shape:
        """The shape of an image in the graph's layout."""
        return _laid_out(self.shape, self.layout)

    @property
    def span(self) -> float:
        """The largest value of a pixel less the smallest."""
        return self.high - self.low

    @property
    def to_own(self) -> Affine:
        """From pixels in [0, 1] to the graph's range."""
        return Affine(self.span, self.low)

    def values(self, images: NDArray[Any]) -> NDArray[np.float64]:
        """Images [n, channels, height, width] in [0, 1] as the graph holds them, but in float64."""
        return self.to_own(images.transpose(0, 2, 3, 1) if self.layout == "nhwc" else images)

    def images(self, values: NDArray[Any], count: int, where: str) -> NDArray[np.float64]:
        """What the graph holds as `count` images [n, channels, height, width], in [0, 1] where they are in its range.

        Raises:
            ExportError: they have another size.
        """
        return self.to_own.inverse(self.planes(values, count, where))

    def planes(self, values: NDArray[Any], count: int, where: str) -> NDArray[Any]:
        """A tensor that lies as the images do, as [n, channels, height, width].

        Raises:
            ExportError: it has another size.
        """
        rows = as_rows(values, count, self.own_shape, where)
        return rows.transpose(0, 3, 1, 2) if self.layout == "nhwc" else rows

    def feed(self, nodes: Nodes, images: str, value: onnx.ValueInfoProto) -> str:
        """Add what turns a bundle's images into what the graph's input takes."""
        fed = nodes.affine(images, self.to_own)
        if self.dtype == TensorProto.UINT8:
            fed = nodes.add("Round", fed)
        fed = nodes.cast(fed, TensorProto.FLOAT, self.dtype)
        if self._moves:
            fed = nodes.add("Transpose", fed, perm=[0, 2, 3, 1])
        own = row_shape(value, self.own_shape)
        unchanged = own == (self.own_shape if self._moves else self.shape)
        return fed if unchanged else nodes.reshape(fed, own)

    def take(self, nodes: Nodes, value: str, affine: Affine, dtype: int, known: tuple[int, ...] | None) -> str:
        """Add what turns a tensor that lies as the images do into mapped float32 planes; `known` is its rows' shape."""
        taken = nodes.affine(nodes.cast(value, dtype, TensorProto.FLOAT), affine)
        if not self._moves:
            return nodes.reshape(taken, self.shape)
        # Without a Reshape between them, onnxruntime drops this Transpose together with the graph's own.
        flat = taken if known == self.own_shape else nodes.reshape(taken, self.own_shape)
        return nodes.add("Transpose", flat, perm=[0, 3, 1, 2])

    @property
    def _moves(self) -> bool:
        """Whether the layouts differ in memory, too."""
        channels, height, width = self.shape
        return self.layout == "nhwc" and channels > 1 and height * width > 1


def output_pixels(
    description: ForeignModel, graph: ForeignGraph, tensor: str, drawn_shape: Callable[[], tuple[int, ...]]
) -> Pixels:
    """The decoder's images; `drawn_shape` gives the shape of a row that a run makes, where the file does not say it.

    Raises:
        ExportError: their shape is not known, or not the described one; or their element type is not known here.
    """
    known = graph.shape(tensor)
    found = drawn_shape() if known is None else known
    asked = tuple(description.image_shape) if description.image_shape else None
    layout = description.layout or _guess(found, asked)
    shape = asked or (_planes(found, layout) if found and len(found) == 3 else None)
    if shape is None or len(shape) != 3:
        raise ExportError(f"decoder: {tensor!r} does not say channels, height and width; set image_shape")
    _require_shape(found, shape, layout, f"decoder: {tensor!r}")
    if shape[0] not in CHANNELS:
        where = "last" if layout == "nhwc" else "first"
        allowed = f"it must be {channels_text()}"
        raise ExportError(f"decoder: {tensor!r} has {shape[0]} channels {where}; {allowed}")
    if math.prod(shape[1:]) > MAX_IMAGE_PIXELS:
        allowed = f"at most {MAX_IMAGE_PIXELS:,} are allowed"
        raise ExportError(f"decoder: {tensor!r} has {math.prod(shape[1:]):,} pixels; {allowed}")
    return _pixels(description, graph, tensor, shape, layout, known)


def input_pixels(description: ForeignModel, graph: ForeignGraph, value: onnx.ValueInfoProto, decoded: Pixels) -> Pixels:
    """The images, of the decoder's shape, that the encoder reads; where nothing says how, as the decoder has them.

    Raises:
        ExportError: its input has another shape.
    """
    found, shape = graph.shape(value.name), decoded.shape
    layout = description.layout or (decoded.layout if found is None else _guess(found, shape))
    if found is not None:
        told = f"encoder: {value.name!r} is {batch_of(found)}, but the decoder's image"
        flat = sum(side > 1 for side in found) <= 1
        if len(found) == 3 and not flat and found != _laid_out(shape, layout):
            raise ExportError(f"{told} is {[*shape]} with its channels first")
        if math.prod(found) != math.prod(shape):
            raise ExportError(f"{told} has {math.prod(shape)} values")
    return _pixels(description, graph, value.name, shape, layout, found)


def _pixels(
    description: ForeignModel,
    graph: ForeignGraph,
    tensor: str,
    shape: Shape,
    layout: Layout,
    known: tuple[int, ...] | None,
) -> Pixels:
    dtype = dtype_of(graph, tensor, PIXELS)
    low, high = description.image_range or (_BYTES if dtype == TensorProto.UINT8 else (0.0, 1.0))
    if dtype == TensorProto.UINT8 and not _BYTES[0] <= low < high <= _BYTES[1]:
        raise ExportError(f"{graph.role}: {tensor!r} is uint8, but image_range is [{low:g}, {high:g}]")
    guessed = description.layout is None and layout == "nhwc"
    return Pixels(tensor, shape, layout, dtype, low, high, known, guessed)


def _guess(found: tuple[int, ...] | None, asked: Shape | tuple[int, ...] | None) -> Layout:
    """The layout of images [*found]: the usual one, unless only the other one fits."""
    if found is None or len(found) != 3:
        return "nchw"
    if asked is not None:
        return "nhwc" if found != asked and found == _laid_out(asked, "nhwc") else "nchw"
    return "nhwc" if found[2] in _LAST and found[0] not in _LAST else "nchw"


def _laid_out(shape: tuple[int, ...], layout: Layout) -> Shape:
    channels, height, width = shape
    return (height, width, channels) if layout == "nhwc" else (channels, height, width)


def _planes(found: tuple[int, ...], layout: Layout) -> Shape:
    first, second, third = found
    return (third, first, second) if layout == "nhwc" else (first, second, third)


def _require_shape(found: tuple[int, ...] | None, shape: tuple[int, ...], layout: Layout, where: str) -> None:
    if found is None:
        return
    own = _laid_out(shape, layout)
    if (len(found) == 3 and found != own) or math.prod(found) != math.prod(own):
        told = f"image_shape {[*shape]}" + " with channels last" * (layout == "nhwc")
        raise ExportError(f"{where} is {batch_of(found)}, which is not {told}")
