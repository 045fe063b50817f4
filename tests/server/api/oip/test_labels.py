"""Conditional models in the Open Inference Protocol: a second input `label`, beside latents or images."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from inference_requests import add_input, arrays_of, infer_request, stub_of
from numpy.typing import NDArray
from running_server import RunningServer, running_server
from tested_device import assert_agree
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.oip import inference_pb2 as pb
from latentserve.v1 import generation_pb2

LABELLED = TinyModel(labels=4, seed=8)
NAMED = generation_pb2.ModelRef(name="labelled")
LATENTS = np.random.default_rng(2).standard_normal((6, 3)).astype(np.float32)
PIXELS = LABELLED.random_images(6)
LABELS = np.array([3, 0, 1, 1, 2, 0])


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[RunningServer]:
    LABELLED.write(tmp_path / "labelled" / "1")
    TinyModel().write(tmp_path / "vae" / "1")
    async with running_server(tmp_path, max_rows_per_request=32, max_batch_rows=4) as server:
        yield server


async def infer(served: RunningServer, request: pb.ModelInferRequest) -> dict[str, NDArray[Any]]:
    return arrays_of(await stub_of(served).ModelInfer(request))


@pytest.mark.parametrize("name", ["labelled", "labelled.encoder", "labelled.reconstruct"])
async def test_metadata_and_configuration_have_the_label(served: RunningServer, name: str) -> None:
    described = await stub_of(served).ModelMetadata(pb.ModelMetadataRequest(name=name))
    rows, label = described.inputs
    assert rows.datatype == "FP32"
    assert (label.name, label.datatype, list(label.shape)) == ("label", "INT64", [-1])
    config = (await stub_of(served).ModelConfig(pb.ModelConfigRequest(name=name))).config
    assert [(port.name, port.data_type, list(port.dims)) for port in config.input][1:] == [("label", pb.TYPE_INT64, [])]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
@pytest.mark.parametrize("label_first", [True, False], ids=["label first", "label last"])
async def test_the_decoder_is_decode_whatever_the_form_and_order(
    served: RunningServer, raw: bool, label_first: bool
) -> None:
    inputs = [("latent", LATENTS), ("label", LABELS)][:: -1 if label_first else 1]
    request = infer_request("labelled", *inputs[0], "image", raw=raw)
    outputs = await infer(served, add_input(request, *inputs[1], raw=raw))
    decode = generation_pb2.DecodeRequest(model=NAMED, latents=from_ndarray(LATENTS), labels=LABELS)
    expected = to_ndarray((await served.generation.Decode(decode)).images.tensor)
    assert_agree(outputs["image"], expected)


async def test_encoder_and_reconstruct_take_the_label(served: RunningServer) -> None:
    images = generation_pb2.Images(tensor=from_ndarray(PIXELS))
    encode = generation_pb2.EncodeRequest(model=NAMED, images=images, labels=LABELS)
    request = add_input(infer_request("labelled.encoder", "image", PIXELS, "mean"), "label", LABELS)
    expected = to_ndarray((await served.generation.Encode(encode)).mean)
    assert_agree((await infer(served, request))["mean"], expected)
    request = add_input(infer_request("labelled.reconstruct", "image", PIXELS), "label", LABELS)
    outputs = await infer(served, request)
    reconstruct = generation_pb2.ReconstructRequest(model=NAMED, images=images, labels=LABELS)
    reply = await served.generation.Reconstruct(reconstruct)
    assert_agree(outputs["image"], to_ndarray(reply.images.tensor))
    assert_agree(outputs["reconstruction_error"].tolist(), list(reply.reconstruction_error))


def with_label(array: NDArray[Any], model: str = "labelled") -> pb.ModelInferRequest:
    return add_input(infer_request(model, "latent", LATENTS), "label", array)


def without_bytes(request: pb.ModelInferRequest) -> pb.ModelInferRequest:
    del request.raw_input_contents[1:]
    return request


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (infer_request("labelled", "latent", LATENTS), "inputs: 'label' is missing"),
        (infer_request("labelled", "label", LABELS), "inputs: 'latent' is missing"),
        (add_input(with_label(LABELS), "label", LABELS), "inputs: 'label' is there twice"),
        (
            add_input(with_label(LABELS), "image", LATENTS),
            "inputs: 'image' is not an input of the model; 'latent' and 'label' are",
        ),
        (with_label(LABELS, "vae"), "inputs: 'label' is not an input of the model; 'latent' is"),
        (with_label(LABELS[:5]), "inputs.label: 5 rows where latent has 6"),
        (with_label(LABELS[:, None]), "inputs.label: shape [6, 1] where [n] is wanted"),
        (with_label(LABELS.astype(np.float32)), "inputs.label: datatype 'FP32' where INT64 is wanted"),
        (with_label(LABELS + 1), "inputs.label[0]: 4; 0 to 3 are allowed"),
        (with_label(LABELS - 1), "inputs.label[1]: -1; 0 to 3 are allowed"),
        (without_bytes(with_label(LABELS)), "raw_input_contents: 1 entries where the request has 2 inputs"),
    ],
)
async def test_labels_that_are_missing_or_wrong_are_refused(
    served: RunningServer, request_: pb.ModelInferRequest, message: str
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await infer(served, request_)
    assert (caught.value.code(), caught.value.details()) == (grpc.StatusCode.INVALID_ARGUMENT, message)
