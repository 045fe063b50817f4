"""The image, run without rights: it answers as a server outside does, obeys signals and quotas, and is built alike."""

from __future__ import annotations

import asyncio
import json
import signal
from collections import Counter
from pathlib import Path

import grpc
import numpy as np
import pytest
from access_tokens import TokenShelf, json_web_key_set
from cryptography.hazmat.primitives.asymmetric import ec
from image.container import IMAGE, build, container, engine
from jwt.algorithms import ECAlgorithm
from refusal import refusal
from running_server import running_server
from tiny_bundle import TinyModel
from trace_receiver import trace_receiver

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc as rpc
from latentserve.v1 import tensor_pb2

VAE = pb.ModelRef(name="vae")
SAMPLE = pb.SampleRequest(model=VAE, count=8, seed=7)
PUBLIC_KEY = {**json.loads(ECAlgorithm.to_jwk(ec.generate_private_key(ec.SECP256R1()).public_key())), "kid": "one"}
OWN_BYTES = 200_000_000
"""What the image may add to its base."""
LARGE = TinyModel(height=128, width=128)
LARGE_ROWS = 128
"""Images of one call: 8 MiB."""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository that every user may read."""
    repository = tmp_path_factory.mktemp("models")
    TinyModel().write(repository / "vae" / "1")
    LARGE.write(repository / "large" / "1")
    let_all_read(repository)
    return repository


def let_all_read(folder: Path) -> None:
    """Open a folder of pytest's, which are their owner's alone."""
    for path in (*folder.parents[:3], folder, *folder.rglob("*")):
        path.chmod(path.stat().st_mode | (0o755 if path.is_dir() else 0o644))


def stub(port: int) -> rpc.GenerationServiceStub:
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    return rpc.GenerationServiceStub(grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options))


async def test_it_answers_as_a_server_outside_does_and_stops_at_a_signal(shelf: Path) -> None:
    async with running_server(shelf) as outside:
        expected = await outside.generation.Sample(SAMPLE)
    async with container(shelf) as inside:
        found = await stub(inside.port).Sample(SAMPLE)
        assert np.frombuffer(found.images.tensor.data, np.float32) == pytest.approx(
            np.frombuffer(expected.images.tensor.data, np.float32), abs=1e-6
        )
        inside.process.signal(signal.SIGTERM)
        assert await inside.process.exit_status() == 0
        assert inside.inspect("{{.State.ExitCode}}") == "0"
        assert inside.process.complaints() == []


async def test_it_has_what_tokens_and_traces_need(shelf: Path, tmp_path: Path) -> None:
    tokens = TokenShelf(tmp_path / "tokens.yaml")
    caller = tokens.caller("one")
    (tmp_path / "keys.json").write_text(json_web_key_set(PUBLIC_KEY))
    let_all_read(tmp_path)
    async with trace_receiver() as traces:
        flags = ["--tokens=/files/tokens.yaml", "--jwt-keys=/files/keys.json", "--jwt-issuer=https://issuer.example"]
        flags += ["--jwt-audience=latentserve", "--trace-ratio=1", f"--trace-endpoint={traces.endpoint}"]
        async with container(shelf, *flags, files=tmp_path) as inside:
            generation = stub(inside.port)
            assert (await refusal(generation.Sample(SAMPLE))).code() is grpc.StatusCode.UNAUTHENTICATED
            await generation.Sample(SAMPLE, metadata=caller)
            inside.process.signal(signal.SIGTERM)
            assert await inside.process.exit_status() == 0
        assert {span.is_error for span in traces.named("Sample")} == {False, True}


async def test_a_quota_of_processors_may_be_a_fraction_and_change(shelf: Path) -> None:
    async with container(shelf, options=["--cpus=0.5"]) as inside:
        generation = stub(inside.port)
        before = await generation.Sample(SAMPLE)
        for cpus in ("1.5", "0.25", "2"):
            engine("update", f"--cpus={cpus}", inside.name)
            replies = await asyncio.gather(*(generation.Sample(SAMPLE) for _ in range(20)))
            assert {reply.images.tensor.data for reply in replies} == {before.images.tensor.data}


async def test_far_more_than_fits_its_memory_is_refused_and_kills_nothing(shelf: Path) -> None:
    images = tensor_pb2.Tensor(dtype=tensor_pb2.DTYPE_FLOAT32, shape=[LARGE_ROWS, 1, LARGE.height, LARGE.width])
    images.data = bytes(4 * LARGE_ROWS * LARGE.height * LARGE.width)
    request = pb.EncodeRequest(model=pb.ModelRef(name="large"), images=pb.Images(tensor=images))
    async with container(shelf, options=["--memory=512m", "--memory-swap=512m"]) as inside:
        outcomes = Counter[str]()

        async def call_on() -> None:
            own = stub(inside.port)
            for _ in range(10):
                try:
                    await own.Encode(request)
                    outcomes["OK"] += 1
                except grpc.aio.AioRpcError as error:
                    outcomes[error.code().name] += 1

        await asyncio.gather(*(call_on() for _ in range(64)))  # whose requests alone are 512 MiB
        assert outcomes.keys() == {"OK", "RESOURCE_EXHAUSTED"}
        await stub(inside.port).Sample(SAMPLE)
        assert inside.inspect("{{.State.OOMKilled}}") == "false"


def test_it_adds_no_more_than_it_should_and_runs_as_a_numbered_user() -> None:
    # Its last layer is all that it adds.
    size = engine("run", "--rm", "--network=none", "--entrypoint=du", IMAGE, "-sb", "/opt/latentserve").split()[0]
    assert int(size) <= OWN_BYTES
    assert engine("image", "inspect", IMAGE, "--format", "{{.Config.User}}").strip() == "65532:65532"


@pytest.mark.skipif("--timestamp" not in engine("build", "--help"), reason="this engine sets no time for a build")
def test_two_builds_have_the_same_bytes() -> None:
    names = ["latentserve-server:once", "latentserve-server:again"]
    for name in names:
        build(name, "--no-cache", "--timestamp=0")
    layers = [engine("image", "inspect", name, "--format", "{{.RootFS.Layers}}") for name in names]
    for name in names:
        engine("image", "rm", name)
    assert layers[0] == layers[1]
