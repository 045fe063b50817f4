"""Calls that are traced are exemplars on the metrics page, for scrapers that ask for OpenMetrics; for others nothing is
there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from held_graph import BACKSTOP_SECONDS
from prometheus_client.openmetrics.parser import text_string_to_metric_families
from prometheus_client.samples import Sample
from running_server import channel_to, running_server, scrape
from server_process import server_process
from trace_receiver import trace_receiver

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc

TRACE = "0af7651916cd43dd8448eb211c80319c"
SAMPLED = [("traceparent", f"00-{TRACE}-b7ad6b7169203331-01")]
NOT_SAMPLED = [("traceparent", f"00-{TRACE}-b7ad6b7169203331-00")]
SAMPLE = pb.SampleRequest(model=pb.ModelRef(name="vae"), count=3)
OPENMETRICS = "application/openmetrics-text; version=1.0.0"
HISTOGRAMS = ("latentserve_request_duration_seconds", "latentserve_queue_duration_seconds")


async def page(port: int, accept: str) -> str:
    return await asyncio.to_thread(scrape, port, accept=accept)


async def exemplars(port: int) -> Sequence[Sample]:
    """The samples of the page for OpenMetrics that have one."""
    families = text_string_to_metric_families(await page(port, OPENMETRICS))
    return [sample for family in families for sample in family.samples if sample.exemplar is not None]


async def test_a_traced_call_stands_for_its_bucket(repository: Path) -> None:
    async with trace_receiver() as receiver:
        tracing = {"trace_ratio": 1.0, "trace_endpoint": receiver.endpoint}
        async with running_server(repository, metrics_listen="127.0.0.1:0", **tracing) as served:
            before = time.time()
            await served.generation.Sample(SAMPLE)
            samples = await exemplars(served.server.metrics_port)
        call, queue = receiver.only("Sample"), receiver.only("queue")
    assert [sample.name for sample in samples] == [f"{name}_bucket" for name in HISTOGRAMS]
    for sample in samples:
        exemplar = sample.exemplar
        assert exemplar is not None
        assert exemplar.labels == {"trace_id": call.trace_id} == {"trace_id": queue.trace_id}
        assert sample.value == 1
        bound = float(sample.labels["le"])
        assert bound / 2 < exemplar.value <= bound or exemplar.value <= bound == 1e-4
        assert exemplar.timestamp is not None
        assert before <= float(exemplar.timestamp) <= time.time()
    assert samples[0].labels["method"] == "Sample"
    assert samples[1].labels["graph"] == "decoder"


async def test_a_refused_call_is_one_too(repository: Path) -> None:
    async with trace_receiver() as receiver:
        tracing = {"trace_ratio": 1e-12, "trace_endpoint": receiver.endpoint}
        async with running_server(repository, metrics_listen="127.0.0.1:0", **tracing) as served:
            await asyncio.gather(
                served.generation.Sample(pb.SampleRequest(model=SAMPLE.model), metadata=SAMPLED), return_exceptions=True
            )
            (sample,) = await exemplars(served.server.metrics_port)
    assert sample.exemplar is not None
    assert sample.exemplar.labels == {"trace_id": TRACE}


async def test_calls_that_are_not_sampled_leave_the_page_as_it_is(repository: Path) -> None:
    async with trace_receiver() as receiver:
        tracing = {"trace_ratio": 1.0, "trace_endpoint": receiver.endpoint}
        async with running_server(repository, metrics_listen="127.0.0.1:0", **tracing) as served:
            await served.generation.Sample(SAMPLE, metadata=NOT_SAMPLED)
            assert await exemplars(served.server.metrics_port) == []


async def test_nothing_of_it_is_on_the_page_in_plain_text(repository: Path) -> None:
    async with trace_receiver() as receiver:
        tracing = {"trace_ratio": 1.0, "trace_endpoint": receiver.endpoint}
        async with running_server(repository, metrics_listen="127.0.0.1:0", **tracing) as served:
            await served.generation.Sample(SAMPLE, metadata=SAMPLED)
            port = served.server.metrics_port
            plain, rich = [await page(port, accept) for accept in ("text/plain", OPENMETRICS)]
    assert TRACE in rich
    assert TRACE not in plain
    shown = {text: [line for line in text.splitlines() if line.startswith(HISTOGRAMS)] for text in (plain, rich)}
    assert shown[plain] == [line.partition(" # ")[0] for line in shown[rich]]


@pytest.mark.slow
async def test_the_page_of_workers_has_the_latest_of_all(repository: Path) -> None:
    async with trace_receiver() as receiver, AsyncExitStack() as stack:
        flags = ("--workers=2", "--metrics-listen=127.0.0.1:0", "--trace-ratio=1")
        process = await stack.enter_async_context(
            server_process(repository, *flags, f"--trace-endpoint={receiver.endpoint}")
        )
        ready = await process.log("serving on port")
        workers = set[int]()
        async with asyncio.timeout(BACKSTOP_SECONDS):
            while workers != {1, 2}:  # which worker has a connection is the kernel's to choose
                channel = await stack.enter_async_context(channel_to(ready["port"]))
                await generation_pb2_grpc.GenerationServiceStub(channel).Sample(SAMPLE)
                said = await process.log("Sample OK")
                workers.add(said["worker"])
        samples = await exemplars(ready["metrics_port"])
    found = [sample.exemplar for sample in samples if sample.name == f"{HISTOGRAMS[0]}_bucket"]
    latest = max((one for one in found if one is not None), key=lambda one: float(one.timestamp or 0))
    assert latest.labels == {"trace_id": said["trace_id"]}
