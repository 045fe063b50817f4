"""Images on the wire and as arrays: tensors and image files, both ways. The only importer of Pillow."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from latentserve.ndarray import TensorError, from_ndarray, to_ndarray
from latentserve.v1 import bundle_pb2, generation_pb2, tensor_pb2
from latentserve_server.errors import InvalidArgument

_MODES = {1: "L", 3: "RGB"}
_LEVELS = np.float32(255)
_GAP = 2
_MAX_GRID_SIDE = 16_383
"""What WebP holds; the other formats hold more."""
MAX_FILE_PIXELS = 1 << 26
"""Pixels of an image file that is to be resized, at most; 256 MiB as RGB with room to work."""

_FILE_FORMATS: dict[int, tuple[str, dict[str, Any]]] = {
    generation_pb2.IMAGE_FORMAT_PNG: ("PNG", {"compress_level": 1}),
    generation_pb2.IMAGE_FORMAT_JPEG: ("JPEG", {"quality": 90, "subsampling": 0}),
    generation_pb2.IMAGE_FORMAT_WEBP: ("WEBP", {"lossless": True, "method": 0}),
}
"""Pillow's name of each file format, and how it is written."""


def read_array(field: str, tensor: tensor_pb2.Tensor) -> NDArray[Any]:
    """The tensor's array.

    Raises:
        InvalidArgument: dtype, shape and data do not fit together.
    """
    try:
        return to_ndarray(tensor)
    except TensorError as error:
        raise InvalidArgument(field, str(error)) from error


def read_latents(field: str, tensor: tensor_pb2.Tensor, dim: int) -> NDArray[np.float32]:
    """Latents as float32 [n, dim], all finite.

    Raises:
        InvalidArgument: they are anything else.
    """
    latents = read_array(field, tensor)
    if latents.dtype != np.float32 or latents.shape[1:] != (dim,):
        raise InvalidArgument(field, f"{_describe(latents)} where float32 [n, {dim}] is wanted")
    demand_finite(field, latents)
    return latents


def read_images(images: generation_pb2.Images, spec: bundle_pb2.ImageSpec, max_rows: int) -> NDArray[np.float32]:
    """Images as float32 [n, channels, height, width] from 0 to 1.

    Raises:
        InvalidArgument: they are missing, malformed, of another size than the model's, out of range, or too many.
    """
    match images.WhichOneof("payload"):
        case "tensor":
            return _read_tensor(images.tensor, spec)
        case "encoded":
            files = images.encoded.files
            if not 1 <= len(files) <= max_rows:  # before decoding: each file takes time and memory
                raise InvalidArgument("images.encoded.files", f"{len(files)} files; 1 to {max_rows} are allowed")
            resize = images.encoded.resize
            return np.stack(
                [_read_file(f"images.encoded.files[{i}]", data, spec, resize=resize) for i, data in enumerate(files)]
            )
        case _:
            raise InvalidArgument("images", "neither tensor nor encoded is set")


