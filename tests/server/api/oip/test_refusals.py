"""A malformed request of the Open Inference Protocol is refused in one line that names the tensor or the parameter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from inference_requests import infer_request, stub_of
from numpy.typing import NDArray
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve.oip import inference_pb2 as pb

LATENTS = np.zeros((2, 3), np.float32)
IMAGES = np.full((2, 1, 4, 5), 0.5, np.float32)


def decode(array: NDArray[Any] = LATENTS, *outputs: str, **fields: Any) -> pb.ModelInferRequest:
    return infer_request("vae", "latent", array, *outputs, **fields)


def encode(array: NDArray[Any], **fields: Any) -> pb.ModelInferRequest:
    return infer_request("vae.encoder", "image", array, **fields)


def edited(request: pb.ModelInferRequest, **tensor: Any) -> pb.ModelInferRequest:
    """The request with other fields in its input."""
    for name, value in tensor.items():
        request.inputs[0].ClearField(name)  # type: ignore[arg-type]
        request.inputs[0].MergeFrom(pb.ModelInferRequest.InferInputTensor(**{name: value}))
    return request


def with_raw(request: pb.ModelInferRequest, *raw: bytes) -> pb.ModelInferRequest:
    del request.raw_input_contents[:]
    request.raw_input_contents.extend(raw)
    return request


def spoiled(array: NDArray[np.float32], value: float) -> NDArray[np.float32]:
    array = array.copy()
    array[1].flat[0] = value
    return array


def with_parameter(place: str, name: str, **value: Any) -> pb.ModelInferRequest:
    request = decode(LATENTS, "image")
    holder: Any = {"request": request, "input": request.inputs[0], "output": request.outputs[0]}[place]
    holder.parameters[name].MergeFrom(pb.InferParameter(**value))
    return request


def without_input() -> pb.ModelInferRequest:
    return pb.ModelInferRequest(model_name="vae")


def with_inputs(*names: str) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name="vae")
    for name in names:
        request.inputs.add(name=name, datatype="FP32", shape=[2, 3])
        request.raw_input_contents.append(LATENTS.tobytes())
    return request


FP64 = pb.InferTensorContents(fp64_contents=[0.0] * 6)
FP32 = pb.InferTensorContents(fp32_contents=[0.0] * 6)

NOT_FINITE = "row 1 holds a value that is not finite"
NO_MEMORY = "is not supported; send and take the elements"

MALFORMED: dict[str, tuple[pb.ModelInferRequest, str, str]] = {
    "no model": (infer_request("", "latent", LATENTS), "model name", "is empty; name a model"),
    "endless name": (infer_request("n" * 9999, "latent", LATENTS), "model name", "is over 140 characters long"),
    "endless version": (decode(model_version="1" * 9999), "model version", "is over 140 characters long"),
    "no input": (without_input(), "inputs", "'latent' is missing"),
    "unknown input": (infer_request("vae", "z", LATENTS), "inputs", "'z' is not an input of the model; 'latent' is"),
    "endless input name": (
        infer_request("vae", "z" * 9999, LATENTS),
        "inputs",
        f"'{'z' * 128}…' is not an input of the model; 'latent' is",
    ),
    "unknown input beside": (
        with_inputs("latent", "seed"),
        "inputs",
        "'seed' is not an input of the model; 'latent' is",
    ),
    "input twice": (with_inputs("latent", "latent"), "inputs", "'latent' is there twice"),
    "no datatype": (edited(decode(), datatype=""), "inputs.latent", "datatype '' where FP32 is wanted"),
    "wrong datatype": (edited(decode(), datatype="FP16"), "inputs.latent", "datatype 'FP16' where FP32 is wanted"),
    "latents of bytes": (decode(LATENTS.astype(np.uint8)), "inputs.latent", "datatype 'UINT8' where FP32 is wanted"),
    "no shape": (edited(decode(), shape=[]), "inputs.latent", "shape [] where [n, 3] is wanted"),
    "another width": (decode(np.zeros((2, 4), np.float32)), "inputs.latent", "shape [2, 4] where [n, 3] is wanted"),
    "another size": (
        encode(IMAGES.transpose(0, 1, 3, 2)),
        "inputs.image",
        "shape [2, 1, 5, 4] where [n, 1, 4, 5] is wanted",
    ),
    "too many axes": (edited(decode(), shape=[1] * 9999), "inputs.shape", "9999 elements; at most 32 are allowed"),
    "no rows": (decode(LATENTS[:0]), "inputs.latent", "0 rows; 1 to 32 are allowed"),
    "rows below 0": (edited(decode(), shape=[-1, 3]), "inputs.latent", "-1 rows; 1 to 32 are allowed"),
    "rows over the limit": (decode(np.zeros((33, 3), np.float32)), "inputs.latent", "33 rows; 1 to 32 are allowed"),
    "rows beyond memory": (
        edited(decode(), shape=[2**62, 3]),
        "inputs.latent",
        "4611686018427387904 rows; 1 to 32 are allowed",
    ),
    "no elements": (
        with_raw(decode()),
        "inputs.latent",
        "has no elements, neither in contents nor in raw_input_contents",
    ),
    "too few bytes": (
        with_raw(decode(), b"abc"),
        "inputs.latent",
        "raw_input_contents has 3 bytes; FP32 of shape [2, 3] takes 24",
    ),
    "no bytes": (
        with_raw(decode(), b""),
        "inputs.latent",
        "raw_input_contents has 0 bytes; FP32 of shape [2, 3] takes 24",
    ),
    "raw twice": (with_raw(decode(), b"", b""), "raw_input_contents", "2 entries where the request has 1 input"),
    "raw and typed": (
        edited(decode(), contents=FP32),
        "inputs.latent",
        "has contents beside raw_input_contents; only one of them is allowed",
    ),
    "wrong field": (
        with_raw(edited(decode(), contents=FP64)),
        "inputs.latent",
        "elements in fp64_contents where FP32 takes fp32_contents",
    ),
    "too few elements": (
        with_raw(edited(decode(), contents=pb.InferTensorContents(fp32_contents=[0.0]))),
        "inputs.latent",
        "1 elements; shape [2, 3] takes 6",
    ),
    "levels over 255": (
        with_raw(edited(encode(IMAGES.astype(np.uint8)), contents=pb.InferTensorContents(uint_contents=[256] * 40))),
        "inputs.image",
        "value 256; 0 to 255 are UINT8",
    ),
    "latents with NaN": (decode(spoiled(LATENTS, np.nan)), "inputs.latent", NOT_FINITE),
    "latents with infinity": (decode(spoiled(LATENTS, -np.inf)), "inputs.latent", NOT_FINITE),
    "images with NaN": (encode(spoiled(IMAGES, np.nan)), "inputs.image", NOT_FINITE),
    "images below 0": (encode(spoiled(IMAGES, -0.01)), "inputs.image", "values from -0.01 to 0.5; 0 to 1 are allowed"),
    "images above 1": (
        encode(spoiled(IMAGES, 255), raw=False),
        "inputs.image",
        "values from 0.5 to 255.0; 0 to 1 are allowed",
    ),
    "unknown output": (decode(LATENTS, "pixels"), "outputs", "'pixels' is not one of image, image_uint8, logits"),
    "output name of two lines": (
        decode(LATENTS, "a\nb"),
        "outputs",
        "'a\\nb' is not one of image, image_uint8, logits",
    ),
    "endless output name": (
        decode(LATENTS, "p" * 9999),
        "outputs",
        f"'{'p' * 128}…' is not one of image, image_uint8, logits",
    ),
    "output twice": (decode(LATENTS, "image", "image"), "outputs", "'image' is named twice"),
    "timeout as text": (
        with_parameter("request", "timeout", string_param="1 s"),
        "parameters.timeout",
        "string_param is set where int64_param is wanted",
    ),
    "timeout below 0": (
        with_parameter("request", "timeout", int64_param=-1),
        "parameters.timeout",
        "-1; must not be negative",
    ),
    "priority of nothing": (
        with_parameter("request", "priority"),
        "parameters.priority",
        "nothing is set where int64_param is wanted",
    ),
    "binary_data_output as a number": (
        with_parameter("request", "binary_data_output", int64_param=0),
        "parameters.binary_data_output",
        "int64_param is set where bool_param is wanted",
    ),
    "input in shared memory": (
        with_parameter("input", "shared_memory_region", string_param="r"),
        "inputs.latent.parameters.shared_memory_region",
        NO_MEMORY,
    ),
    "output in shared memory": (
        with_parameter("output", "shared_memory_region", string_param="r"),
        "outputs.image.parameters.shared_memory_region",
        NO_MEMORY,
    ),
    "output classified": (
        with_parameter("output", "classification", int64_param=3),
        "outputs.image.parameters.classification",
        NO_MEMORY,
    ),
}


async def refusal(served: RunningServer, method: str, request: Any) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await getattr(stub_of(served), method)(request)
    return caught.value.code(), caught.value.details() or ""


@pytest.mark.parametrize(("request_", "field", "problem"), MALFORMED.values(), ids=MALFORMED.keys())
async def test_a_malformed_request_is_an_invalid_argument_that_names_the_field(
    served: RunningServer, request_: pb.ModelInferRequest, field: str, problem: str
) -> None:
    assert await refusal(served, "ModelInfer", request_) == (grpc.StatusCode.INVALID_ARGUMENT, f"{field}: {problem}")


@pytest.mark.parametrize(
    ("model", "version", "message"),
    [
        ("nix", "", "model 'nix' is not in the repository"),
        ("nix.encoder", "", "model 'nix.encoder' is not in the repository"),
        ("vae.decoder", "", "model 'vae.decoder' is not in the repository"),
        ("vae.encoder.encoder", "", "model 'vae.encoder.encoder' is not in the repository"),
        ("gan.encoder", "", "model 'gan.encoder' is not in the repository: 'gan' has no encoder"),
        ("gan.reconstruct", "1", "model 'gan.reconstruct' is not in the repository: 'gan' has no encoder"),
        ("vae", "2", "model 'vae' has no version 2"),
        ("vae", "0", "model 'vae' has no version 0"),
        ("vae", "-1", "model 'vae' has no alias '-1'"),
        ("vae", "stable", "model 'vae' has no alias 'stable'"),
    ],
)
@pytest.mark.parametrize("method", ["ModelInfer", "ModelMetadata", "ModelConfig"])
async def test_what_is_not_there_is_not_found(
    served: RunningServer, method: str, model: str, version: str, message: str
) -> None:
    requests: dict[str, Any] = {
        "ModelInfer": infer_request(model, "latent", LATENTS, model_version=version),
        "ModelMetadata": pb.ModelMetadataRequest(name=model, version=version),
        "ModelConfig": pb.ModelConfigRequest(name=model, version=version),
    }
    assert await refusal(served, method, requests[method]) == (grpc.StatusCode.NOT_FOUND, message)


async def test_a_reply_over_the_message_limit_is_refused_before_it_is_computed(tmp_path: Path) -> None:
    model = TinyModel(latent_dim=2, height=64, width=64)
    model.write(tmp_path / "vae" / "1")
    async with running_server(tmp_path, max_message_bytes=1 << 20, metrics_listen="127.0.0.1:0") as served:
        latents = np.zeros((59, 2), np.float32)
        code, message = await refusal(served, "ModelInfer", infer_request("vae", "latent", latents))
        assert code is grpc.StatusCode.INVALID_ARGUMENT
        assert message == (
            "outputs: 59 rows of image, image_uint8, logits are over a message's 1048576 bytes; 26 rows fit"
        )
        assert await served.metric("batch_rows_count", graph="decoder") == 0
        every = await stub_of(served).ModelInfer(infer_request("vae", "latent", latents[:26]))
        one = await stub_of(served).ModelInfer(infer_request("vae", "latent", latents, "image"))
        assert [len(raw) for raw in every.raw_output_contents] == [26 * 64 * 64 * size for size in (4, 1, 4)]
        assert [len(raw) for raw in one.raw_output_contents] == [59 * 64 * 64 * 4]


@pytest.mark.parametrize(
    ("method", "request_"),
    [
        ("RepositoryModelLoad", pb.RepositoryModelLoadRequest(model_name="vae")),
        ("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name="vae")),
    ],
)
async def test_callers_do_not_decide_what_is_served(served: RunningServer, method: str, request_: Any) -> None:
    code, message = await refusal(served, method, request_)
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "latentserve.v1.ModelAdminService" in message
    assert (await stub_of(served).ModelReady(pb.ModelReadyRequest(name="vae"))).ready


async def test_there_is_one_repository(served: RunningServer) -> None:
    code, message = await refusal(served, "RepositoryIndex", pb.RepositoryIndexRequest(repository_name="other"))
    assert (code, message) == (
        grpc.StatusCode.INVALID_ARGUMENT,
        "repository_name: must be empty; there is one repository",
    )
