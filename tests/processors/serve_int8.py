"""Loads the bundle that is named, as a server does that is to run int8, and decodes the latents of an .npz file.

Replies with the images, with the precision that the server chose, and with the images of onnxruntime as it comes.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from loaded_model import loaded
from numpy.typing import NDArray
from processors import emulator

from latentserve.v1 import bundle_pb2
from latentserve_server.model.requests import DecodeRequest


async def served(directory: Path, latents: NDArray[np.float32]) -> tuple[NDArray[np.float32], bundle_pb2.Precision]:
    """The server's images of latents, and what its decoder computes in."""
    async with loaded(directory, precision=bundle_pb2.PRECISION_INT8) as model:
        decoded = await model.decode(latents, DecodeRequest())
        return decoded.images, model.identity.precision


def plain(graph: Path, latents: NDArray[np.float32]) -> NDArray[np.float32]:
    """The images of a session with no options but one: where threads share a sum would depend on the machine."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    images: NDArray[np.float32] = session.run(["image"], {"latent": latents})[0]
    return images


bundle, latents = Path(sys.argv[1]), np.load(sys.argv[2])["latents"]
images, precision = asyncio.run(served(bundle, latents))
emulator.reply(images=images, precision=precision, plain=plain(bundle / "decoder.int8.onnx", latents))
