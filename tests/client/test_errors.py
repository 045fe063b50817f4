"""Statuses become classes, with what a caller needs to report them."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import pytest

import latentserve_client
from latentserve_client import CallError, errors

Invoke = Callable[..., Awaitable[Any]]
STATUSES = [code for code in grpc.StatusCode if code is not grpc.StatusCode.OK]
CALL_ERRORS = {
    grpc.StatusCode.CANCELLED: errors.CancelledError,
    grpc.StatusCode.UNKNOWN: errors.InternalError,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgumentError,
    grpc.StatusCode.DEADLINE_EXCEEDED: errors.DeadlineExceededError,
    grpc.StatusCode.NOT_FOUND: errors.NotFoundError,
    grpc.StatusCode.ALREADY_EXISTS: errors.CallError,
    grpc.StatusCode.PERMISSION_DENIED: errors.PermissionDeniedError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.ResourceExhaustedError,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPreconditionError,
    grpc.StatusCode.ABORTED: errors.CallError,
    grpc.StatusCode.OUT_OF_RANGE: errors.InvalidArgumentError,
    grpc.StatusCode.UNIMPLEMENTED: errors.UnimplementedError,
    grpc.StatusCode.INTERNAL: errors.InternalError,
    grpc.StatusCode.UNAVAILABLE: errors.UnavailableError,
    grpc.StatusCode.DATA_LOSS: errors.InternalError,
    grpc.StatusCode.UNAUTHENTICATED: errors.UnauthenticatedError,
}


@pytest.mark.parametrize("code", STATUSES, ids=lambda code: code.name)
async def test_a_status_is_raised_as_its_class(invoke: Invoke, faults: list[Any], code: grpc.StatusCode) -> None:
    faults.extend([code] * 4)
    with pytest.raises(CallError) as raised:
        await invoke("sample", "linear", 1, request_id="job-17/3")
    error = raised.value
    assert type(error) is CALL_ERRORS[code]
    assert (error.code, error.method, error.request_id) == (code, "Sample", "job-17/3")
    assert error.message == f"told to say {code.name}"
    assert str(error) == f"told to say {code.name} [Sample: {code.name}, request job-17/3]"
    assert isinstance(error.__cause__, grpc.RpcError)


@pytest.mark.parametrize(
    ("method", "args", "name"),
    [
        ("models", (), "ListModels"),
        ("model", ("linear",), "GetModel"),
        ("encode", ("linear", [b"x"]), "Encode"),
        ("reconstruct", ("linear", [b"x"]), "Reconstruct"),
    ],
)
async def test_an_error_names_its_method(
    invoke: Invoke, faults: list[Any], method: str, args: tuple[Any, ...], name: str
) -> None:
    faults.append(grpc.StatusCode.INTERNAL)
    with pytest.raises(errors.InternalError) as raised:
        await invoke(method, *args)
    assert raised.value.method == name


def test_errors_survive_pickling() -> None:
    error = errors.NotFoundError(grpc.StatusCode.NOT_FOUND, "no such model", "Sample", "abc")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(copy) is errors.NotFoundError
    assert (copy.code, copy.message, copy.method, copy.request_id) == (error.code, "no such model", "Sample", "abc")


def test_the_drawn_tree_is_the_tree() -> None:
    tree = inspect.getdoc(errors) or ""
    classes = {name for name, member in inspect.getmembers(errors, inspect.isclass) if issubclass(member, Exception)}
    assert {word for word in tree.split() if word.endswith("Error") and word != "ValueError)"} == classes
    assert classes <= set(latentserve_client.__all__)
