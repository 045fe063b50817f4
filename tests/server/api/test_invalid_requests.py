"""Every malformed request is refused with INVALID_ARGUMENT, or the status that is its due, and the field's name."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image
from running_server import RunningServer

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import models_pb2, tensor_pb2

VAE, GAN = pb.ModelRef(name="vae"), pb.ModelRef(name="gan")
BLANK = np.zeros((2, 1, 4, 5), np.float32)
LATENTS = np.zeros((2, 3), np.float32)
GRID = pb.Output(format=pb.IMAGE_FORMAT_PNG, grid_columns=4)


def tensor(array: Any) -> tensor_pb2.Tensor:
    return from_ndarray(np.asarray(array))


def spoiled(array: Any, value: float) -> tensor_pb2.Tensor:
    array = array.copy()
    array[1].flat[0] = value
    return from_ndarray(array)


def picture(mode: str = "L", size: tuple[int, int] = (5, 4), form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.new(mode, size).save(file, form)
    return file.getvalue()


def raw_png(width: int, height: int, depth: int, colour: int, pixels: bytes) -> bytes:
    """A PNG file that says what it is told to say."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(pixels, 9)) + chunk(b"IEND", b"")
    )


BOMB = raw_png(50_000, 50_000, 8, 0, bytes(1_000_000))
GREY16, RGB16 = (raw_png(5, 4, 16, colour, bytes(4 * (1 + 5 * width))) for colour, width in ((0, 2), (2, 6)))


def encode(*files: bytes, **images: Any) -> pb.EncodeRequest:
    form = pb.Images(**images) if images else pb.Images(encoded=pb.EncodedImages(files=files))
    return pb.EncodeRequest(model=VAE, images=form)


def encode_tensor(array: Any) -> pb.EncodeRequest:
    return encode(tensor=array if isinstance(array, tensor_pb2.Tensor) else tensor(array))


def decode(latents: Any) -> pb.DecodeRequest:
    return pb.DecodeRequest(model=VAE, latents=latents if isinstance(latents, tensor_pb2.Tensor) else tensor(latents))


def sample(**fields: Any) -> pb.SampleRequest:
    defaults: dict[str, Any] = {"model": VAE, "count": 1}
    return pb.SampleRequest(**(defaults | fields))


FLOAT, BYTE = tensor_pb2.DTYPE_FLOAT32, tensor_pb2.DTYPE_UINT8

FORMATS = ", ".join(pb.ImageFormat.keys())
NO_NAME = "is empty; name a model"
NEITHER = "neither tensor nor encoded is set"
NOT_FINITE = "row 1 holds a value that is not finite"
NO_PICTURE = "not a readable PNG, JPEG, WebP, GIF or BMP file"
NO_DTYPE = "dtype 0 is not one of DTYPE_FLOAT32, DTYPE_UINT8, DTYPE_FLOAT16, DTYPE_INT64"
NO_ROWS = "0 rows; 1 to 32 are allowed"
TOO_MANY_ROWS = "33 rows; 1 to 32 are allowed"

