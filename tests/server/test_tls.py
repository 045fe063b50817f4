"""TLS at every listener: who is let in, certificates that change under load, and what stays in plain text."""

from __future__ import annotations

import asyncio
import http.client
import logging
import os
import socket
import ssl
import warnings
from collections.abc import AsyncIterator, Awaitable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from certificates import CLIENT, LOCAL, SERVER, Authority, Issued, MountedSecret, tls_options
from grpc_health.v1 import health_pb2, health_pb2_grpc
from held_graph import BACKSTOP_SECONDS
from prometheus_client.parser import text_string_to_metric_families
from running_server import RunningServer, channel_to, running_server, scrape

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc, models_pb2, models_pb2_grpc

SAMPLE = pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1, seed=7)
EVERYWHERE = {"admin_listen": "127.0.0.1:0", "metrics_listen": "127.0.0.1:0", "health_listen": "127.0.0.1:0"}


@dataclass
class Secured:
    """A server with TLS at every listener, its CA, and the folder of its certificate."""

    served: RunningServer
    authority: Authority
    secret: MountedSecret

    def channel(self, port: int, issued: Issued | None = None, **options: Any) -> grpc.aio.Channel:
        """A channel with a connection of its own, of a client that has the certificate, or none."""
        credentials = grpc.ssl_channel_credentials(
            self.authority.pem, *((issued.key, issued.certificate) if issued else ())
        )
        settings = [
            ("grpc.use_local_subchannel_pool", 1),
            *((f"grpc.{name}", value) for name, value in options.items()),
        ]
        return grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, settings)

    def context(self, issued: Issued | None = None, folder: Path | None = None) -> ssl.SSLContext:
        """Python's client; a certificate of its own goes by way of the folder."""
        context = ssl.create_default_context(cadata=self.authority.pem.decode())
        if issued is not None and folder is not None:
            issued.write(folder)
            context.load_cert_chain(folder / "tls.crt", folder / "tls.key")
        return context

    async def scrape(self, context: ssl.SSLContext) -> str:
        return await asyncio.to_thread(scrape, self.served.server.metrics_port, "", context)


def value(text: str, name: str) -> float:
    (found,) = [
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == f"latentserve_tls_{name}"
    ]
    return float(found)


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
async def secured(repository: Path, authority: Authority, tmp_path: Path) -> AsyncIterator[Secured]:
    """Clients need no certificate."""
    secret = MountedSecret(tmp_path / "tls", authority.issue(*LOCAL))
    async with running_server(repository, **EVERYWHERE, **tls_options(tmp_path / "tls")) as served:
        yield Secured(served, authority, secret)


@pytest.fixture
async def mutual(repository: Path, authority: Authority, tmp_path: Path) -> AsyncIterator[Secured]:
    """Clients need a certificate of the same CA."""
    (ca := tmp_path / "ca.crt").write_bytes(authority.pem)
    secret = MountedSecret(tmp_path / "tls", authority.issue(*LOCAL))
    async with running_server(repository, **EVERYWHERE, **tls_options(tmp_path / "tls", ca)) as served:
        yield Secured(served, authority, secret)


async def sampled(channel: grpc.aio.Channel) -> pb.SampleResponse:
    async with channel:
        return await generation_pb2_grpc.GenerationServiceStub(channel).Sample(SAMPLE, timeout=BACKSTOP_SECONDS)


async def refused(call: Awaitable[object]) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    return caught.value.details() or ""


async def health(channel: grpc.aio.Channel) -> int:
    reply: Any = await health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest())
    return int(reply.status)


async def test_every_listener_but_that_of_health_speaks_tls(secured: Secured) -> None:
    server = secured.served.server
    assert len((await sampled(secured.channel(server.port))).images.tensor.data) > 0
    async with secured.channel(server.admin_port) as channel:
        await models_pb2_grpc.ModelAdminServiceStub(channel).Rescan(models_pb2.RescanRequest())
    assert "latentserve_build_info" in await secured.scrape(secured.context())

    await refused(sampled(channel_to(server.port)))
    await refused(sampled(channel_to(server.admin_port)))
    with pytest.raises((OSError, http.client.HTTPException)):
        await asyncio.to_thread(scrape, server.metrics_port)


