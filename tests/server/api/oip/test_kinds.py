"""Autoencoders and vector-quantised ones in the Open Inference Protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from inference_requests import arrays_of, infer_request, stub_of
from model_kinds import KINDS, write_kinds
from numpy.typing import NDArray
from refusal import invalid
from running_server import RunningServer, running_server

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.oip import inference_pb2 as pb
from latentserve.v1 import generation_pb2

VQ = KINDS["vq"]
CODES = np.random.default_rng(0).integers(0, 6, (5, 4))
PICTURES = VQ.random_images(5)
PIXELS = (PICTURES / 255).astype(np.float32)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kinds(tmp_path_factory.mktemp("kinds"))


@pytest.fixture
async def served(repository: Path) -> AsyncIterator[RunningServer]:
    async with running_server(repository, max_rows_per_request=32, max_batch_rows=4) as server:
        yield server


Ports = list[tuple[str, str, list[int]]]
IMAGE: Ports = [("image", "FP32", [-1, 1, 4, 5]), ("image_uint8", "UINT8", [-1, 1, 4, 5])]
ERROR: Ports = [("reconstruction_error", "FP32", [-1])]


@pytest.mark.parametrize(
    ("name", "inputs", "outputs"),
    [
        ("vq", [("codes", "INT64", [-1, 4])], [*IMAGE, ("logits", "FP32", [-1, 1, 4, 5])]),
        ("vq.encoder", IMAGE[:1], [("codes", "INT64", [-1, 4])]),
        ("vq.reconstruct", IMAGE[:1], [*IMAGE, *ERROR]),
        ("drawn", [("codes", "INT64", [-1, 4])], IMAGE),
        ("drawn.reconstruct", IMAGE[:1], IMAGE),
        ("plain", [("latent", "FP32", [-1, 3])], [*IMAGE, ("logits", "FP32", [-1, 1, 4, 5])]),
        ("plain.encoder", IMAGE[:1], [("mean", "FP32", [-1, 3])]),
        ("plain.reconstruct", IMAGE[:1], [*IMAGE, *ERROR]),
        ("blind.reconstruct", IMAGE[:1], IMAGE),
    ],
)
async def test_a_part_takes_and_gives_what_its_kind_has(
    served: RunningServer, name: str, inputs: Ports, outputs: Ports
) -> None:
    described = await stub_of(served).ModelMetadata(pb.ModelMetadataRequest(name=name))
    assert [(one.name, one.datatype, list(one.shape)) for one in described.inputs] == inputs
    assert [(one.name, one.datatype, list(one.shape)) for one in described.outputs] == outputs
    config = (await stub_of(served).ModelConfig(pb.ModelConfigRequest(name=name))).config
    types = [pb.DataType.Name(port.data_type) for port in (*config.input, *config.output)]
    assert types == [f"TYPE_{datatype}" for _, datatype, _ in (*inputs, *outputs)]
    array = PIXELS if inputs == IMAGE[:1] else CODES if inputs[0][0] == "codes" else np.zeros((5, 3), np.float32)
    given = arrays_of(await stub_of(served).ModelInfer(infer_request(name, inputs[0][0], array)))
    assert [(key, list(rows.shape)) for key, rows in given.items()] == [
        (key, [5, *rest]) for key, _, (_, *rest) in outputs
    ]


@pytest.mark.parametrize("raw", [True, False], ids=["raw", "typed"])
async def test_codes_go_out_and_come_in(served: RunningServer, raw: bool) -> None:
    asked: dict[str, Any] = {"raw": raw}
    request = infer_request("vq.encoder", "image", PIXELS, **asked)
    request.parameters["binary_data_output"].bool_param = raw
    codes = arrays_of(await stub_of(served).ModelInfer(request))["codes"]
    np.testing.assert_array_equal(codes, VQ.nearest_codes(VQ.posterior(PIXELS)[0]), strict=True)
    decoded = arrays_of(await stub_of(served).ModelInfer(infer_request("vq", "codes", codes, "image", **asked)))
    message = generation_pb2.DecodeRequest(model={"name": "vq"}, latents=from_ndarray(codes))
    own = to_ndarray((await served.generation.Decode(message)).images.tensor)
    np.testing.assert_array_equal(decoded["image"], own, strict=True)


@pytest.mark.parametrize("name", ["plain", "vq"])
async def test_a_reconstruction_is_reconstruct(served: RunningServer, name: str) -> None:
    outputs = arrays_of(await stub_of(served).ModelInfer(infer_request(f"{name}.reconstruct", "image", PIXELS)))
    images = generation_pb2.Images(tensor=from_ndarray(PIXELS))
    own = await served.generation.Reconstruct(generation_pb2.ReconstructRequest(model={"name": name}, images=images))
    np.testing.assert_array_equal(outputs["image"], to_ndarray(own.images.tensor), strict=True)
    np.testing.assert_array_equal(outputs["reconstruction_error"], np.float32(own.reconstruction_error))


@pytest.mark.parametrize(
    ("name", "tensor", "array", "message"),
    [
        ("vq", "codes", CODES + 1, "inputs.codes: row "),
        ("vq", "codes", CODES.astype(np.float32), "inputs.codes: datatype 'FP32' where INT64 is wanted"),
        ("vq", "codes", CODES.astype(np.uint8), "inputs.codes: datatype 'UINT8' where INT64 is wanted"),
        ("vq", "codes", CODES[:, :2], "inputs.codes: shape [5, 2] where [n, 4] is wanted"),
        ("vq", "latent", np.zeros((5, 4), np.float32), "inputs: 'latent' is not an input of the model; 'codes' is"),
        ("plain", "latent", CODES[:, :3], "inputs.latent: datatype 'INT64' where FP32 is wanted"),
    ],
)
async def test_codes_are_held_to_what_a_model_knows(
    served: RunningServer, name: str, tensor: str, array: NDArray[Any], message: str
) -> None:
    assert (await invalid(stub_of(served).ModelInfer(infer_request(name, tensor, array)))).startswith(message)
