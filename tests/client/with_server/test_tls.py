"""TLS between the client and a server: whom it trusts, who it is, and what it says of a handshake that fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from certificates import CLIENT, LOCAL, SERVER, Authority, Issued, tls_options
from model_shelf import Shelf
from running_server import running_server

from latentserve_client import AsyncClient, Client, DeadlineExceededError, RequestError, Tls, UnavailableError

COMMAND = Path(sys.executable).with_name("latentserve")
UNKNOWN = "is of no CA that this client trusts; name the CA that issued it"


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def ca(authority: Authority, tmp_path: Path) -> Path:
    """The CA's file."""
    (file := tmp_path / "ca.crt").write_bytes(authority.pem)
    return file


@asynccontextmanager
async def served(folder: Path, issued: Issued, client_ca: Path | None = None) -> AsyncIterator[int]:
    """The port of a server that has the certificate."""
    Shelf.of(folder / "models", 1)
    issued.write(folder / "tls")
    async with running_server(folder / "models", **tls_options(folder / "tls", client_ca)) as running:
        yield running.server.port


async def failure(port: int, tls: Tls | None) -> str:
    """What both clients say of a server that they cannot call, after their retries of two seconds."""

    def blocking() -> UnavailableError:
        with Client(f"127.0.0.1:{port}", tls=tls) as client, pytest.raises(UnavailableError) as caught:
            client.models()
        return caught.value

    async def asynchronous() -> UnavailableError:
        async with AsyncClient(f"127.0.0.1:{port}", tls=tls) as client:
            with pytest.raises(UnavailableError) as caught:
                await client.models()
        return caught.value

    said, same = (error.message for error in await asyncio.gather(asyncio.to_thread(blocking), asynchronous()))
    assert said.split(": ")[0] == same.split(": ")[0]
    return said


async def test_a_ca_is_all_that_a_client_needs(authority: Authority, ca: Path, tmp_path: Path) -> None:
    async with served(tmp_path, authority.issue(*LOCAL)) as port:
        async with AsyncClient(f"127.0.0.1:{port}", tls=Tls(ca=ca)) as client:
            assert (await client.sample("vae", 2, seed=1)).images.shape[0] == 2

        def blocking() -> int:
            with Client(f"localhost:{port}", tls=Tls(ca=os.fspath(ca))) as client:
                return len(client.sample("vae", 3, seed=1).images)

        assert await asyncio.to_thread(blocking) == 3


async def test_the_name_in_the_certificate_can_be_given(authority: Authority, ca: Path, tmp_path: Path) -> None:
    async with served(tmp_path, authority.issue("models.example")) as port:
        tls = Tls(ca=ca, server_name="models.example")
        async with AsyncClient(f"127.0.0.1:{port}", tls=tls) as client:
            assert [model.name for model in await client.models()] == ["vae"]
        said = await failure(port, Tls(ca=ca))
        assert f"the certificate of 127.0.0.1:{port} is for other names; " in said


async def test_a_client_shows_its_certificate_where_it_is_asked_for_one(
    authority: Authority, ca: Path, tmp_path: Path
) -> None:
    authority.issue("a", purpose=CLIENT).write(tmp_path / "mine")
    mine = Tls(ca=ca, cert=tmp_path / "mine" / "tls.crt", key=tmp_path / "mine" / "tls.key")
    async with served(tmp_path, authority.issue(*LOCAL), ca) as port:
        async with AsyncClient(f"127.0.0.1:{port}", tls=mine) as client:
            assert [model.name for model in await client.models()] == ["vae"]
        closed = f"127.0.0.1:{port} closed the connection during the handshake; "
        said = await failure(port, Tls(ca=ca))
        assert f"{closed}it may ask its clients for a certificate, and this one was given none" in said
        Authority("Other").issue("a").write(tmp_path / "other")
        said = await failure(port, replace(mine, cert=tmp_path / "other/tls.crt", key=tmp_path / "other/tls.key"))
        assert f"{closed}it may not take this client's certificate" in said


@pytest.mark.parametrize(
    ("issue", "reason"),
    [
        (lambda ca: ca.issue(*LOCAL, ends=timedelta(days=-1)), "has expired; it must be renewed"),
        (lambda ca: ca.issue(*LOCAL, begins=timedelta(days=1)), "is not valid yet; are the clocks right?"),
        (lambda _: Authority("Other").issue(*LOCAL), UNKNOWN),
        (lambda _: Authority("Other").issue(*LOCAL, by_itself=True), UNKNOWN),
    ],
    ids=["expired", "not yet", "of another CA", "of itself"],
)
async def test_a_certificate_that_is_not_trusted_is_refused_with_the_reason(
    authority: Authority, ca: Path, tmp_path: Path, issue: Callable[[Authority], Issued], reason: str
) -> None:
    async with served(tmp_path, issue(authority)) as port:
        assert f"the certificate of 127.0.0.1:{port} {reason}" in await failure(port, Tls(ca=ca))


