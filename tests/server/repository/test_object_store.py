"""A server process whose models lie in an S3 bucket: what comes, breaks and goes, and a store that is cut off."""

from __future__ import annotations

import json
import signal
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
from admin_server import READY, SEEDS, UNAVAILABLE, refusal
from model_shelf import BROKEN, reconstruction, seed_of
from object_store import ObjectStore
from running_server import channel_to
from server_process import ServerProcess, server_process

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc, models_pb2, models_pb2_grpc
from latentserve_server.repository.remote_files import RemoteFiles

pytestmark = pytest.mark.slow


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ObjectStore]:
    """Version 1, with the model of seed 1."""
    store = ObjectStore(tmp_path / "scratch")
    store.publish(1, 1)
    yield store
    store.close()


class Remote:
    """A server process over the store, and calls of it."""

    def __init__(self, process: ServerProcess, channel: grpc.aio.Channel, admin: grpc.aio.Channel) -> None:
        self.process = process
        self._generation = generation_pb2_grpc.GenerationServiceStub(channel)
        self.admin = models_pb2_grpc.ModelAdminServiceStub(admin)

    async def answering(self, **selector: str) -> tuple[int, int]:
        """The version that answers, and the seed whose model it is."""
        model = pb.ModelRef(name="vae", **selector)  # type: ignore[arg-type]
        reply = await self._generation.Reconstruct(reconstruction(model))
        return reply.served.version, seed_of(reply, SEEDS)

    async def rescan(self) -> dict[int, tuple[int, str]]:
        """Have the server look; returns the state of every version of "vae", and the reason."""
        reply = await self.admin.Rescan(models_pb2.RescanRequest())
        return {status.version: (status.state, status.reason) for status in reply.models if status.name == "vae"}


@asynccontextmanager
async def remote(store: ObjectStore, *flags: str, **environment: str) -> AsyncIterator[Remote]:
    """A server process over the store's bucket, with its admin service."""
    variables = {**store.variables, "PYTHONWARNINGS": "error", **environment}
    async with server_process(store.url, "--admin-listen=127.0.0.1:0", *flags, variables=variables) as process:
        ports = await process.log("serving on port")
        async with channel_to(ports["port"]) as channel, channel_to(ports["admin_port"]) as admin:
            yield Remote(process, channel, admin)


async def test_versions_come_and_go_with_the_bucket(store: ObjectStore) -> None:
    async with remote(store) as server:
        assert await server.answering() == (1, 1)
        store.publish(2, 2)
        assert (await server.rescan())[2] == (READY, "")
        assert await server.answering() == (2, 2)
        store.publish(2, 3)
        await server.rescan()
        assert await server.answering() == (2, 3)
        store.remove("vae/2/")
        await server.rescan()
        assert await server.answering() == (1, 1)
        server.process.signal(signal.SIGTERM)
        assert await server.process.exit_status() == 0
        assert server.process.complaints() == []


async def test_a_damaged_upload_is_unavailable_and_the_old_version_stays(store: ObjectStore) -> None:
    async with remote(store) as server:
        store.publish(2, 2, broken=True)
        assert await server.rescan() == {1: (READY, ""), 2: (UNAVAILABLE, BROKEN)}
        assert await server.answering() == (1, 1)
        store.publish(3, 3)
        store.remove("vae/3/decoder.onnx")
        assert (await server.rescan())[3] == (
            UNAVAILABLE,
            "it cannot be fetched from s3://models/team/one: decoder.onnx is not there",
        )
        store.publish(2, 2)
        assert (await server.rescan())[2] == (READY, "")


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: data[:-1] + b"x"], ids=["short", "altered"])
async def test_an_object_that_was_wrong_is_fetched_again_by_a_poll(
    store: ObjectStore, damage: Callable[[bytes], bytes]
) -> None:
    async with remote(store, "--poll-interval=0.1") as server:
        decoder, manifest = store.get("vae/1/decoder.onnx"), store.get("vae/1/manifest.json")
        store.put("vae/1/decoder.onnx", damage(decoder))
        store.put("vae/1/manifest.json", manifest + b"\n")  # has it fetched anew
        await server.process.log("vae version 1 is unavailable: decoder.onnx: ")
        store.put("vae/1/decoder.onnx", decoder)
        await server.process.log("vae version 1 is ready")
        assert await server.rescan() == {1: (READY, "")}
        assert len([line for line in server.process.lines if "version 1 is unavailable" in line]) == 1


async def test_an_upload_is_no_version_before_its_manifest(store: ObjectStore) -> None:
    async with remote(store) as server:
        store.publish(2, 2)
        manifest = store.get("vae/2/manifest.json")
        store.remove("vae/2/manifest.json")
        assert await server.rescan() == {1: (READY, "")}
        store.put("vae/2/manifest.json", manifest)
        assert (await server.rescan())[2] == (READY, "")


async def test_a_store_that_is_cut_off_changes_nothing_and_is_said_once(store: ObjectStore) -> None:
    async with remote(store, "--poll-interval=0.1") as server:
        store.cut_off()
        await server.process.log("what is served stays: s3://models/team/one: ")
        await refusal(server.admin.Rescan(models_pb2.RescanRequest()))
        assert await server.answering() == (1, 1)
        store.reconnect()
        await server.process.log("s3://models/team/one can be read again")
        store.publish(2, 2)
        await server.process.log("vae version 2 is ready")
        assert await server.answering() == (2, 2)
        assert len([line for line in server.process.lines if "what is served stays" in line]) == 1


