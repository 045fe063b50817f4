"""Several workers are one server: one port, one log, one set of metrics, one end; and what dies comes back."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import ssl
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from admin_server import refusal
from calibrated_model import bright_images, write_calibrated
from certificates import LOCAL, Authority, MountedSecret, tls_options
from grpc_health.v1 import health_pb2, health_pb2_grpc
from model_shelf import Shelf
from running_server import channel_to, metric, scrape
from server_process import BACKSTOP_SECONDS, ServerProcess, server_process
from tiny_bundle import TinyModel

from latentserve.ndarray import from_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc, models_pb2, models_pb2_grpc

pytestmark = pytest.mark.slow

SAMPLE = pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1)
BOTH = {1, 2}


class Fleet:
    """Two workers and their supervisor."""

    def __init__(self, process: ServerProcess, ready: dict[str, Any], pids: dict[int, int]) -> None:
        self.process = process
        self.port: int = ready["port"]
        self.metrics_port: int = ready["metrics_port"]
        self.admin_port: int = ready["admin_port"]
        self.health_port: int = ready.get("health_port", 0)
        self.pids = pids
        """The workers' processes, by their numbers."""

    async def worker_that_answers(self, channel: grpc.aio.Channel) -> int:
        """The worker to which the connection of a channel leads."""
        name = "ListModels"
        await models_pb2_grpc.ModelServiceStub(channel).ListModels(models_pb2.ListModelsRequest())
        return int((await self.process.log(name))["worker"])

    @asynccontextmanager
    async def channels(
        self, connect: Callable[[int], grpc.aio.Channel] = channel_to
    ) -> AsyncIterator[dict[int, grpc.aio.Channel]]:
        """A channel to each of the two workers; `connect` opens one to a port."""
        async with AsyncExitStack() as stack, asyncio.timeout(BACKSTOP_SECONDS):
            found: dict[int, grpc.aio.Channel] = {}
            while found.keys() != BOTH:  # which worker has a connection is the kernel's to choose
                channel = await stack.enter_async_context(connect(self.port))
                found[await self.worker_that_answers(channel)] = channel
            yield found

    async def calls_counted(self) -> float:
        return await metric(self.metrics_port, "requests_total", method="Sample", code="OK")


@asynccontextmanager
async def fleet(repository: Path, *flags: str) -> AsyncIterator[Fleet]:
    async with server_process(repository, "--workers=2", "--metrics-listen=127.0.0.1:0", *flags) as process:
        joined = [await process.log("worker") for _ in BOTH]
        ready = await process.log("serving on port")
        yield Fleet(process, ready, {line["worker"]: line["pid"] for line in joined})


async def sample_again_and_again(stub: Any) -> None:
    """Call until the call is answered."""
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while True:
            try:
                await stub.Sample(SAMPLE, wait_for_ready=True)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            else:
                return