MALFORMED: dict[str, tuple[Any, str, str]] = {
    "no model": (pb.SampleRequest(count=1), "model.name", NO_NAME),
    "empty model name": (sample(model=pb.ModelRef(name="")), "model.name", NO_NAME),
    "version 0": (sample(model=pb.ModelRef(name="vae", version=0)), "model.version", "0; versions are at least 1"),
    "version below 0": (
        sample(model=pb.ModelRef(name="vae", version=-(2**63))),
        "model.version",
        "-9223372036854775808; versions are at least 1",
    ),
    "count 0": (sample(count=0), "count", NO_ROWS),
    "hardly too warm": (
        sample(shaping=pb.Shaping(temperature=4.0000005)),
        "shaping.temperature",
        "4.0000005; 0 to 4 are allowed",
    ),
    "a psi of a model without": (sample(shaping=pb.Shaping(psi=0.5)), "shaping.psi", "the model's decoder takes none"),
    "count over the limit": (sample(count=33), "count", TOO_MANY_ROWS),
    "count huge": (sample(count=2**32 - 1), "count", "4294967295 rows; 1 to 32 are allowed"),
    "count 0 in a grid": (sample(count=0, output=GRID), "count", NO_ROWS),
    "first_index at the end": (sample(first_index=2**48), "first_index", "281474976710656 + 1 rows is over 2^48"),
    "first_index + count over the end": (
        sample(first_index=2**48 - 1, count=2),
        "first_index",
        "281474976710655 + 2 rows is over 2^48",
    ),
    "first_index huge": (sample(first_index=2**64 - 1), "first_index", "18446744073709551615 + 1 rows is over 2^48"),
    "unknown format": (sample(output={"format": 99}), "output.format", f"99 is not one of {FORMATS}"),
    "no latents": (pb.DecodeRequest(model=VAE), "latents", NO_DTYPE),
    "latents of another width": (
        decode(np.zeros((2, 4), np.float32)),
        "latents",
        "float32 [2, 4] where float32 [n, 3] is wanted",
    ),
    "latents of one axis": (decode(np.zeros(3, np.float32)), "latents", "float32 [3] where float32 [n, 3] is wanted"),
    "latents without an axis": (decode(np.float32(0)), "latents", "float32 [] where float32 [n, 3] is wanted"),
    "latents of bytes": (decode(np.zeros((2, 3), np.uint8)), "latents", "uint8 [2, 3] where float32 [n, 3] is wanted"),
    "latents without rows": (decode(LATENTS[:0]), "latents", NO_ROWS),
    "latents without rows in a grid": (
        pb.DecodeRequest(model=VAE, latents=tensor(LATENTS[:0]), output=GRID),
        "latents",
        NO_ROWS,
    ),
    "latents over the limit": (decode(np.zeros((33, 3), np.float32)), "latents", TOO_MANY_ROWS),
    "latents with NaN": (decode(spoiled(LATENTS, np.nan)), "latents", NOT_FINITE),
    "latents with infinity": (decode(spoiled(LATENTS, np.inf)), "latents", NOT_FINITE),
    "latents too short": (
        decode(tensor_pb2.Tensor(dtype=FLOAT, shape=[1, 3], data=b"abc")),
        "latents",
        "data has 3 bytes; float32 of shape [1, 3] takes 12",
    ),
    "latents of a negative extent": (
        decode(tensor_pb2.Tensor(dtype=FLOAT, shape=[-1, 3])),
        "latents",
        "shape [-1, 3] has a negative extent",
    ),
    "images unset": (pb.EncodeRequest(model=VAE), "images", NEITHER),
    "images empty": (pb.EncodeRequest(model=VAE, images=pb.Images()), "images", NEITHER),
    "images without files": (encode(), "images.encoded.files", "0 files; 1 to 32 are allowed"),
    "too many files": (encode(*[picture()] * 33), "images.encoded.files", "33 files; 1 to 32 are allowed"),
    "images of another size": (
        encode_tensor(np.zeros((2, 1, 5, 4), np.float32)),
        "images.tensor",
        "float32 [2, 1, 5, 4] where [n, 1, 4, 5] is wanted",
    ),
    "images of other channels": (
        encode_tensor(np.zeros((2, 3, 4, 5), np.uint8)),
        "images.tensor",
        "uint8 [2, 3, 4, 5] where [n, 1, 4, 5] is wanted",
    ),
    "images of three axes": (
        encode_tensor(BLANK[:, 0]),
        "images.tensor",
        "float32 [2, 4, 5] where [n, 1, 4, 5] is wanted",
    ),
    "images without rows": (encode_tensor(BLANK[:0]), "images", NO_ROWS),
    "images over the limit": (encode_tensor(np.zeros((33, 1, 4, 5), np.uint8)), "images", TOO_MANY_ROWS),
    "images with NaN": (encode_tensor(spoiled(BLANK, np.nan)), "images.tensor", NOT_FINITE),
    "images with infinity": (encode_tensor(spoiled(BLANK, -np.inf)), "images.tensor", NOT_FINITE),
    "images below 0": (
        encode_tensor(spoiled(BLANK, -0.01)),
        "images.tensor",
        "values from -0.01 to 0.0; 0 to 1 are allowed",
    ),
    "images above 1": (
        encode_tensor(spoiled(BLANK, 255)),
        "images.tensor",
        "values from 0.0 to 255.0; 0 to 1 are allowed",
    ),
    "images of no dtype": (encode_tensor(tensor_pb2.Tensor(shape=[1, 1, 4, 5])), "images.tensor", NO_DTYPE),
    "images too long": (
        encode_tensor(tensor_pb2.Tensor(dtype=BYTE, shape=[1, 1, 4, 5], data=b"a" * 21)),
        "images.tensor",
        "data has 21 bytes; uint8 of shape [1, 1, 4, 5] takes 20",
    ),
    "garbage file": (encode(picture(), b"garbage"), "images.encoded.files[1]", NO_PICTURE),
    "empty file": (encode(b""), "images.encoded.files[0]", NO_PICTURE),
    "truncated file": (encode(picture()[:-20]), "images.encoded.files[0]", NO_PICTURE),
    "file of another size": (
        encode(picture(size=(4, 5))),
        "images.encoded.files[0]",
        "4x5 pixels where 5x4 are wanted",
    ),
    "PPM file": (
        encode(picture(form="PPM")),
        "images.encoded.files[0]",
        NO_PICTURE,
    ),
    "TIFF file": (
        encode(picture(form="TIFF")),
        "images.encoded.files[0]",
        "a TIFF file; PNG, JPEG, WebP, GIF or BMP is wanted",
    ),
    "16 bits, colour": (encode(RGB16), "images.encoded.files[0]", "more than 8 bits a channel; 8 are wanted"),
    "16 bits, grey": (encode(GREY16), "images.encoded.files[0]", "more than 8 bits a channel; 8 are wanted"),
    "decompression bomb": (
        encode(encoded=pb.EncodedImages(files=[BOMB], resize=True)),
        "images.encoded.files[0]",
        "too many pixels; 67108864 in all are allowed",
    ),
    "draw over the end": (
        pb.EncodeRequest(model=VAE, images=encode_tensor(BLANK).images, draw=pb.Draw(seed=1, first_index=2**48 - 1)),
        "draw.first_index",
        "281474976710655 + 2 rows is over 2^48",
    ),
    "reconstruct without images": (pb.ReconstructRequest(model=VAE), "images", NEITHER),
    "reconstruct into no format": (
        pb.ReconstructRequest(model=VAE, images=encode_tensor(BLANK).images, output={"format": -1}),
        "output.format",
        f"-1 is not one of {FORMATS}",
    ),
    "reconstruct no rows into a grid": (
        pb.ReconstructRequest(model=VAE, images=encode_tensor(BLANK[:0]).images, output=GRID),
        "images",
        NO_ROWS,
    ),
    "describe no model": (models_pb2.GetModelRequest(), "model.name", NO_NAME),
    "describe version 0": (
        models_pb2.GetModelRequest(model=pb.ModelRef(name="vae", version=0)),
        "model.version",
        "0; versions are at least 1",
    ),
}


async def refusal(served: RunningServer, request: Any) -> grpc.aio.AioRpcError:
    method = type(request).__name__.removesuffix("Request")
    call: Callable[[Any], Any] = getattr(served.models if method == "GetModel" else served.generation, method)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(request)
    return caught.value


@pytest.mark.parametrize(("request_", "field", "problem"), MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_request_is_an_invalid_argument_that_names_the_field(
    served: RunningServer, request_: Any, field: str, problem: str
) -> None:
    error = await refusal(served, request_)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.details() == f"{field}: {problem}"