async def test_a_version_that_was_fetched_before_needs_no_store(store: ObjectStore, tmp_path: Path) -> None:
    flags = f"--cache-dir={tmp_path / 'cache'}", "--version-policy=all"
    async with remote(store, *flags):
        pass
    for name in ("encoder.onnx", "decoder.onnx", "golden.safetensors", "CARD.md"):
        store.remove(f"vae/1/{name}")
    async with remote(store, *flags) as server:
        assert await server.answering() == (1, 1)


async def test_aliases_are_read_from_the_bucket_and_stored_there(store: ObjectStore) -> None:
    store.put("vae/aliases.json", b'{"stable": 1}')
    async with remote(store, "--version-policy=all") as server:
        store.publish(2, 2)
        await server.rescan()
        assert await server.answering(alias="stable") == (1, 1)
        moved = models_pb2.SetAliasRequest(name="vae", alias="stable", version=2)
        assert (await server.admin.SetAlias(moved)).stored
        assert json.loads(store.get("vae/aliases.json")) == {"stable": 2}
        store.put("vae/aliases.json", b'{"stable": 1, "canary": 2}')
        await server.rescan()
        assert await server.answering(alias="stable") == (1, 1)
        assert await server.answering(alias="canary") == (2, 2)
        store.cut_off()
        await refusal(server.admin.SetAlias(moved))
        assert await server.answering(alias="stable") == (1, 1)


async def test_a_bucket_that_is_empty_changes_nothing(store: ObjectStore) -> None:
    async with remote(store, "--removal-delay=0") as server:
        store.remove("")  # object by object: a poll may see some of them gone
        said = await refusal(server.admin.Rescan(models_pb2.RescanRequest()))
        assert said == "s3://models/team/one: nothing is there, though it had models; to serve none, unload them"
        assert await server.answering() == (1, 1)
        store.publish(2, 2)
        await server.rescan()
        assert await server.answering() == (2, 2)


def write_credentials(file: Path, key: str, secret: str) -> None:
    file.write_text(f"[default]\naws_access_key_id = {key}\naws_secret_access_key = {secret}\n")


async def test_renewed_credentials_are_taken_without_a_restart(store: ObjectStore, tmp_path: Path) -> None:
    file = tmp_path / "credentials"
    old, new = store.issue_key(), store.issue_key()
    write_credentials(file, *old)
    store.check_keys(are_checked=True)
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    async with remote(store, **none, AWS_SHARED_CREDENTIALS_FILE=str(file)) as server:
        assert await server.rescan() == {1: (READY, "")}
        store.check_keys(are_checked=False)
        store.revoke_key(old[0])
        store.publish(2, 2)
        store.check_keys(are_checked=True)
        said = await refusal(server.admin.Rescan(models_pb2.RescanRequest()))
        assert "The AWS Access Key Id you provided does not exist in our records" in said
        assert await server.answering() == (1, 1)
        write_credentials(file, *new)
        assert (await server.rescan())[2] == (READY, "")
        server.process.signal(signal.SIGTERM)
        assert await server.process.exit_status() == 0
        assert server.process.complaints() == []


def test_a_file_is_read_with_renewed_credentials(
    store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "credentials"
    old, new = store.issue_key(), store.issue_key()
    write_credentials(file, *old)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(file))
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", store.variables["AWS_ENDPOINT_URL_S3"])
    manifest = store.get("vae/1/manifest.json")
    store.check_keys(are_checked=True)
    files = RemoteFiles(store.url)
    assert files.read("vae/1/manifest.json", 1 << 20) == manifest
    store.check_keys(are_checked=False)
    store.revoke_key(old[0])
    store.check_keys(are_checked=True)
    with pytest.raises(PermissionError):
        files.read("vae/1/manifest.json", 1 << 20)
    write_credentials(file, *new)
    assert files.read("vae/1/manifest.json", 1 << 20) == manifest


async def start_error(store: ObjectStore, url: str, **variables: str) -> str:
    """What the process says, which is one line, before it leaves with 1."""
    async with server_process(url, variables={**store.variables, **variables}) as process:
        assert await process.exit_status() == 1
        (line,) = process.complaints()
        return line


async def test_a_bucket_that_does_not_exist_does_not_start(store: ObjectStore) -> None:
    said = await start_error(store, "s3://nowhere/models")
    missing = "cannot be read: nothing is there (The specified bucket does not exist)"
    assert said == f"latentserve-server: s3://nowhere/models: {missing}"


async def test_a_prefix_that_nothing_has_yet_is_waited_for(store: ObjectStore) -> None:
    store.remove("")
    async with remote(store) as server:
        await server.rescan()
        store.publish(2, 2)
        assert await server.rescan() == {2: (READY, "")}


async def test_a_store_that_cannot_be_reached_does_not_start(store: ObjectStore) -> None:
    store.cut_off()
    assert "cannot be read: Could not connect to the endpoint URL" in await start_error(store, store.url)


async def test_missing_credentials_do_not_start(store: ObjectStore) -> None:
    none = {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}
    said = await start_error(store, store.url, **none, AWS_SHARED_CREDENTIALS_FILE="/none", AWS_CONFIG_FILE="/none")
    assert said.endswith("cannot be read: Unable to locate credentials")
