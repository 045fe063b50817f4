"""The way to a server, as all calls and streams of a client know it, and where it has failed."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import grpc

from latentserve_client._calls.channel import proxy_variable
from latentserve_client._calls.exchange import Exchange
from latentserve_client.errors import CallError

EventT = TypeVar("EventT", bound=threading.Event | asyncio.Event)


class Link(Generic[EventT]):
    """The way to one server, or to all of one name.

    Args:
        target: the address; None for a channel of the caller's own.
        closing: set when the client is closed.
        is_connected: whether there is a connection now.

    Attributes:
        closing: as given.
        answered: whether there was ever an answer. From then on calls wait, within their timeouts, while there is no
            connection, for the server was there and comes back. Before, the address may be wrong, and they fail.
    """

    def __init__(self, target: str | None, closing: EventT, is_connected: Callable[[], bool]) -> None:
        self._target = target
        self._is_connected = is_connected
        self._proxy = None if target is None else proxy_variable(target)
        self.closing = closing
        self.answered = False

    def failure(self, exchange: Exchange[Any], error: grpc.RpcError, timeout: float) -> CallError:
        """What a call's error means to the caller; where no server gave it, with what is known on this side.

        To be raised from it.
        """
        failure = exchange.failure(error)
        if failure.answered:
            self.answered = True
            return failure
        if failure.code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return self.late(exchange, "answer", timeout)
        return exchange.ended(failure.code, f"{failure.message}{self._by_proxy()}")

    def late(self, exchange: Exchange[Any], what: str, timeout: float) -> CallError:
        """What it means that there is no `what` after so many seconds."""
        if self._is_connected():
            why = "the server was reached and is not done"
        else:
            why = f"there is no connection{f' to {self._target}' if self._target else ''}{self._by_proxy()}"
        message = f"no {what} within the timeout of {timeout:g} s: {why}"
        return exchange.ended(grpc.StatusCode.DEADLINE_EXCEEDED, message)

    def _by_proxy(self) -> str:
        if self._proxy is None:
            return ""
        return f"; {self._proxy} is set, and gRPC goes through that proxy unless no_proxy names the host"
