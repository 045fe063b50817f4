"""A real Prometheus scrapes a server: the page is as it should be and of all workers, and all records have data."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
import yaml
from model_shelf import Shelf
from observability.conftest import FIRING, RULES, Watch, calls_go_on
from prometheus import promtool
from running_server import channel_to, scrape
from trace_receiver import trace_receiver

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc, models_pb2, models_pb2_grpc

pytestmark = pytest.mark.slow

GROUPS = yaml.safe_load(RULES.read_text())["groups"]
RECORDS = [rule["record"] for group in GROUPS for rule in group["rules"] if "record" in rule]


async def test_every_record_has_data_and_nothing_fires_on_a_server_that_is_well(watch: Watch, shelf: Shelf) -> None:
    async with watch(shelf.root, "--workers=2") as watched:
        async with calls_go_on(watched, "vae"):
            for record in RECORDS:
                found = await watched.prometheus.until(record)
                assert {one["metric"].get("model", "vae") for one in found} == {"vae"}
                assert {one["metric"].get("job", "latentserve") for one in found} == {"latentserve"}
            await watched.until_watched()
        assert watched.prometheus.query(FIRING) == []


@pytest.mark.parametrize("workers", [1, 2])
async def test_promtool_finds_no_fault_in_the_page(watch: Watch, shelf: Shelf, workers: int) -> None:
    async with watch(shelf.root, f"--workers={workers}") as watched:
        async with calls_go_on(watched, "vae"):
            await watched.prometheus.until('latentserve_requests_total{method="Score", code="OK"}')
        assert promtool("check", "metrics", stdin=await asyncio.to_thread(scrape, watched.metrics_port)) == ""


async def test_the_page_is_that_of_all_workers(watch: Watch, shelf: Shelf) -> None:
    async with watch(shelf.root, "--workers=2") as watched, AsyncExitStack() as stack:
        calls, answered = 0, set[int]()
        while answered != {1, 2}:  # which worker has a connection is the kernel's to choose
            channel = await stack.enter_async_context(channel_to(watched.port))
            await models_pb2_grpc.ModelServiceStub(channel).ListModels(models_pb2.ListModelsRequest())
            answered.add((await watched.server.log("ListModels"))["worker"])
            calls += 1
        await watched.prometheus.until(f'sum(latentserve_requests_total{{method="ListModels"}}) == {calls}')
        found = watched.prometheus.query("process_resident_memory_bytes")
        assert {one["metric"]["worker"] for one in found} == {"1", "2", "supervisor"}


@pytest.mark.parametrize("workers", [1, 2])
async def test_prometheus_leads_from_a_histogram_to_a_trace(watch: Watch, shelf: Shelf, workers: int) -> None:
    trace, histogram = "0af7651916cd43dd8448eb211c80319c", "latentserve_request_duration_seconds_bucket"
    async with trace_receiver() as receiver:
        flags = (f"--workers={workers}", "--trace-ratio=1e-12", f"--trace-endpoint={receiver.endpoint}")
        async with watch(shelf.root, *flags) as watched, channel_to(watched.port) as channel:
            stub, began = generation_pb2_grpc.GenerationServiceStub(channel), time.time()
            metadata = [("traceparent", f"00-{trace}-b7ad6b7169203331-01")]
            await stub.Sample(pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1), metadata=metadata)
            await watched.prometheus.until(f'{histogram}{{method="Sample", le="+Inf"}} == 1')
            (found,) = watched.prometheus.ask(
                "query_exemplars", query=histogram, start=str(began - 1), end=str(time.time() + 1)
            )
            assert found["seriesLabels"]["method"] == "Sample"
            (exemplar,) = found["exemplars"]
            assert exemplar["labels"] == {"trace_id": trace}
            assert float(exemplar["value"]) <= float(found["seriesLabels"]["le"])