def check_output(output: generation_pb2.Output, rows: int, spec: bundle_pb2.ImageSpec) -> None:
    """Hold the wanted form of `rows` images to what can be made. No rows have any form: to count them is the model's.

    Raises:
        InvalidArgument: the format is unknown, or a grid is too large or not of files.
    """
    if output.format not in generation_pb2.ImageFormat.values():
        known = ", ".join(generation_pb2.ImageFormat.keys())
        raise InvalidArgument("output.format", f"{output.format} is not one of {known}")
    if not output.grid_columns or not rows:
        return
    if output.format not in _FILE_FORMATS:
        raise InvalidArgument("output.grid_columns", "a grid is a picture: the format must be PNG, JPEG or WebP")
    columns = min(output.grid_columns, rows)
    width, height = columns * (spec.width + _GAP), -(-rows // columns) * (spec.height + _GAP)
    if max(width, height) > _MAX_GRID_SIDE:
        raise InvalidArgument("output.grid_columns", f"{width}x{height} pixels; {_MAX_GRID_SIDE} a side are allowed")


def write_images(images: NDArray[Any], output: generation_pb2.Output) -> generation_pb2.Images:
    """Images [n, channels, height, width] for the wire: a tensor, or uint8 images as files, or as one of a grid."""
    if output.format == generation_pb2.IMAGE_FORMAT_FLOAT16:
        return generation_pb2.Images(tensor=from_ndarray(images.astype(np.float16)))
    if output.format not in _FILE_FORMATS:
        return generation_pb2.Images(tensor=from_ndarray(images))
    name, options = _FILE_FORMATS[output.format]
    pictures = [_tile(images, output.grid_columns)] if output.grid_columns else images
    files = [_file(picture, name, options) for picture in pictures]
    return generation_pb2.Images(encoded=generation_pb2.EncodedImages(files=files))


def payload_bytes(images: generation_pb2.Images) -> int:
    """How much there is to read, in bytes."""
    return images.ByteSize()


def _read_tensor(tensor: tensor_pb2.Tensor, spec: bundle_pb2.ImageSpec) -> NDArray[np.float32]:
    field = "images.tensor"
    array = read_array(field, tensor)
    shape = (spec.channels, spec.height, spec.width)
    if array.shape[1:] != shape or array.ndim != 4:
        raise InvalidArgument(field, f"{_describe(array)} where [n, {', '.join(map(str, shape))}] is wanted")
    if array.dtype == np.uint8:
        return array.astype(np.float32) / _LEVELS
    if array.dtype != np.float32:
        raise InvalidArgument(field, f"{_describe(array)}; float32 and uint8 are allowed")
    demand_finite(field, array)
    demand_range(field, array, spec.min_value, spec.max_value)
    return array


def _read_file(field: str, data: bytes, spec: bundle_pb2.ImageSpec, *, resize: bool) -> NDArray[np.float32]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as file:
            # Only the header is read so far: a small file of a huge image is refused before it is unpacked.
            _check_header(field, file, spec, resize=resize)
            picture = file.convert(_MODES[spec.channels])
            if resize:
                picture = picture.resize((spec.width, spec.height), Image.Resampling.BICUBIC)
            pixels = np.asarray(picture, dtype=np.float32)
    except InvalidArgument:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow's own bound, a higher one
        raise InvalidArgument(field, f"too many pixels; {MAX_FILE_PIXELS} in all are allowed") from error
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise InvalidArgument(field, "not a readable PNG, JPEG or WebP image") from error
    return np.moveaxis(pixels.reshape(spec.height, spec.width, spec.channels), -1, 0) / _LEVELS


def _check_header(field: str, file: Image.Image, spec: bundle_pb2.ImageSpec, *, resize: bool) -> None:
    width, height = file.size
    if not resize and file.size != (spec.width, spec.height):
        raise InvalidArgument(field, f"{width}x{height} pixels where {spec.width}x{spec.height} are wanted")
    if width * height > MAX_FILE_PIXELS:
        raise InvalidArgument(field, f"{width}x{height} pixels; {MAX_FILE_PIXELS} in all are allowed")
    tiles = getattr(file, "tile", ())
    if file.mode.startswith(("I", "F")) or any("16" in str(tile.args) for tile in tiles):
        raise InvalidArgument(field, "more than 8 bits a channel; 8 are wanted")


def _tile(images: NDArray[np.uint8], columns: int) -> NDArray[np.uint8]:
    """Images [n, channels, height, width] as one picture [channels, height, width], row by row, on black."""
    count, channels, height, width = images.shape
    columns = min(columns, count)
    rows = -(-count // columns)
    cells = np.zeros((rows * columns, channels, height + _GAP, width + _GAP), np.uint8)
    cells[:count, :, :height, :width] = images
    grid = cells.reshape(rows, columns, *cells.shape[1:]).transpose(2, 0, 3, 1, 4)
    return grid.reshape(channels, rows * (height + _GAP), columns * (width + _GAP))[:, :-_GAP, :-_GAP]


def _file(image: NDArray[np.uint8], name: str, options: dict[str, Any]) -> bytes:
    channels = image.shape[0]
    pixels = np.ascontiguousarray(np.moveaxis(image, 0, -1) if channels > 1 else image[0])
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, name, **options)
    return file.getvalue()


def demand_finite(field: str, array: NDArray[np.float32]) -> None:
    """Refuse rows with infinities and NaN.

    Raises:
        InvalidArgument: there is one; names the first row.
    """
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise InvalidArgument(field, f"row {row} holds a value that is not finite")


def demand_range(field: str, array: NDArray[np.float32], low: float, high: float) -> None:
    """Refuse pixels outside the value range.

    Raises:
        InvalidArgument: there is one.
    """
    if array.size and (array.min() < low or array.max() > high):
        found = f"values from {array.min():g} to {array.max():g}"
        raise InvalidArgument(field, f"{found}; {low:g} to {high:g} are allowed")


def _describe(array: NDArray[Any]) -> str:
    return f"{array.dtype.name} {list(array.shape)}"
