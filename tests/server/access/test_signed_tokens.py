"""JSON Web Tokens: whom the server takes one from, and how its keys are followed."""

from __future__ import annotations

import asyncio
import http.server
import json
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import jwt
import pytest
from access_tokens import FORBIDDEN, NEEDED, Metadata, TokenShelf, bearer, json_web_key_set
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from held_graph import BACKSTOP_SECONDS, turn_loop
from running_server import RunningServer, running_server

from latentserve.v1 import generation_pb2 as pb
from latentserve_server.access.caller import Scope
from latentserve_server.access.key_set import KeyUrl, read_keys
from latentserve_server.access.signed_tokens import SignedTokens
from latentserve_server.errors import ConfigError, KeysMissing, Unauthenticated

ISSUER, AUDIENCE = "https://issuer.example", "latentserve"
SAMPLE = pb.SampleRequest(model=pb.ModelRef(name="vae"), count=1)
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, NEEDED)
OK = (grpc.StatusCode.OK, "")

EC, OTHER_EC = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WEAK_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  # to be refused
ED = ed25519.Ed25519PrivateKey.generate()
ALGORITHMS = {"ES256": EC, "RS256": RSA, "PS384": RSA, "EdDSA": ED}


def public(key: Any, identity: str, **more: Any) -> dict[str, Any]:
    """The entry of a key set for a private key."""
    kinds = {ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm, rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm}
    kind = next((made for known, made in kinds.items() if isinstance(key, known)), jwt.algorithms.OKPAlgorithm)
    entry: dict[str, Any] = json.loads(kind.to_jwk(key.public_key()))
    return entry | {"kid": identity, "use": "sig"} | more


KEYS = json_web_key_set(public(EC, "ec"), public(RSA, "rsa"), public(ED, "ed"))
IDENTITIES = {"ES256": "ec", "RS256": "rsa", "PS384": "rsa", "EdDSA": "ed"}


def signed(key: Any = EC, algorithm: str = "ES256", identity: str | None = None, **claims: Any) -> str:
    """A token; a claim that is None is left out."""
    named = {"iss": ISSUER, "aud": AUDIENCE, "exp": time.time() + 600, "sub": "somebody", "scope": "generate"}
    payload = {name: value for name, value in (named | claims).items() if value is not None}
    return str(jwt.encode(payload, key, algorithm, headers={"kid": identity or IDENTITIES.get(algorithm, "ec")}))


class KeyShelf(NamedTuple):
    """A file of keys."""

    path: Path

    def write(self, text: str) -> None:
        """Replace what is in it."""
        self.path.write_text(text)


@pytest.fixture
def keys(tmp_path: Path) -> KeyShelf:
    shelf = KeyShelf(tmp_path / "keys.json")
    shelf.write(KEYS)
    return shelf


@pytest.fixture
async def served(repository: Path, keys: KeyShelf, tokens: TokenShelf) -> AsyncIterator[RunningServer]:
    options = {"jwt_keys": str(keys.path), "jwt_issuer": ISSUER, "jwt_audience": AUDIENCE, "tokens": str(tokens.path)}
    tokens.add("billing")
    async with running_server(repository, metrics_listen="127.0.0.1:0", **options) as server:
        yield server


async def outcome(served: RunningServer, caller: Metadata) -> tuple[grpc.StatusCode, str]:
    call = served.generation.Sample(SAMPLE, metadata=caller)
    return await call.code(), await call.details() or ""


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_token_that_the_issuer_signed_is_taken(served: RunningServer, algorithm: str) -> None:
    caller = bearer(signed(ALGORITHMS[algorithm], algorithm))
    assert [await outcome(served, caller) for _ in range(2)] == [OK] * 2
    assert await served.metric("caller_calls_total", caller="jwt", code="OK") == 2


async def test_tokens_of_the_file_are_taken_beside_them(served: RunningServer, tokens: TokenShelf) -> None:
    assert await outcome(served, bearer(tokens.secrets["billing"])) == OK


@pytest.mark.parametrize(
    ("reason", "token"),
    [
        ("expired", lambda: signed(exp=time.time() - 60)),
        ("claims", lambda: signed(exp=None)),
        ("claims", lambda: signed(nbf=time.time() + 600)),
        ("claims", lambda: signed(iss="https://other.example")),
        ("claims", lambda: signed(iss=None)),
        ("claims", lambda: signed(aud="another")),
        ("claims", lambda: signed(aud=None)),
        ("claims", lambda: signed(scope=["generate"])),
        ("claims", lambda: signed(models="vae")),
        ("claims", lambda: signed(models=[])),
        ("signature", lambda: signed(OTHER_EC)),
        ("signature", lambda: signed(identity="rsa")),
        ("signature", lambda: signed(identity="unknown")),
        ("signature", lambda: signed("", "none")),
        ("signature", lambda: signed("x" * 64, "HS256", "rsa")),
        ("malformed", lambda: "a.b.c"),
        ("malformed", lambda: "." * 3000),
    ],
)
async def test_any_other_is_refused_with_the_same_text(
    served: RunningServer, reason: str, token: Callable[[], str]
) -> None:
    assert await outcome(served, bearer(token())) == REFUSED
    assert await served.metric("refused_callers_total", reason=reason) == 1


