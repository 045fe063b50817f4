"""Errors of the client, and the one table from gRPC status to class.

LatentServeError
├── RequestError (also a ValueError)      refused by the client; nothing was sent
├── ClosedError                           called after close()
├── ReplyError                            the server's reply breaks the contract
├── FormatError (also an AttributeError)  the array of a result that has files, or its files where it has an array
├── NumericsError                         a stream could go on only with other bits
└── CallError                             the call ended with a status; the classes below by status:
    ├── InvalidArgumentError              INVALID_ARGUMENT, OUT_OF_RANGE
    ├── NotFoundError                     NOT_FOUND
    ├── FailedPreconditionError           FAILED_PRECONDITION
    ├── UnimplementedError                UNIMPLEMENTED
    ├── UnauthenticatedError              UNAUTHENTICATED
    ├── PermissionDeniedError             PERMISSION_DENIED
    ├── ResourceExhaustedError            RESOURCE_EXHAUSTED
    ├── DeadlineExceededError             DEADLINE_EXCEEDED
    ├── CancelledError                    CANCELLED
    ├── UnavailableError                  UNAVAILABLE
    └── InternalError                     INTERNAL, UNKNOWN, DATA_LOSS
                                          (ABORTED and ALREADY_EXISTS stay a plain CallError)
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import grpc


class LatentServeError(Exception):
    """The root of everything that the client raises on purpose."""


class RequestError(LatentServeError, ValueError):
    """An argument that no server would accept: a wrong dtype, shape or range. Nothing was sent."""


class ClosedError(LatentServeError):
    """A call on a client that has been closed."""


class ReplyError(LatentServeError):
    """A reply that breaks the contract: fewer rows than asked for, or a tensor that does not fit its own shape."""


class FormatError(LatentServeError, AttributeError):
    """The array was read of a result whose images came as files, or the files of one whose images came as an array."""


class NumericsError(LatentServeError):
    """A stream that was cut off could only go on at servers that compute other last bits than those of its rows so far.

    Attributes:
        index: the index of the first row that has not arrived.
        before: the fingerprint of the bits so far.
        after: the fingerprint of those that would follow; empty where a row's bits depend on its batch there.
    """

    def __init__(self, index: int, before: str, after: str) -> None:
        super().__init__(index, before, after)
        self.index = index
        self.before = before
        self.after = after

    def __str__(self) -> str:
        numerics = f"numerics {self.after}" if self.after else "numerics that depend on the batch"
        return (
            f"from index {self.index} on the rows would have other last bits: {numerics}, not {self.before} as before"
        )


class CallError(LatentServeError):
    """A call that ended with a status other than OK, set by the server or, when it could not be reached, by gRPC.

    Attributes:
        code: the gRPC status.
        message: what the server says was wrong; it names the field.
        method: the RPC's name, such as "Sample".
        request_id: the id under which the server's log has the call.
        answered: whether the server itself ended the call; False where it could not be reached, or was not waited for.
    """

    def __init__(
        self, code: grpc.StatusCode, message: str, method: str, request_id: str, answered: bool = True
    ) -> None:
        # All go to Exception.args: the error survives pickling, as worker pools need.
        super().__init__(code, message, method, request_id, answered)
        self.code = code
        self.message = message
        self.method = method
        self.request_id = request_id
        self.answered = answered

    def __str__(self) -> str:
        return f"{self.message} [{self.method}: {self.code.name}, request {self.request_id}]"


class InvalidArgumentError(CallError):
    """The request is wrong whatever the server's state; the message names the field and what is allowed."""


class NotFoundError(CallError):
    """No such model, version or alias."""


class FailedPreconditionError(CallError):
    """The model cannot answer this kind of call, as a GAN cannot encode."""


class UnimplementedError(CallError):
    """The server does not know this call; it may be older than the client."""


class UnauthenticatedError(CallError):
    """The server asks who calls, and the call brought no token along that is valid: give the client one as `token`.

    A token may have expired or been withdrawn. What is wrong with it is in the server's log, under the request id.
    """


class PermissionDeniedError(CallError):
    """The caller is known and may not make this call: its token has not the scope, or may not use the model.

    The server says the same of a model that it does not have. Or the call is for another service, as loads are.
    """


class ResourceExhaustedError(CallError):
    """The server's queue is full, or a message is over the size limit.

    Not retried, except by a stream where the server says when to come back: more load would not help.
    """


class DeadlineExceededError(CallError):
    """No reply within the call's timeout."""


class CancelledError(CallError):
    """The call was cancelled, as by closing the client from another thread or task."""


class UnavailableError(CallError):
    """The server could not be reached or is shutting down, and retries did not help."""


class InternalError(CallError):
    """The server failed; its log says why, under the request id."""


CLASS_BY_STATUS: Mapping[grpc.StatusCode, type[CallError]] = MappingProxyType(
    {
        grpc.StatusCode.CANCELLED: CancelledError,
        grpc.StatusCode.UNKNOWN: InternalError,
        grpc.StatusCode.INVALID_ARGUMENT: InvalidArgumentError,
        grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineExceededError,
        grpc.StatusCode.NOT_FOUND: NotFoundError,
        grpc.StatusCode.ALREADY_EXISTS: CallError,
        grpc.StatusCode.PERMISSION_DENIED: PermissionDeniedError,
        grpc.StatusCode.RESOURCE_EXHAUSTED: ResourceExhaustedError,
        grpc.StatusCode.FAILED_PRECONDITION: FailedPreconditionError,
        grpc.StatusCode.ABORTED: CallError,
        grpc.StatusCode.OUT_OF_RANGE: InvalidArgumentError,
        grpc.StatusCode.UNIMPLEMENTED: UnimplementedError,
        grpc.StatusCode.INTERNAL: InternalError,
        grpc.StatusCode.UNAVAILABLE: UnavailableError,
        grpc.StatusCode.DATA_LOSS: InternalError,
        grpc.StatusCode.UNAUTHENTICATED: UnauthenticatedError,
    }
)


def from_rpc_error(error: grpc.RpcError, method: str, request_id: str, *, answered: bool) -> CallError:
    """The CallError that says what `error` says; to be raised `from error`."""
    code = error.code()
    return CLASS_BY_STATUS[code](code, error.details() or "no message", method, request_id, answered)
