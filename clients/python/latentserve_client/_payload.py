"""Images and latents to the messages that carry them, and back. Pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve import ndarray
from latentserve.v1 import generation_pb2, tensor_pb2
from latentserve_client.errors import ReplyError, RequestError
from latentserve_client.types import Format, ImageArray, ImagesLike, LatentsLike

_FORMATS: dict[str, generation_pb2.ImageFormat] = {
    "float32": generation_pb2.IMAGE_FORMAT_FLOAT32,
    "uint8": generation_pb2.IMAGE_FORMAT_UINT8,
    "png": generation_pb2.IMAGE_FORMAT_PNG,
}
_IMAGE_DTYPES: dict[int, np.dtype[Any]] = {
    generation_pb2.IMAGE_FORMAT_FLOAT32: np.dtype(np.float32),
    generation_pb2.IMAGE_FORMAT_UINT8: np.dtype(np.uint8),
}


def build_output(format: Format) -> generation_pb2.Output:
    """The form in which images are wanted."""
    if format not in _FORMATS:
        raise RequestError(f"format {format!r} is not one of {', '.join(_FORMATS)}")
    return generation_pb2.Output(format=_FORMATS[format])


def build_images(images: ImagesLike) -> generation_pb2.Images:
    """An array [n, channels, height, width] as a tensor, or a sequence of files as they are."""
    if isinstance(images, np.ndarray):
        if images.ndim != 4 or 0 in images.shape:
            raise RequestError(
                f"images has shape {list(images.shape)}; it takes [n, channels, height, width], none of them 0"
            )
        return generation_pb2.Images(tensor=_build_tensor("images", images, ("float32", "float64", "uint8")))
    if not isinstance(images, Sequence) or isinstance(images, str | bytes | bytearray | memoryview):
        raise RequestError(f"images is a {type(images).__name__}; give a numpy array or a list of PNG or JPEG files")
    if not images:
        raise RequestError("images is empty; give at least one")
    for index, file in enumerate(images):
        if not isinstance(file, bytes):
            raise RequestError(f"images[{index}] is a {type(file).__name__}; give the bytes of a PNG or JPEG file")
    return generation_pb2.Images(encoded=generation_pb2.EncodedImages(files=images))


def build_latents(latents: LatentsLike) -> tensor_pb2.Tensor:
    """An array [n, latent_dim] as a float32 tensor."""
    if not isinstance(latents, np.ndarray):
        raise RequestError(f"latents is a {type(latents).__name__}; give a numpy array [n, latent_dim]")
    if latents.ndim != 2 or 0 in latents.shape:
        raise RequestError(f"latents has shape {list(latents.shape)}; it takes [n, latent_dim], neither of them 0")
    return _build_tensor("latents", latents, ("float32", "float64"))


def rows(images: generation_pb2.Images) -> int:
    """The number of images in a message that build_images made."""
    if images.WhichOneof("payload") == "tensor":
        return images.tensor.shape[0]
    return len(images.encoded.files)


def parse_images(
    images: generation_pb2.Images, output: generation_pb2.Output, expected: int
) -> ImageArray | list[bytes]:
    """The `expected` images of a reply, in the form that `output` asked for."""
    if output.format == generation_pb2.IMAGE_FORMAT_PNG:
        if len(images.encoded.files) != expected:
            raise ReplyError(f"images: the reply has {len(images.encoded.files)} files; {expected} were asked for")
        return list(images.encoded.files)
    return _parse_tensor("images", images.tensor, _IMAGE_DTYPES[output.format], expected, ndim=4)


def parse_latents(field: str, tensor: tensor_pb2.Tensor, expected: int) -> NDArray[np.float32]:
    """A tensor [expected, latent_dim] of a reply."""
    return _parse_tensor(field, tensor, np.dtype(np.float32), expected, ndim=2)


def parse_scores(field: str, scores: Sequence[float], expected: int) -> NDArray[np.float32]:
    """One number an image: float32 [expected]."""
    if len(scores) != expected:
        raise ReplyError(f"{field}: the reply has {len(scores)} values; {expected} were asked for")
    return np.array(scores, dtype=np.float32)


def _build_tensor(field: str, array: NDArray[Any], allowed: tuple[str, ...]) -> tensor_pb2.Tensor:
    if array.dtype.name not in allowed:
        raise RequestError(f"{field} has dtype {array.dtype.name}; it takes {', '.join(allowed)}")
    if array.dtype.name == "float64":
        with np.errstate(over="ignore"):  # becomes inf, which the server refuses and names
            array = array.astype(np.float32)
    return ndarray.from_ndarray(array)


def _parse_tensor(
    field: str, tensor: tensor_pb2.Tensor, dtype: np.dtype[Any], expected: int, ndim: int
) -> NDArray[Any]:
    try:
        array = ndarray.to_ndarray(tensor)
    except ndarray.TensorError as error:
        raise ReplyError(f"{field}: {error}") from error
    if array.dtype != dtype or array.ndim != ndim or array.shape[0] != expected:
        raise ReplyError(
            f"{field}: the reply is {array.dtype.name} {list(array.shape)}; {expected} rows of {dtype.name} in {ndim} "
            "axes were asked for"
        )
    return array
