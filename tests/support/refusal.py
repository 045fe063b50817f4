"""What a caller is told whose call is refused."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import grpc
import pytest


async def refusal(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    """The error that a call ends with, which is to be refused."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


async def invalid(call: Awaitable[Any]) -> str:
    """What the INVALID_ARGUMENT says that a call ends with."""
    error = await refusal(call)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    return error.details() or ""


async def invalid_field(call: Awaitable[Any]) -> str:
    """The field that the INVALID_ARGUMENT names which a call ends with; it stands before the first colon."""
    field, colon, _ = (await invalid(call)).partition(": ")
    assert colon
    return field
