"""What goes with every call besides its message: the deadline and the request id."""

from __future__ import annotations

import math
import re
import uuid
from collections.abc import Iterable
from typing import Any

from latentserve_client.errors import RequestError

REQUEST_ID_KEY = "x-request-id"

_REQUEST_ID = re.compile(r"[!-~]{1,128}", re.ASCII)


def build_timeout(timeout: float) -> float:
    """`timeout` in seconds, where it is one."""
    if not 0 < timeout < math.inf:
        raise RequestError(f"timeout {timeout!r} is not a positive number of seconds")
    return timeout


def build_call(
    default_timeout: float, *, timeout: float | None = None, request_id: str | None = None
) -> tuple[float, str]:
    """A call's seconds and its id: what CallOptions say, else `default_timeout` and a UUID."""
    seconds = default_timeout if timeout is None else build_timeout(timeout)
    if request_id is None:
        return seconds, uuid.uuid4().hex
    if _REQUEST_ID.fullmatch(request_id) is None:
        raise RequestError(f"request_id {request_id!r} is not 1 to 128 visible ASCII characters")
    return seconds, request_id


def parse_request_id(metadata: Iterable[Any] | None, sent: str) -> str:
    """The id under which the server logged the call: the one in its trailing (key, value) pairs, else the one sent."""
    for key, value in metadata or ():
        if key == REQUEST_ID_KEY and isinstance(value, str):
            return value
    return sent
