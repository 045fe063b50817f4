"""What a server never writes into its log, at any level: tokens, pictures and latents."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from access_tokens import TokenShelf, bearer
from inference_requests import infer_request
from refusal import refusal
from running_server import channel_to
from server_process import server_process

from latentserve.ndarray import from_ndarray
from latentserve.oip import inference_pb2_grpc
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc, models_pb2, models_pb2_grpc
from latentserve_client import AsyncClient

VAE = pb.ModelRef(name="vae")
LATENT = 0.12345678
"""A number that nothing else writes; as float32 its first digits are these, too."""
FILE = b"\x89PNG\r\n\x1a\nPICTURE-OF-SOMEBODY"
MARKS = ("0.123456", "PICTURE-OF-SOMEBODY", "SECRET-HEADER")


async def outcome(call: Any) -> grpc.StatusCode:
    """How a call ends, whatever that is."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


async def make_all_calls(port: int, caller: Any) -> set[grpc.StatusCode]:
    """Calls that are answered, and calls that are refused for all there is in them; how they ended."""
    latents = np.full((2, 3), LATENT, np.float32)
    endless = np.full((2, 3), np.inf, np.float32)
    endless[0] = LATENT
    images = np.full((2, 1, 5, 7), LATENT, np.float32)
    async with channel_to(port) as channel:
        generation = generation_pb2_grpc.GenerationServiceStub(channel)
        inference = inference_pb2_grpc.GRPCInferenceServiceStub(channel)
        decode, encode = generation.Decode, generation.Encode
        files = pb.Images(encoded=pb.EncodedImages(files=[FILE]))
        calls = [
            *(decode(pb.DecodeRequest(model=VAE, latents=from_ndarray(rows)), metadata=caller)
              for rows in (latents, latents[:, :2], endless)),
            *(encode(pb.EncodeRequest(model=VAE, images=pb.Images(tensor=from_ndarray(rows))), metadata=caller)
              for rows in (images, images + 7)),
            encode(pb.EncodeRequest(model=VAE, images=files), metadata=caller),
            inference.ModelInfer(infer_request("vae", "latent", latents), metadata=caller),
            inference.ModelInfer(infer_request("vae", "latent", latents, raw=False), metadata=caller),
            inference.ModelInfer(infer_request("vae", "image", latents), metadata=caller),
            generation.Sample(pb.SampleRequest(model=VAE, count=1), metadata=(*caller, ("x-note", "SECRET-HEADER"))),
            models_pb2_grpc.ModelAdminServiceStub(channel).Rescan(models_pb2.RescanRequest(), metadata=caller),
            channel.unary_unary("/latentserve.v1.GenerationService/Decode")(FILE * 500, metadata=caller),
        ]  # fmt: skip
        return {await outcome(call) for call in calls}


async def test_no_secret_no_picture_and_no_latent_is_in_the_log(
    repository: Path, tokens: TokenShelf, caplog: pytest.LogCaptureFixture
) -> None:
    """Of the server at level debug, and of the client in this process."""
    caplog.set_level("DEBUG")
    good, scopeless = tokens.add("billing"), tokens.add("reader", "read")
    wrong = good[:-4] + "AAAA"
    others = [f"Basic {good}", f"Bearer  {good} x", "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJTRUNSRVQifQ."]
    flags = ("--log-level=debug", f"--tokens={tokens.path}", "--admin-listen=127.0.0.1:0")
    async with server_process(repository, *flags) as process:
        ready = await process.log("serving on port")
        ended = [await make_all_calls(ready["port"], bearer(token)) for token in (good, scopeless, wrong)]
        for header in others:
            ended.append(await make_all_calls(ready["port"], (("authorization", header),)))
        async with channel_to(ready["admin_port"]) as channel:
            admin = models_pb2_grpc.ModelAdminServiceStub(channel)
            await refusal(admin.Rescan(models_pb2.RescanRequest(), metadata=bearer(good)))
        async with AsyncClient(f"127.0.0.1:{ready['port']}", token=good) as client:
            await client.sample("vae", 1)
            await client.decode("vae", np.full((2, 3), LATENT, np.float32))
        process.signal(signal.SIGTERM)
        assert await process.exit_status() == 0
    assert {grpc.StatusCode.OK, grpc.StatusCode.INVALID_ARGUMENT} <= ended[0]
    assert ended[2] >= {grpc.StatusCode.UNAUTHENTICATED}
    written = "\n".join([*process.lines, caplog.text])
    assert '"caller": "billing"' in written, "what is read here is the log"
    assert '"level": "DEBUG"' in written or '"level": "INFO"' in written
    secrets = [token.split("_", 2)[2] for token in (good, scopeless, wrong)]
    secrets += ["eyJ", *(entry.split()[-1] for entry in tokens.text.splitlines() if "sha256" in entry)]
    for secret in (*secrets, *MARKS):
        assert secret not in written, secret
