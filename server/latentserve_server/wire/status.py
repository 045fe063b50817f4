"""Errors as gRPC status codes, and when a refused caller may retry."""

from __future__ import annotations

import grpc

from latentserve_server.errors import (
    CapabilityMissing,
    ChangeRefused,
    DeadlineExpired,
    EngineFailure,
    InvalidArgument,
    KeysMissing,
    LatentServeError,
    ModelNotFound,
    ModelNotReady,
    NotPermitted,
    Overloaded,
    ShuttingDown,
    StartupError,
    StoreFailure,
    Unauthenticated,
    Unread,
    WorkerGone,
)

_LEAST_WAIT_MS = 50

STATUS: dict[type[LatentServeError], grpc.StatusCode] = {
    InvalidArgument: grpc.StatusCode.INVALID_ARGUMENT,
    ModelNotFound: grpc.StatusCode.NOT_FOUND,
    CapabilityMissing: grpc.StatusCode.FAILED_PRECONDITION,
    Unauthenticated: grpc.StatusCode.UNAUTHENTICATED,
    KeysMissing: grpc.StatusCode.UNAVAILABLE,
    NotPermitted: grpc.StatusCode.PERMISSION_DENIED,
    ModelNotReady: grpc.StatusCode.UNAVAILABLE,
    ChangeRefused: grpc.StatusCode.FAILED_PRECONDITION,
    StoreFailure: grpc.StatusCode.UNAVAILABLE,
    Overloaded: grpc.StatusCode.RESOURCE_EXHAUSTED,
    DeadlineExpired: grpc.StatusCode.DEADLINE_EXCEEDED,
    ShuttingDown: grpc.StatusCode.UNAVAILABLE,
    Unread: grpc.StatusCode.UNAVAILABLE,
    WorkerGone: grpc.StatusCode.UNAVAILABLE,
    EngineFailure: grpc.StatusCode.INTERNAL,
    StartupError: grpc.StatusCode.INTERNAL,
}
"""The status of every error; a subclass has its parent's."""


def status_of(error: Exception) -> grpc.StatusCode:
    """The status code of an error; INTERNAL for one that is not this package's own."""
    return next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), grpc.StatusCode.INTERNAL)


def retry_after_ms(error: Exception) -> int | None:
    """The time after which a refused caller may come back, in milliseconds; None where waiting would not help."""
    return max(_LEAST_WAIT_MS, round(1000 * error.retry_after)) if isinstance(error, Overloaded) else None
