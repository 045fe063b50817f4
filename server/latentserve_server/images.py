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


def read_array(field: str, tensor: tensor_pb2.Tensor) -> NDArray[Any]:
    """The tensor's array.

    Raises:
        InvalidArgument: dtype, shape and data do not fit together.
    """
    try:
        return to_ndarray(tensor)
    except TensorError as error:
        raise InvalidArgument(field, str(error)) from error


def read_latents(tensor: tensor_pb2.Tensor, dim: int) -> NDArray[np.float32]:
    """Latents as float32 [n, dim], all finite.

    Raises:
        InvalidArgument: they are anything else.
    """
    latents = read_array("latents", tensor)
    if latents.dtype != np.float32 or latents.shape[1:] != (dim,):
        raise InvalidArgument("latents", f"{_describe(latents)} where float32 [n, {dim}] is wanted")
    _demand_finite("latents", latents)
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
            return np.stack([_read_file(f"images.encoded.files[{i}]", data, spec) for i, data in enumerate(files)])
        case _:
            raise InvalidArgument("images", "neither tensor nor encoded is set")


def write_images(images: NDArray[Any], image_format: generation_pb2.ImageFormat) -> generation_pb2.Images:
    """Images [n, channels, height, width] for the wire: float32 or uint8 as a tensor, or uint8 as PNG files."""
    if image_format != generation_pb2.IMAGE_FORMAT_PNG:
        return generation_pb2.Images(tensor=from_ndarray(images))
    files = [_png(image) for image in images]
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
    _demand_finite(field, array)
    if array.size and (array.min() < spec.min_value or array.max() > spec.max_value):
        allowed = f"{spec.min_value:g} to {spec.max_value:g} are allowed"
        raise InvalidArgument(field, f"values from {array.min():g} to {array.max():g}; {allowed}")
    return array


def _read_file(field: str, data: bytes, spec: bundle_pb2.ImageSpec) -> NDArray[np.float32]:
    try:
        with Image.open(io.BytesIO(data), formats=("PNG", "JPEG")) as file:
            # Only the header is read so far: a small file of a huge image is refused before it is unpacked.
            if file.size != (spec.width, spec.height):
                width, height = file.size
                raise InvalidArgument(field, f"{width}x{height} pixels where {spec.width}x{spec.height} are wanted")
            if file.mode.startswith(("I", "F")) or any("16" in str(tile.args) for tile in file.tile):
                raise InvalidArgument(field, "more than 8 bits a channel; 8 are wanted")
            pixels = np.asarray(file.convert(_MODES[spec.channels]), dtype=np.float32)
    except InvalidArgument:
        raise
    except Exception as error:  # Pillow raises many kinds on damaged files
        raise InvalidArgument(field, "not a readable PNG or JPEG image") from error
    return np.moveaxis(pixels.reshape(spec.height, spec.width, spec.channels), -1, 0) / _LEVELS


def _png(image: NDArray[np.uint8]) -> bytes:
    channels = image.shape[0]
    pixels = np.ascontiguousarray(np.moveaxis(image, 0, -1) if channels > 1 else image[0])
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return file.getvalue()


def _demand_finite(field: str, array: NDArray[np.float32]) -> None:
    if not np.isfinite(array).all():
        row = int(np.argwhere(~np.isfinite(array))[0][0])
        raise InvalidArgument(field, f"row {row} holds a value that is not finite")


def _describe(array: NDArray[Any]) -> str:
    return f"{array.dtype.name} {list(array.shape)}"
