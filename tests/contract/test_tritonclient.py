"""tritonclient, unmodified and in a process of its own, is answered as it expects, with the numbers of the other calls.

A process of its own, because its copy of the protocol and ours define the same names.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from access_tokens import NEEDED, TokenShelf
from certificates import LOCAL, Authority, tls_options
from google.protobuf import descriptor_pb2
from numpy.typing import NDArray
from running_server import RunningServer, running_server
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.oip import inference_pb2
from latentserve.v1 import generation_pb2 as pb

SCRIPT = Path(__file__).with_name("tritonclient_calls.py")
PYTHON = Path(sys.prefix) / "tritonclient" / "bin" / "python"
BACKSTOP_SECONDS = 60.0

ADMIN = "latentserve.v1.ModelAdminService, on the server's admin listener"
VAE = pb.ModelRef(name="vae")
CLIENTS = ("sync", "stream", "aio")
MODEL = TinyModel()
PIXELS = MODEL.random_images(6).astype(np.float32) / np.float32(255)
LATENTS = np.random.default_rng(2).standard_normal((6, 3)).astype(np.float32)

Arrays = dict[str, NDArray[Any]]
Call = Callable[[str], Awaitable[tuple[Any, Arrays]]]

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="tritonclient is not installed; `make test` installs it")


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server with one VAE."""
    MODEL.write(tmp_path / "models" / "vae" / "1")
    async with running_server(tmp_path / "models", max_rows_per_request=32, max_batch_rows=4) as server:
        yield server


@pytest.fixture
def call(served: RunningServer, tmp_path: Path) -> Call:
    """Runs one mode of the script against the server; returns its report and the arrays it got."""

    async def call(mode: str) -> tuple[Any, Arrays]:
        np.savez(tmp_path / "inputs.npz", latent=LATENTS, image=PIXELS)
        await run_script(mode, f"127.0.0.1:{served.server.port}", tmp_path)
        with np.load(tmp_path / "outputs.npz") as archive:
            return json.loads((tmp_path / "report.json").read_text()), dict(archive)

    return call