async def test_the_port_of_health_is_in_plain_text_and_answers_health_alone(secured: Secured) -> None:
    async with channel_to(secured.served.server.health_port) as channel:
        assert await health(channel) == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await generation_pb2_grpc.GenerationServiceStub(channel).Sample(SAMPLE)
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def limit_to(context: ssl.SSLContext, version: ssl.TLSVersion) -> None:
    context.set_ciphers("ALL:@SECLEVEL=0")  # else OpenSSL itself keeps to later versions
    with warnings.catch_warnings(action="ignore"):  # that these versions are old
        context.minimum_version = context.maximum_version = version


def has_tls_1_1(folder: Path) -> bool:
    """Whether Python's client speaks it with Python's server, which has the certificate in the folder."""
    ours, theirs = ssl.MemoryBIO(), ssl.MemoryBIO()
    contexts = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for context in contexts:
        limit_to(context, ssl.TLSVersion.TLSv1_1)
    contexts[0].check_hostname, contexts[0].verify_mode = False, ssl.CERT_NONE
    contexts[1].load_cert_chain(folder / "tls.crt", folder / "tls.key")
    client, server = contexts[0].wrap_bio(ours, theirs), contexts[1].wrap_bio(theirs, ours, server_side=True)
    for side in (client, server) * 4:
        with suppress(ssl.SSLError):
            side.do_handshake()
    return client.version() == "TLSv1.1"


