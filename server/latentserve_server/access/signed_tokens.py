"""JSON Web Tokens (RFC 7519) that an issuer signs, as callers."""

from __future__ import annotations

import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import jwt

from latentserve_server.access.caller import EVERY_MODEL, Caller, Scope
from latentserve_server.access.key_set import Key, KeyFile, KeySet, KeyUrl
from latentserve_server.access.token_file import JWT_CALLERS, read_models
from latentserve_server.errors import KeysMissing, Unauthenticated

_LEEWAY_SECONDS = 10
"""By which clocks may differ."""
_MAX_CACHED = 4096
_MAX_SUBJECT = 128


class SignedTokens:
    """The callers of the tokens of one issuer for one audience."""

    def __init__(self, keys: KeySet, issuer: str, audience: str) -> None:
        self._keys = keys
        self._issuer = issuer
        self._audience = audience
        self._known: dict[bytes, tuple[Caller, float]] = {}

    @property
    def is_stale(self) -> bool:
        """Whether the keys cannot be had now, so that those of before count."""
        return self._keys.is_stale

    async def follow(self) -> None:
        """Keep the keys up to date. Ends by cancellation alone."""
        await self._keys.follow(self._known.clear)

    def caller_of(self, token: str) -> Caller:
        """The caller whom a token names. A signature is verified once; until the token expires it is known.

        Raises:
            Unauthenticated: it is not signed by one of the keys, has expired, or is not of the issuer for the audience.
            KeysMissing: its key is not there, and the keys are being fetched.
        """
        digest = sha256(token.encode()).digest()
        if (known := self._known.get(digest)) is not None:
            if time.time() < known[1]:
                return known[0]
            del self._known[digest]
        claims = self._claims_of(token)
        caller = _caller(claims)
        if len(self._known) >= _MAX_CACHED:
            del self._known[next(iter(self._known))]
        self._known[digest] = caller, float(claims["exp"]) + _LEEWAY_SECONDS
        return caller

    def _claims_of(self, token: str) -> Mapping[str, Any]:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.PyJWTError as error:
            raise Unauthenticated("malformed") from error
        key = self._key_of(header)
        try:
            claims: Mapping[str, Any] = jwt.decode(
                token,
                key.public,
                algorithms=key.algorithms,
                issuer=self._issuer,
                audience=self._audience,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )
            return claims
        except jwt.ExpiredSignatureError as error:
            raise Unauthenticated("expired") from error
        except (jwt.InvalidSignatureError, jwt.InvalidAlgorithmError, jwt.InvalidKeyError) as error:
            raise Unauthenticated("signature") from error
        except (jwt.PyJWTError, ValueError, TypeError) as error:
            raise Unauthenticated("claims") from error

    def _key_of(self, header: Mapping[str, Any]) -> Key:
        keys, identity = self._keys.keys, header.get("kid")
        key = next(iter(keys.values())) if identity is None and len(keys) == 1 else keys.get(str(identity))
        if key is not None:
            return key
        if self._keys.is_being_renewed():
            raise KeysMissing("the keys that tokens are verified with are being fetched; try again")
        raise Unauthenticated("signature")


def signed_tokens(keys: str, issuer: str, audience: str) -> SignedTokens:
    """The callers of the tokens that are signed with the keys of a file or a URL.

    Raises:
        ConfigError: the file cannot be read, or holds no keys.
    """
    return SignedTokens(KeyUrl(keys) if "://" in keys else KeyFile(keys), issuer, audience)


def _caller(claims: Mapping[str, Any]) -> Caller:
    """Whom the claims name: scopes from `scope`, words between spaces, and models from `models`, a list of patterns.

    Other words of `scope` are for other servers. Without `models` every model may be used.

    Raises:
        Unauthenticated: one of these claims is of another form.
    """
    subject, scope, models = claims.get("sub", ""), claims.get("scope", ""), claims.get("models", [EVERY_MODEL])
    if not isinstance(scope, str) or not isinstance(models, list) or not all(isinstance(one, str) for one in models):
        raise Unauthenticated("claims")
    try:
        patterns = read_models(models)
    except ValueError as error:
        raise Unauthenticated("claims") from error
    words = scope.split()
    scopes = frozenset(one for one in Scope if one.value in words)
    return Caller(f"{JWT_CALLERS}:{str(subject)[:_MAX_SUBJECT]}", scopes, patterns, JWT_CALLERS)