async def run_script(mode: str, address: str, folder: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        PYTHON, SCRIPT, mode, address, folder, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    try:
        async with asyncio.timeout(BACKSTOP_SECONDS):
            output, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode == 0, output.decode()


async def expected_outputs(served: RunningServer) -> Arrays:
    """What the domain services say of the same inputs, by model and output; logits are not theirs to say."""
    images = pb.Images(tensor=from_ndarray(PIXELS))
    encoded = await served.generation.Encode(pb.EncodeRequest(model=VAE, images=images))
    expected = {name: to_ndarray(getattr(encoded, name)) for name in ("mean", "log_variance")}
    expected = {f"vae.encoder/{name}": array for name, array in expected.items()}
    for name, form in (("image", pb.IMAGE_FORMAT_FLOAT32), ("image_uint8", pb.IMAGE_FORMAT_UINT8)):
        output = pb.Output(format=form)
        decode = pb.DecodeRequest(model=VAE, latents=from_ndarray(LATENTS), output=output)
        reconstruct = pb.ReconstructRequest(model=VAE, images=images, output=output)
        reconstructed = await served.generation.Reconstruct(reconstruct)
        expected[f"vae/{name}"] = to_ndarray((await served.generation.Decode(decode)).images.tensor)
        expected[f"vae.reconstruct/{name}"] = to_ndarray(reconstructed.images.tensor)
        for cost in ("reconstruction_error", "kl"):
            expected[f"vae.reconstruct/{cost}"] = np.array(getattr(reconstructed, cost), np.float32)
    return expected


def assert_same(outputs: Arrays, expected: Arrays) -> None:
    for name, array in expected.items():
        np.testing.assert_array_equal(outputs[name], array, strict=True, err_msg=name)


async def test_the_blocking_client_gets_the_numbers_of_the_other_calls(served: RunningServer, call: Call) -> None:
    report, outputs = await call("sync")
    expected = await expected_outputs(served)
    assert_same(outputs, expected | {"zipped": expected["vae/image"], "async": expected["vae/image"]})
    np.testing.assert_allclose(outputs["vae/logits"], MODEL.logits(LATENTS), atol=1e-5)
    assert [report[model] for model in ("vae", "vae.encoder", "vae.reconstruct")] == [["r1", "1"]] * 3
    assert report["some"] == ["logits", "image"]
    assert report["async"] is None


async def test_the_blocking_client_reads_what_the_server_says_of_itself(call: Call) -> None:
    report, _ = await call("sync")
    assert (report["live"], report["ready"], report["version 2"]) == (True, True, False)
    assert report["models"] == {"vae": True, "vae.encoder": True, "vae.reconstruct": True, "nix": False}
    assert report["server"]["name"] == "latentserve"
    assert report["metadata"]["vae"]["inputs"] == [{"name": "latent", "datatype": "FP32", "shape": ["-1", "3"]}]
    assert [output["name"] for output in report["metadata"]["vae.encoder"]["outputs"]] == ["mean", "log_variance"]
    config = report["config"]["vae.reconstruct"]
    assert (config["max_batch_size"], config["backend"]) == (32, "onnxruntime")
    assert config["input"] == [
        {"name": "image", "data_type": "TYPE_FP32", "format": "FORMAT_NCHW", "dims": ["1", "4", "5"]}
    ]
    assert config["dynamic_batching"] == {
        "preferred_batch_size": [4],
        "priority_levels": "2",
        "default_priority_level": "1",
    }
    (statistics,) = report["statistics"]
    assert (statistics["name"], statistics["version"]) == ("vae", "1")
    assert (statistics["inference_count"], statistics["execution_count"]) == ("18", "6")  # 3 requests of 6 rows
    assert statistics["inference_stats"]["success"] == {"count": "3"}
    names = [(model["name"], model["version"], model["state"]) for model in report["index"]]
    assert names == [(name, "1", "READY") for name in ("vae", "vae.encoder", "vae.reconstruct")]


async def test_the_blocking_client_learns_what_was_wrong(call: Call) -> None:
    report, _ = await call("sync")
    assert report["refused"] == {
        "unknown model": ["StatusCode.NOT_FOUND", "model 'nix' is not in the repository"],
        "wrong shape": ["StatusCode.INVALID_ARGUMENT", "inputs.latent: shape [1, 99] where [n, 3] is wanted"],
        "shared memory": [
            "StatusCode.INVALID_ARGUMENT",
            "inputs.latent.parameters.shared_memory_region: is not supported; send and take the elements",
        ],
        "classification": [
            "StatusCode.INVALID_ARGUMENT",
            "outputs.image.parameters.classification: is not supported; send and take the elements",
        ],
        "load": ["StatusCode.PERMISSION_DENIED", f"models are loaded by {ADMIN}"],
        "unload": ["StatusCode.PERMISSION_DENIED", f"models are unloaded by {ADMIN}"],
        "trace": ["StatusCode.UNIMPLEMENTED", "Method not found!"],
    }


async def test_the_asyncio_client_gets_the_numbers_of_the_other_calls(served: RunningServer, call: Call) -> None:
    report, outputs = await call("aio")
    expected = await expected_outputs(served)
    assert_same(outputs, expected | {"stream": expected["vae/image"]})
    assert (report["live"], report["ready"]) == (True, True)
    assert report["models"] == {"vae": True, "vae.encoder": True, "vae.reconstruct": True, "nix": False}
    assert report["stream"] == ["vae", "model 'nix' is not in the repository", "vae"]


async def test_the_stream_of_the_blocking_client_is_answered_in_order(served: RunningServer, call: Call) -> None:
    report, outputs = await call("stream")
    images = (await expected_outputs(served))["vae/image"]
    assert_same(outputs, {"rows": images, "last": images})
    assert report["ids"] == [*map(str, range(6)), "last"]
    assert report["final"] == [True] * 7
    assert report["errors"] == [[6, "inputs.latent: 0 rows; 1 to 32 are allowed"]]


def describe(files: list[descriptor_pb2.FileDescriptorProto]) -> dict[str, Any]:
    """Number, type and the rest of every field, value and call."""
    found: dict[str, Any] = {}

    def visit(scope: str, message: Any) -> None:
        for enum in message.enum_type:
            found.update({f"{scope}{enum.name}.{value.name}": value.number for value in enum.value})
        for field in getattr(message, "field", ()):
            oneof = message.oneof_decl[field.oneof_index].name if field.HasField("oneof_index") else ""
            found[scope + field.name] = (field.number, field.label, field.type, field.type_name, oneof)
        for nested in getattr(message, "message_type", None) or getattr(message, "nested_type", ()):
            visit(f"{scope}{nested.name}.", nested)

    for file in files:
        visit("", file)
        for service in file.service:
            for method in service.method:
                streams = method.client_streaming, method.server_streaming
                found[f"{service.name}/{method.name}"] = (method.input_type, method.output_type, streams)
    return found


async def test_the_blocking_client_speaks_tls_with_a_certificate_of_its_own(tmp_path: Path) -> None:
    authority = Authority()
    (ca := tmp_path / "ca.crt").write_bytes(authority.pem)
    authority.issue(*LOCAL).write(tmp_path / "server")
    authority.issue("caller").write(tmp_path)
    MODEL.write(tmp_path / "models" / "vae" / "1")
    np.savez(tmp_path / "inputs.npz", latent=LATENTS)
    async with running_server(tmp_path / "models", **tls_options(tmp_path / "server", ca)) as running:
        await run_script("tls", f"127.0.0.1:{running.server.port}", tmp_path)
    with np.load(tmp_path / "outputs.npz") as outputs:
        assert outputs["vae/image"].shape == (len(LATENTS), *PIXELS.shape[1:])


async def test_every_client_is_answered_with_a_token_and_not_without(tmp_path: Path) -> None:
    MODEL.write(tmp_path / "models" / "vae" / "1")
    np.savez(tmp_path / "inputs.npz", latent=LATENTS)
    tokens = TokenShelf(tmp_path / "tokens.yaml")
    (tmp_path / "token.txt").write_text(tokens.add("triton"))
    async with running_server(tmp_path / "models", tokens=str(tokens.path)) as running:
        await run_script("token", f"127.0.0.1:{running.server.port}", tmp_path)
        decode = pb.DecodeRequest(model=VAE, latents=from_ndarray(LATENTS))
        decoded = await running.generation.Decode(decode, metadata=tokens.metadata("triton"))
    images = to_ndarray(decoded.images.tensor)
    with np.load(tmp_path / "outputs.npz") as outputs:
        assert_same(dict(outputs), {f"{client} with": images for client in CLIENTS})
        assert len(outputs.files) == len(CLIENTS)
    refusal = ["StatusCode.UNAUTHENTICATED", NEEDED]
    assert json.loads((tmp_path / "report.json").read_text()) == {f"{client} without": refusal for client in CLIENTS}


async def test_names_and_numbers_are_those_of_tritonclient(tmp_path: Path) -> None:
    await run_script("descriptors", "none", tmp_path)
    theirs = descriptor_pb2.FileDescriptorSet.FromString((tmp_path / "descriptors.binpb").read_bytes())
    ours = descriptor_pb2.FileDescriptorProto.FromString(inference_pb2.DESCRIPTOR.serialized_pb)
    assert {file.package for file in theirs.file} == {ours.package}
    known = describe(list(theirs.file))
    described = describe([ours])
    assert len(described) > 100
    assert {name: known.get(name) for name in described} == described