@pytest.mark.parametrize("claims", [{"scope": "read"}, {"scope": ""}, {"scope": None}, {"models": ["colour", "x-*"]}])
async def test_it_permits_what_its_claims_say_and_no_more(served: RunningServer, claims: dict[str, Any]) -> None:
    assert await outcome(served, bearer(signed(**claims))) == (grpc.StatusCode.PERMISSION_DENIED, FORBIDDEN)
    assert await outcome(served, bearer(signed(scope="openid generate x", models=["va*"], aud=[AUDIENCE, "b"]))) == OK


async def test_keys_are_followed_and_tokens_of_one_that_is_withdrawn_are_not_remembered(
    served: RunningServer, keys: KeyShelf
) -> None:
    old, new = bearer(signed()), bearer(signed(OTHER_EC, identity="new"))
    assert (await outcome(served, old), await outcome(served, new)) == (OK, REFUSED)
    keys.write(json_web_key_set(public(OTHER_EC, "new")))
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while await outcome(served, new) != OK:
            pass
    assert await outcome(served, old) == REFUSED
    keys.write("{")
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while not await served.metric("access_files_stale"):
            pass
    assert await outcome(served, new) == OK


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "is no JSON Web Key Set"),
        ("[]", "is no JSON Web Key Set"),
        ('{"keys": [1]}', "is no JSON Web Key Set"),
        ('{"keys": []}', "holds no public key"),
        (json_web_key_set({"kty": "oct", "k": "c2VjcmV0", "kid": "a"}), "holds no public key"),
        (json_web_key_set(public(WEAK_RSA, "weak")), "holds no public key"),
        (json_web_key_set(public(EC, "a", use="enc")), "holds no public key"),
        (json_web_key_set(public(EC, "a", d="AAAA")), "holds a private key"),
    ],
)
def test_a_set_without_a_public_key_is_refused(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read_keys(text.encode(), "--jwt-keys keys.json")
    assert str(refused.value).startswith(f"--jwt-keys keys.json: {said}")


@contextmanager
def issuer(answers: list[tuple[int, str]]) -> Iterator[str]:
    """The URL of keys that are answered for in turn, the last one for good."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, text = answers.pop(0) if len(answers) > 1 else answers[0]
            self.send_response(status)
            self.send_header("location", "/elsewhere")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/keys"
        finally:
            server.shutdown()
            thread.join()


async def until(holds: Callable[[], bool]) -> None:
    """Return once the condition holds."""
    async with asyncio.timeout(BACKSTOP_SECONDS):
        while not holds():
            await turn_loop()


def is_known(tokens: SignedTokens) -> bool:
    try:
        return bool(tokens.caller_of(signed()))
    except KeysMissing:
        return False


async def test_keys_of_a_url_are_fetched_and_until_then_nothing_is_said_of_a_token() -> None:
    with issuer([(200, KEYS)]) as url:
        tokens = SignedTokens(KeyUrl(url), ISSUER, AUDIENCE)
        with pytest.raises(KeysMissing):
            tokens.caller_of(signed())
        following = asyncio.create_task(tokens.follow())
        await until(lambda: is_known(tokens))
        caller = tokens.caller_of(signed())
        assert (caller.name, caller.scopes) == ("jwt:somebody", frozenset({Scope.GENERATE}))
        with pytest.raises(Unauthenticated):  # and no fetch for each that is made up
            tokens.caller_of(signed(OTHER_EC, identity="made-up"))
        following.cancel()


@pytest.mark.parametrize("answer", [(302, KEYS), (500, ""), (200, "{"), (200, " " * (2 << 20))])
async def test_keys_of_a_url_that_does_not_give_them_are_missing_and_that_is_told(answer: tuple[int, str]) -> None:
    with issuer([answer]) as url:
        tokens = SignedTokens(KeyUrl(url), ISSUER, AUDIENCE)
        following = asyncio.create_task(tokens.follow())
        await until(lambda: tokens.is_stale)
        with pytest.raises(KeysMissing):
            tokens.caller_of(signed())
        following.cancel()