@pytest.mark.parametrize("listener", ["port", "admin_port", "metrics_port"])
async def test_versions_before_1_2_are_refused(secured: Secured, tmp_path: Path, listener: str) -> None:
    port = getattr(secured.served.server, listener)

    def version(which: ssl.TLSVersion) -> str | None:
        context = secured.context()
        context.set_alpn_protocols(["h2", "http/1.1"])
        limit_to(context, which)
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            context.wrap_socket(plain, server_hostname="localhost") as connection,
        ):
            return connection.version()

    if not has_tls_1_1(tmp_path / "tls"):
        pytest.skip("Python's OpenSSL has no TLS 1.1 to try it with")
    for which, name in ((ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")):
        assert await asyncio.to_thread(version, which) == name
    with pytest.raises(OSError):  # an alert, or the end of the connection
        await asyncio.to_thread(version, ssl.TLSVersion.TLSv1_1)


async def test_a_client_ca_lets_in_who_has_a_certificate_of_it(mutual: Secured, tmp_path: Path) -> None:
    server, issued = mutual.served.server, mutual.authority.issue("client.example", purpose=CLIENT)
    assert len((await sampled(mutual.channel(server.port, issued))).images.tensor.data) > 0
    async with mutual.channel(server.admin_port, issued) as channel:
        await models_pb2_grpc.ModelAdminServiceStub(channel).Rescan(models_pb2.RescanRequest())
    assert "latentserve_build_info" in await mutual.scrape(mutual.context(issued, tmp_path / "client"))
    async with channel_to(server.health_port) as channel:
        assert await health(channel) == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("what", ["none", "expired", "of another CA", "for servers alone"])
async def test_a_client_ca_keeps_out_who_has_none(
    mutual: Secured, tmp_path: Path, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    authority, server = mutual.authority, mutual.served.server
    caplog.set_level(logging.INFO)
    issued, reason = {
        "none": (None, "peer did not return a certificate"),
        "expired": (authority.issue("a", ends=timedelta(days=-1)), "its certificate: certificate has expired"),
        "of another CA": (Authority("Other").issue("a"), "its certificate: unable to get local issuer certificate"),
        "for servers alone": (authority.issue("a", purpose=SERVER), "its certificate: unsuitable certificate purpose"),
    }[what]
    await refused(sampled(mutual.channel(server.port, issued)))
    await refused(sampled(mutual.channel(server.admin_port, issued)))
    with pytest.raises(OSError):  # an alert, or the end of the connection
        await mutual.scrape(mutual.context(issued, tmp_path / "client"))
    async with asyncio.timeout(BACKSTOP_SECONDS):  # the client may hear of it before the log does
        while f"a scrape from 127.0.0.1 was refused: {reason}" not in [line.getMessage() for line in caplog.records]:
            await asyncio.to_thread(os.sched_yield)


async def test_a_new_certificate_costs_no_call_and_new_connections_have_it(secured: Secured) -> None:
    server, issued = secured.served.server, secured.authority.issue(*LOCAL)
    replaced, answers = asyncio.Event(), asyncio.Semaphore(0)

    async def call_again_and_again(channel: grpc.aio.Channel) -> None:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        while not replaced.is_set():
            await stub.Sample(SAMPLE)
            answers.release()

    async def connect_again_and_again() -> None:
        while not replaced.is_set():
            await sampled(secured.channel(server.port))

    async def presented(port: int) -> str:
        return await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port))

    async with AsyncExitStack() as stack, asyncio.timeout(BACKSTOP_SECONDS), asyncio.TaskGroup() as group:
        for _ in range(2):
            channel = await stack.enter_async_context(secured.channel(server.port))
            group.create_task(call_again_and_again(channel))
        group.create_task(connect_again_and_again())
        for _ in range(20):
            await answers.acquire()
        secured.secret.put(issued)
        for port in (server.port, server.admin_port, server.metrics_port):
            while (await presented(port)).split() != issued.certificate.decode().split():
                pass
        replaced.set()
    assert value(await secured.scrape(secured.context()), "certificate_expiry_timestamp_seconds") == issued.expiry


async def test_a_pair_that_does_not_fit_is_counted_and_changes_nothing(secured: Secured) -> None:
    issued, other = secured.authority.issue(*LOCAL), secured.authority.issue(*LOCAL)
    context = secured.context()
    expiry = value(await secured.scrape(context), "certificate_expiry_timestamp_seconds")
    secured.secret.put(Issued(issued.certificate, other.key, issued.expiry))
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while value(text := await secured.scrape(context), "reload_failures_total") == 0:
            pass
    assert value(text, "certificate_expiry_timestamp_seconds") == expiry
    await sampled(secured.channel(secured.served.server.port))


async def test_a_scrape_does_not_wait_for_handshakes_that_are_not_finished(secured: Secured) -> None:
    port = secured.served.server.metrics_port
    silent = [await asyncio.open_connection("127.0.0.1", port) for _ in range(8)]
    silent[0][1].write(b"\x16\x03\x01")  # the beginning of a record
    async with asyncio.timeout(5):  # half of what a request may take
        assert "latentserve_build_info" in await secured.scrape(secured.context())
    for _, writer in silent:
        writer.close()


def client_hello(context: ssl.SSLContext) -> bytes:
    """The first that a client says."""
    said = ssl.MemoryBIO()
    with suppress(ssl.SSLWantReadError):
        context.wrap_bio(ssl.MemoryBIO(), said, server_hostname="localhost").do_handshake()
    return said.read()


@pytest.mark.slow
async def test_a_handshake_that_is_not_finished_ends_and_holds_up_nobody(secured: Secured) -> None:
    """20 s, by grpc.server_handshake_timeout_ms, however much of it there was."""
    context, port = secured.context(), secured.served.server.port
    context.set_alpn_protocols(["h2"])
    hello = client_hello(context)
    async with AsyncExitStack() as stack, asyncio.timeout(BACKSTOP_SECONDS):
        silent: set[asyncio.Future[bytes]] = set()
        for said in (b"", hello[:3], hello[:-1], hello):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            stack.callback(writer.close)
            writer.write(said)
            silent.add(asyncio.ensure_future(reader.read()))
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        stack.callback(writer.close)
        silent.add(asyncio.ensure_future(reader.read()))  # who speaks TLS, and then says nothing
        answered = 0
        while silent:
            await sampled(secured.channel(port))
            answered += 1
            _, silent = await asyncio.wait(silent, timeout=0.1)
    assert answered > 1
