"""One call as both clients make it: its request, its metadata and its reply."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Callable, Iterable
from typing import Any, Generic, TypeVar

import grpc

from latentserve.contract import REQUEST_ID_KEY
from latentserve_client.errors import CLASS_BY_STATUS, CallError, RequestError, from_rpc_error

RequestT = TypeVar("RequestT")
ResponseT = TypeVar("ResponseT")
ResultT = TypeVar("ResultT")

_REQUEST_ID = re.compile(r"[!-~]{1,128}", re.ASCII)


class Exchange(Generic[ResultT]):
    """A request, what goes with it, and what the answer means to the caller. The clients send it and wait.

    Args:
        method: the RPC's name, which no two services share.
        request: the message to send.
        parse: the request, its reply and the id under which the server logged the call, to the call's result.
        timeout: seconds for the call, retries included; None is the client's own.
        request_id: 1 to 128 visible ASCII characters; None is a UUID.

    Raises:
        RequestError: `timeout` or `request_id` is none.
    """

    def __init__(
        self,
        method: str,
        request: RequestT,
        parse: Callable[[RequestT, ResponseT, str], ResultT],
        timeout: float | None,
        request_id: str | None,
    ) -> None:
        self.method = method
        self.request: Any = request
        self.timeout = None if timeout is None else build_timeout(timeout)
        self._parse: Callable[[Any, Any, str], ResultT] = parse
        self._request_id = uuid.uuid4().hex if request_id is None else _build_request_id(request_id)

    @property
    def metadata(self) -> tuple[tuple[str, str], ...]:
        """The metadata that is sent along with the message."""
        return ((REQUEST_ID_KEY, self._request_id),)

    def result(self, response: Any, trailing: Iterable[Any] | None = None) -> ResultT:
        """What the reply means to the caller, with the trailing metadata of a call that has ended."""
        return self._parse(self.request, response, _find_request_id(trailing) or self._request_id)

    def failure(self, error: grpc.RpcError) -> CallError:
        """What a call's error means to the caller; to be raised from it."""
        logged = _find_request_id(error.trailing_metadata())
        return from_rpc_error(error, self.method, logged or self._request_id, answered=logged is not None)

    def ended(self, code: grpc.StatusCode, message: str) -> CallError:
        """What it means that the call ended without a word from the server."""
        return CLASS_BY_STATUS[code](code, message, self.method, self._request_id, answered=False)


def _find_request_id(trailing: Iterable[Any] | None) -> str | None:
    """The id in the trailing (key, value) pairs, with which a server ends every call; gRPC itself sets none."""
    for key, value in trailing or ():
        if key == REQUEST_ID_KEY and isinstance(value, str):
            return value
    return None


def build_timeout(timeout: float) -> float:
    """`timeout` in seconds, where it is one."""
    if not 0 < timeout < math.inf:
        raise RequestError(f"timeout {timeout!r} is not a positive number of seconds")
    return timeout


def _build_request_id(request_id: str) -> str:
    if _REQUEST_ID.fullmatch(request_id) is None:
        raise RequestError(f"request_id {request_id!r} is not 1 to 128 visible ASCII characters")
    return request_id