async def gone(pids: Sequence[int]) -> None:
    """Return once the processes have ended, which are no children of this one."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            poll = select.poll()
            poll.register(descriptor, select.POLLIN)
            assert await asyncio.to_thread(poll.poll, 1000 * BACKSTOP_SECONDS), f"process {pid} is still there"
        finally:
            os.close(descriptor)


async def test_two_workers_answer_at_one_port_and_their_metrics_add_up(repository: Path) -> None:
    async with fleet(repository) as f:
        async with f.channels() as channels:
            for number, channel in channels.items():
                stub = generation_pb2_grpc.GenerationServiceStub(channel)
                for _ in range(10 * number):
                    await stub.Sample(SAMPLE)
            assert await f.calls_counted() == 30
            assert await metric(f.metrics_port, "batch_rows_sum", model="vae") == 30
            assert await metric(f.metrics_port, "workers") == 2
            assert await metric(f.metrics_port, "model_info", model="vae") == 1
            assert await metric(f.metrics_port, "model_loads_total", model="vae") == 2
            shown = scrape(f.metrics_port, "?name[]=process_open_fds")
            assert [f'process_open_fds{{worker="{who}"}}' in shown for who in ("1", "2", "supervisor")] == [True] * 3
            assert "latentserve" not in shown
        for flags in ("--workers=2", "--workers=1"):
            async with server_process(repository, flags, f"--listen=127.0.0.1:{f.port}") as second:
                assert await second.exit_status() == 1
                (line,) = second.complaints()
                assert f"--listen 127.0.0.1:{f.port}: the address cannot be bound; is it in use?" in line
        assert not f.process.complaints()


async def test_of_drift_the_mean_of_the_workers_is_shown(tmp_path: Path) -> None:
    model = TinyModel()
    write_calibrated(tmp_path / "vae" / "1", model)
    ordinary, bright = (from_ndarray(make(model, 1000)) for make in (TinyModel.random_images, bright_images))
    shown = []
    flags = ("--max-rows-per-request=1000", "--max-batch-rows=1000")
    async with fleet(tmp_path, *flags) as f, f.channels() as channels:
        for worker, images in ((1, ordinary), (2, ordinary), (2, bright), (1, bright)):
            stub = generation_pb2_grpc.GenerationServiceStub(channels[worker])
            await stub.Score(pb.ScoreRequest(model=SAMPLE.model, images=pb.Images(tensor=images)))
            shown.append([await metric(f.metrics_port, n) for n in ("latent_drift_nats", "anomaly_percentile_psi")])
        assert await metric(f.metrics_port, "drift_windows_total") == 8
    one, both, different, moved = np.array(shown)
    assert both == pytest.approx(one)
    assert different == pytest.approx((one + moved) / 2)
    assert (moved > one).all()


async def test_a_killed_worker_comes_back_and_no_count_goes_back(repository: Path) -> None:
    async with fleet(repository) as f, f.channels() as channels:
        stubs = {number: generation_pb2_grpc.GenerationServiceStub(channel) for number, channel in channels.items()}
        for stub in stubs.values():
            await stub.Sample(SAMPLE)
        assert await f.calls_counted() == 2
        os.kill(f.pids[1], signal.SIGKILL)
        await f.process.log("worker 1 ended by SIGKILL; another one is started now")
        assert await f.calls_counted() == 2
        joined = asyncio.ensure_future(f.process.log("worker 1 takes calls"))
        answered = 0
        while answered == 0 or not joined.done():  # by the other worker, and then by both
            for stub in stubs.values():
                await sample_again_and_again(stub)
                answered += 1
        assert joined.result()["pid"] not in f.pids.values()
        assert await metric(f.metrics_port, "worker_restarts_total") == 1
        assert await f.calls_counted() == 2 + answered


async def test_changes_reach_every_worker_and_those_that_come_later(tmp_path: Path) -> None:
    shelf = Shelf.of(tmp_path, 1, 2, 3)
    async with fleet(shelf.root, "--admin-listen=127.0.0.1:0") as f:
        async with channel_to(f.admin_port) as channel:
            admin = models_pb2_grpc.ModelAdminServiceStub(channel)
            reply = await admin.Load(models_pb2.LoadRequest(name="vae", version=1))
            assert reply.model.state == models_pb2.MODEL_STATE_READY
            await admin.Unload(models_pb2.UnloadRequest(name="vae", version=3))
            assert (await admin.SetAlias(models_pb2.SetAliasRequest(name="vae", alias="a", version=2))).stored
            assert "has the alias a" in await refusal(admin.Unload(models_pb2.UnloadRequest(name="vae", version=2)))
            missing = models_pb2.LoadRequest(name="vae", version=9)
            await refusal(admin.Load(missing), grpc.StatusCode.NOT_FOUND)
            os.kill(f.pids[1], signal.SIGKILL)
            await f.process.log("worker 1 takes calls")
            async with f.channels() as channels:
                for model_channel in channels.values():
                    stub = models_pb2_grpc.ModelServiceStub(model_channel)
                    models = (await stub.ListModels(models_pb2.ListModelsRequest())).models
                    ready = {each.version: list(each.aliases) for each in models if each.state == reply.model.state}
                    assert ready == {1: [], 2: ["a"]}
            shelf.publish(4, seed=4)
            rescanned = await admin.Rescan(models_pb2.RescanRequest())
            assert not rescanned.problems
            assert [each.version for each in rescanned.models if each.is_default] == [4]
            assert await metric(f.metrics_port, "requests_total", method="Load", code="OK") == 1
            shelf.publish(5, seed=5)
            f.process.signal(signal.SIGHUP)
            lines = [await f.process.log("vae version 5 is ready") for _ in BOTH]
            assert {line["worker"] for line in lines} == BOTH


async def test_a_repository_of_broken_bundles_alone_is_one_line_for_all_workers(tmp_path: Path) -> None:
    bundle = TinyModel().write(tmp_path / "vae" / "1")
    (bundle / "manifest.json").write_text('{"unknown": 1}')
    async with server_process(tmp_path, "--workers=2") as process:
        assert await process.exit_status() == 1
        (line,) = process.complaints()
        assert line.startswith("latentserve-server: ")
        assert "no model can be served: vae/1: manifest.json: " in line


async def test_a_worker_that_crashes_while_it_starts_is_one_line(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "onnxruntime.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)\n")
    async with server_process(repository, "--workers=2", variables={"PYTHONPATH": str(tmp_path)}) as process:
        assert await process.exit_status() == 1
        (line,) = process.complaints()
        assert line.startswith("latentserve-server: worker ")
        assert line.endswith("ended by SIGKILL while it started")


SLOW = pb.ModelRef(name="slow")
SOME_TURNS, ENDLESS_TURNS = 30_000, 2e9


def decode(channel: grpc.aio.Channel, turns: float) -> Any:
    """A call whose batch takes so many turns of the decoder."""
    latents = from_ndarray(np.full((1, 3), turns, np.float32))
    return generation_pb2_grpc.GenerationServiceStub(channel).Decode(pb.DecodeRequest(model=SLOW, latents=latents))


async def accepted(f: Fleet, calls: int) -> None:
    """Return once the workers have taken so many calls of a model; some may have been answered since."""
    async with asyncio.timeout(BACKSTOP_SECONDS):
        taken = 0.0
        while taken < calls:
            names = ("requests_in_flight", "requests_total")
            taken = sum([await metric(f.metrics_port, name, method="Decode") for name in names])


@pytest.fixture(scope="module")
def slow_repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    TinyModel(slow=True).write(root / "slow" / "1")
    return root


async def test_a_signal_to_all_processes_drains_each_and_loses_no_call(slow_repository: Path) -> None:
    async with fleet(slow_repository, "--max-batch-rows=4") as f, f.channels() as channels:
        calls = [decode(channel, SOME_TURNS) for channel in channels.values() for _ in range(10)]
        await accepted(f, len(calls))
        for pid in (f.process.pid, *f.pids.values()):
            os.kill(pid, signal.SIGTERM)
        assert {(await call).images.tensor.shape[0] for call in calls} == {1}
        assert await f.process.exit_status() == 0
        assert not f.process.complaints()
        last = [json.loads(line) for line in f.process.lines if '"message": "stopped"' in line]
        assert {line.get("worker") for line in last} == {1, 2, None}
        assert "worker" not in last[-1]


@pytest.mark.parametrize("numbers", [[signal.SIGKILL], [signal.SIGINT, signal.SIGINT]], ids=["killed", "two signals"])
async def test_no_worker_outlives_a_supervisor_that_ends_at_once(
    slow_repository: Path, numbers: Sequence[signal.Signals]
) -> None:
    async with fleet(slow_repository) as f, f.channels() as channels:
        calls = [decode(channel, ENDLESS_TURNS) for channel in channels.values()]
        await accepted(f, len(calls))
        f.process.signal(numbers[0])
        for number in numbers[1:]:
            await f.process.log("draining")
            f.process.signal(number)
        ended = -numbers[0] if len(numbers) == 1 else 128 + numbers[0]
        assert await f.process.exit_status() == ended
        await gone(list(f.pids.values()))
        for call in calls:
            assert (await refusal(call, grpc.StatusCode.UNAVAILABLE)) is not None


async def test_workers_speak_tls_with_a_certificate_that_is_replaced(shelf: Shelf, tmp_path: Path) -> None:
    authority = Authority()
    (ca := tmp_path / "ca.crt").write_bytes(authority.pem)
    secret = MountedSecret(tmp_path / "tls", authority.issue(*LOCAL))
    client = authority.issue("client.example").write(tmp_path / "client")
    options = tls_options(tmp_path / "tls", ca)
    flags = [f"--{name.replace('_', '-')}={path}" for name, path in options.items()]
    credentials = grpc.ssl_channel_credentials(authority.pem, client.key, client.certificate)
    context = ssl.create_default_context(cafile=str(ca))
    context.load_cert_chain(tmp_path / "client" / "tls.crt", tmp_path / "client" / "tls.key")

    def channel(port: int) -> grpc.aio.Channel:
        settings = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, settings)

    async with fleet(shelf.root, "--health-listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", *flags) as servers:
        async with asyncio.timeout(BACKSTOP_SECONDS), channel_to(servers.health_port) as plain:
            reply: Any = await health_pb2_grpc.HealthStub(plain).Check(health_pb2.HealthCheckRequest())
            assert reply.status == health_pb2.HealthCheckResponse.SERVING
        async with channel(servers.admin_port) as admin:
            await models_pb2_grpc.ModelAdminServiceStub(admin).Rescan(models_pb2.RescanRequest())
        issued = authority.issue(*LOCAL, ends=timedelta(days=8))
        secret.put(issued)
        async with asyncio.timeout(BACKSTOP_SECONDS):
            # That which ends first is shown: all processes have the new one then.
            while await certificate_expiry(servers.metrics_port, context) != issued.expiry:
                pass
        for _ in range(8):  # whichever worker has the connection
            async with channel(servers.port) as each:
                await generation_pb2_grpc.GenerationServiceStub(each).Sample(SAMPLE)


async def test_no_call_fails_while_the_certificate_of_workers_is_replaced(repository: Path, tmp_path: Path) -> None:
    old, new = Authority("Old"), Authority("New")
    secret, issued = MountedSecret(tmp_path / "tls", old.issue(*LOCAL)), new.issue(*LOCAL, ends=timedelta(days=8))
    flags = [f"--{name.replace('_', '-')}={path}" for name, path in tls_options(tmp_path / "tls").items()]
    context = ssl.create_default_context(cadata=(old.pem + new.pem).decode())
    replaced, answers = asyncio.Event(), asyncio.Semaphore(0)

    def trusting(authorities: bytes, port: int) -> grpc.aio.Channel:
        settings = [("grpc.use_local_subchannel_pool", 1)]
        return grpc.aio.secure_channel(f"127.0.0.1:{port}", grpc.ssl_channel_credentials(authorities), settings)

    async def call_again_and_again(channel: grpc.aio.Channel) -> None:
        while not replaced.is_set():
            await generation_pb2_grpc.GenerationServiceStub(channel).Sample(SAMPLE)
            answers.release()

    async def connect_again_and_again(port: int) -> None:
        while not replaced.is_set():
            async with trusting(old.pem + new.pem, port) as channel:
                await generation_pb2_grpc.GenerationServiceStub(channel).Sample(SAMPLE)
                answers.release()

    async with fleet(repository, *flags) as f, f.channels(partial(trusting, old.pem)) as there:
        reading = asyncio.ensure_future(f.process.exit_status())  # the log, of which lines are else dropped
        async with asyncio.timeout(BACKSTOP_SECONDS), asyncio.TaskGroup() as group:
            for channel in there.values():
                group.create_task(call_again_and_again(channel))
                group.create_task(connect_again_and_again(f.port))
            for _ in range(20):
                await answers.acquire()
            secret.put(issued)
            # That which ends first is shown: all processes have the new one then.
            while await certificate_expiry(f.metrics_port, context) != issued.expiry:
                pass
            for _ in range(20):
                await answers.acquire()
            replaced.set()
        reading.cancel()
        async with f.channels(partial(trusting, new.pem)) as anew:
            assert anew.keys() == BOTH


async def certificate_expiry(port: int, context: ssl.SSLContext) -> float:
    """When the certificate of a server ends, by its metrics."""
    lines = (await asyncio.to_thread(scrape, port, context=context)).splitlines()
    (line,) = [line for line in lines if line.startswith("latentserve_tls_certificate_expiry")]
    return float(line.split()[1])


@pytest.mark.parametrize("workers", [1, 2])
async def test_a_certificate_that_cannot_be_taken_ends_the_start_with_one_line(
    shelf: Shelf, tmp_path: Path, workers: int
) -> None:
    flags = (f"--tls-cert={tmp_path / 'tls.crt'}", f"--tls-key={tmp_path / 'tls.key'}")
    async with server_process(shelf.root, f"--workers={workers}", *flags) as process:
        assert await process.exit_status() == 1
    said = f"latentserve-server: --tls-cert {tmp_path / 'tls.crt'}: No such file or directory"
    assert process.complaints() == [said]