async def test_a_server_that_comes_back_with_a_certificate_that_has_expired_is_told(
    authority: Authority, ca: Path, tmp_path: Path
) -> None:
    tls = Tls(ca=ca)
    async with served(tmp_path, authority.issue(*LOCAL)) as port:
        address = f"127.0.0.1:{port}"
        client, blocking = AsyncClient(address, timeout=2.0, tls=tls), Client(address, timeout=2.0, tls=tls)
        await asyncio.gather(client.models(), asyncio.to_thread(blocking.models))
    authority.issue(*LOCAL, ends=timedelta(days=-1)).write(tmp_path / "tls")
    async with client, running_server(tmp_path / "models", listen=address, **tls_options(tmp_path / "tls")):
        calls = client.models(), asyncio.to_thread(blocking.models)
        for error in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(error, DeadlineExceededError)
            assert f"the certificate of {address} has expired; it must be renewed" in error.message
    await asyncio.to_thread(blocking.close)


async def test_one_side_alone_that_speaks_tls_is_told(authority: Authority, ca: Path, tmp_path: Path) -> None:
    async with served(tmp_path, authority.issue(*LOCAL, purpose=SERVER)) as port:
        assert f"127.0.0.1:{port} closed the connection at once; does it speak TLS?" in await failure(port, None)
    async with running_server(tmp_path / "models") as running:
        port = running.server.port
        assert f"127.0.0.1:{port} speaks no TLS; call it without" in await failure(port, Tls(ca=ca))


async def test_the_command_takes_options_or_variables(authority: Authority, ca: Path, tmp_path: Path) -> None:
    async with served(tmp_path, authority.issue(*LOCAL)) as port:

        async def models(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
            argv = [COMMAND, "--server", f"127.0.0.1:{port}", *map(str, words), "models"]
            others = {name: value for name, value in os.environ.items() if not name.startswith("LATENTSERVE_")}
            run = lambda: subprocess.run(argv, capture_output=True, text=True, env=others | variables, timeout=60)  # noqa: E731
            return await asyncio.to_thread(run)

        assert (await models("--tls-ca", ca)).stdout.startswith("NAME")
        assert (await models(LATENTSERVE_CLIENT_TLS_CA=os.fspath(ca))).stdout.startswith("NAME")
        untrusted = await models("--tls")
        assert untrusted.returncode == 1
        assert f"the certificate of 127.0.0.1:{port} is of no CA that this client trusts" in untrusted.stderr
        assert untrusted.stderr.count("\n") == 1, untrusted.stderr
        wrong = await models("--tls-cert", "mine.crt")
        assert (wrong.returncode, "TLS certificate mine.crt: its key must be given, too" in wrong.stderr) == (2, True)
        wrong = await models(LATENTSERVE_CLIENT_TLS="maybe")
        assert (wrong.returncode, "LATENTSERVE_CLIENT_TLS=maybe: must be true or false" in wrong.stderr) == (2, True)


def test_files_that_cannot_be_used_are_told_apart(authority: Authority, ca: Path, tmp_path: Path) -> None:
    issued, other = authority.issue("a").write(tmp_path / "a"), authority.issue("b").write(tmp_path / "b")
    assert issued.certificate != other.certificate
    authority.issue("c", password=b"secret").write(tmp_path / "c")
    (tmp_path / "text").write_text("neither\n")
    files = {name: os.fspath(tmp_path / name) for name in ("text", "missing")}
    cert, key = (os.fspath(tmp_path / "a" / f"tls.{end}") for end in ("crt", "key"))
    for tls, said in (
        (Tls(ca=files["missing"]), f"TLS CA {files['missing']}: No such file or directory"),
        (Tls(ca=files["text"]), f"TLS CA {files['text']}: holds no certificate in PEM that can be read"),
        (Tls(cert=files["text"], key=key), f"TLS certificate {files['text']}: holds no certificate in PEM"),
        (Tls(cert=cert, key=files["text"]), f"TLS key {files['text']}: holds no private key in PEM"),
        (Tls(cert=cert, key=tmp_path / "b" / "tls.key"), f"is not the key of the certificate in {cert}"),
        (Tls(cert=tmp_path / "c" / "tls.crt", key=tmp_path / "c" / "tls.key"), "it is encrypted; give one that is not"),
    ):
        with pytest.raises(RequestError) as caught:
            Client("127.0.0.1:1", tls=tls)
        assert said in str(caught.value)
    with pytest.raises(RequestError, match="its certificate must be given, too"):
        Tls(key=key)
