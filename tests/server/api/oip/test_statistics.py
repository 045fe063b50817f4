"""The Open Inference Protocol's statistics are those of the metrics: what each graph has run, for whichever service."""

from __future__ import annotations

import asyncio

import grpc
import numpy as np
import pytest
from inference_requests import infer_request, stub_of
from running_server import RunningServer

from latentserve.oip import inference_pb2 as pb
from latentserve.v1 import generation_pb2

VAE = generation_pb2.ModelRef(name="vae")
LATENTS = np.zeros((20, 3), np.float32)
NOTHING = pb.InferStatistics(
    success=pb.StatisticDuration(), queue=pb.StatisticDuration(), compute_infer=pb.StatisticDuration()
)


async def statistics(served: RunningServer, name: str = "", version: str = "") -> list[pb.ModelStatistics]:
    reply = await stub_of(served).ModelStatistics(pb.ModelStatisticsRequest(name=name, version=version))
    return list(reply.model_stats)


async def test_calls_rows_and_runs_of_all_services_are_told(served: RunningServer) -> None:
    await stub_of(served).ModelInfer(infer_request("vae", "latent", LATENTS))
    await served.generation.Sample(generation_pb2.SampleRequest(model=VAE, count=4))
    with pytest.raises(grpc.aio.AioRpcError):
        await stub_of(served).ModelInfer(infer_request("vae", "latent", LATENTS[:, :2]))
    (told,) = await statistics(served, "vae", "1")
    assert (told.name, told.version) == ("vae", "1")
    assert (told.inference_count, told.execution_count) == (24, 4)  # runs of 8, 8, 4 and 4 rows
    stats = told.inference_stats
    assert (stats.success.count, stats.queue.count, stats.compute_infer.count) == (2, 2, 4)
    assert 0 < stats.compute_infer.ns < 60e9
    assert 0 < stats.queue.ns < 60e9


async def test_a_part_has_statistics_of_its_own(served: RunningServer) -> None:
    images = np.zeros((3, 1, 4, 5), np.float32)
    await asyncio.gather(
        *(
            stub_of(served).ModelInfer(infer_request(f"vae.{part}", "image", images))
            for part in ("encoder", "reconstruct")
        )
    )
    rows = {told.name: told.inference_count for told in await statistics(served)}
    assert {name: count for name, count in rows.items() if count} == {"vae.encoder": 3, "vae.reconstruct": 3}


async def test_every_ready_model_is_told_where_none_is_named(served: RunningServer) -> None:
    index = (await stub_of(served).RepositoryIndex(pb.RepositoryIndexRequest(ready=True))).models
    told = await statistics(served)
    assert [(one.name, one.version) for one in told] == [(one.name, one.version) for one in index]
    assert all(one.inference_stats == NOTHING for one in told)


async def test_a_model_that_is_not_there_has_none(served: RunningServer) -> None:
    for name, version in (("nix", ""), ("gan.encoder", ""), ("vae", "2")):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await statistics(served, name, version)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
