"""Who calls, by the token that a call brings along."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any

from latentserve_server.access.allowance import Allowances, Limits
from latentserve_server.access.authorization import bearer_token
from latentserve_server.access.caller import Caller
from latentserve_server.access.followed_file import FollowedFile
from latentserve_server.access.token_file import read_token_file
from latentserve_server.access.tokens import PREFIX, TokenTable
from latentserve_server.configuration.config import ServerConfig
from latentserve_server.errors import ConfigError, Unauthenticated

if TYPE_CHECKING:
    from latentserve_server.access.signed_tokens import SignedTokens


class Authentication:
    """Tells callers by their tokens: those of a file, and those that an issuer signs."""

    def __init__(self, tokens: FollowedFile[TokenTable] | None, signed: SignedTokens | None) -> None:
        self._tokens = tokens
        self._signed = signed
        self._following = list[asyncio.Task[None]]()

    def start(self) -> None:
        """Follow the files, and what else changes, from now on."""
        sources: list[Coroutine[Any, Any, None]] = []
        if self._tokens is not None:
            sources.append(self._tokens.follow())
        if self._signed is not None:
            sources.append(self._signed.follow())
        self._following = [asyncio.get_running_loop().create_task(source) for source in sources]

    def stop(self) -> None:
        """Follow nothing any more. Harmless twice, and where it was not started."""
        for task in self._following:
            task.cancel()

    def stale_files(self) -> int:
        """How many of what is followed make no sense now, so that what they said before counts."""
        return sum(source is not None and source.is_stale for source in (self._tokens, self._signed))

    def caller_of(self, metadata: Iterable[tuple[str, str | bytes]]) -> Caller:
        """Whose call it is that has this metadata.

        Raises:
            Unauthenticated: it has no token that is valid. KeysMissing: that cannot be said now.
        """
        token = bearer_token(metadata)
        if token.startswith(PREFIX):
            if self._tokens is None:
                raise Unauthenticated("unknown")
            return self._tokens.value.caller_of(token)
        if self._signed is None:
            raise Unauthenticated("malformed")
        return self._signed.caller_of(token)


def authentication(config: ServerConfig) -> Authentication | None:
    """What tells callers, as it is configured; None where nobody is asked who they are.

    Raises:
        ConfigError: a file cannot be read, or what is in it makes no sense, or a library is missing.
    """
    if not config.tokens and not config.jwt_keys:
        return None
    tokens = FollowedFile("--tokens", config.tokens, _table) if config.tokens else None
    return Authentication(tokens, _signed_tokens(config) if config.jwt_keys else None)


def allowances(config: ServerConfig, refused: Callable[[str], None]) -> Allowances | None:
    """What callers may have, as it is configured; None where they are not told apart.

    `refused` is told of every refusal, by one of few words.
    """
    default = Limits(
        config.caller_calls_per_second,
        config.caller_rows_per_second,
        config.caller_rows_in_flight,
        config.caller_calls_in_flight,
    )
    tells_apart = config.tokens or config.jwt_keys or default.bound_something
    return Allowances(default, refused) if tells_apart else None


def _table(data: bytes, path: str) -> TokenTable:
    return TokenTable(read_token_file(data, path))


def _signed_tokens(config: ServerConfig) -> SignedTokens:
    try:
        from latentserve_server.access.signed_tokens import signed_tokens  # an extra: few need it
    except ImportError as error:
        needed = f"needs the package latentserve-server[jwt]: {error}"
        raise ConfigError(f"--jwt-keys {config.jwt_keys}: {needed}") from error
    return signed_tokens(config.jwt_keys, config.jwt_issuer, config.jwt_audience)
