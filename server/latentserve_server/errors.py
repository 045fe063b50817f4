"""The server's errors, in one tree that knows no transport.

LatentServeError
├── InvalidArgument         the request is malformed; names the field
├── ModelNotFound           no such model, version or alias
├── CapabilityMissing       the model cannot answer this kind of call
├── Unauthenticated         the call brings no valid token along
├── KeysMissing             whether a token is valid cannot be said, for now
├── NotPermitted            the call is known but not for this caller, or for none of this service
├── ModelNotReady           the model is known but cannot answer now
├── ChangeRefused           the repository is not in a state that allows the change
├── StoreFailure            a bundle cannot be had from where it is stored, or not be loaded in time, for now
├── Overloaded              the queue is full
│   └── OverLimit           the caller has what it may have
├── DeadlineExpired         the caller's deadline passed while its rows waited
├── ShuttingDown            the server takes no more calls
├── Unread                  a caller does not read the stream that it asked for
├── WorkerGone              a worker process ended before it had done what it was asked for
├── EngineFailure           a graph did not run
│   └── NotFinite           a graph ran, and made NaN or infinity of a row
└── StartupError            the server cannot start
    ├── ConfigError         an option has a value that is not allowed
    │   └── OptionError     the value itself, or beside the other options
    ├── BundleError         a bundle is incomplete, damaged or not what it says
    │   └── PrecisionShortfall  a graph in lower precision is further from float32 here than it says
    └── DeviceError         the device asked for is not there, or not really in use
"""

from __future__ import annotations

import errno

_MAX_LINE = 500
"""Characters of a message that quotes what came from outside; it must fit the trailers of a reply."""

_PASSING = frozenset(
    getattr(errno, name)
    for name in (
        *("EMFILE", "ENFILE", "ENOMEM", "ENOBUFS", "EAGAIN", "EBUSY", "EINTR", "EIO", "ESTALE", "EREMOTEIO"),
        *("ETIMEDOUT", "ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN"),
        *("ENETRESET", "ENETUNREACH", "ENOTCONN", "ENOLINK", "ESHUTDOWN"),
    )
    if hasattr(errno, name)
)
"""Of the operating system, that may pass: a lack of resources, or storage that cannot be reached."""


class LatentServeError(Exception):
    """Base of every error that this package raises on purpose."""


class InvalidArgument(LatentServeError):
    """A field of a request has a value that is not allowed."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class ModelNotFound(LatentServeError):
    """No model, version or alias of that name is in the repository."""


class CapabilityMissing(LatentServeError):
    """The model exists but cannot answer this kind of call, as a GAN cannot encode."""


class Unauthenticated(LatentServeError):
    """The call brings no valid token along. The message is the same whatever is wrong, and helps nobody to guess.

    `reason` is one of few words, for the metrics; `token` is the id of a token that has one, for the log.
    """

    def __init__(self, reason: str, token: str = "") -> None:
        super().__init__("a valid bearer token is needed")
        self.reason = reason
        self.token = token


class KeysMissing(LatentServeError):
    """Whether a token is valid cannot be said, for now: the keys of who signs them are still being fetched."""

    reason = "keys"


class NotPermitted(LatentServeError):
    """The call is known, and not for this caller, or for none of this service.

    `reason` is what the caller's token does not permit: "scope" or "model".
    """

    def __init__(self, message: str, *, reason: str = "scope") -> None:
        super().__init__(message)
        self.reason = reason


class ModelNotReady(LatentServeError):
    """The model exists but is loading, unloading or broken."""


class ChangeRefused(LatentServeError):
    """What is served cannot be changed so: a version does not load, is not READY, or an alias points to it."""


class StoreFailure(LatentServeError):
    """A bundle cannot be had from where the repository is stored, or not be loaded in time; it may be the next time."""


class Overloaded(LatentServeError):
    """The queue is full, or the wait in it would go beyond the caller's deadline.

    `retry_after` is the time, in seconds, after which the queue as it stands will have been worked off; 0 when unknown.
    """

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OverLimit(Overloaded):
    """The caller has as many calls or rows as it may have; `retry_after` says when it may have more, 0 when unknown."""


class DeadlineExpired(LatentServeError):
    """The caller's deadline passed before its rows reached the engine."""


class ShuttingDown(LatentServeError):
    """The server is stopping and takes no more calls."""


class Unread(LatentServeError):
    """A caller did not read its stream for so long that the server gave it up."""


class WorkerGone(LatentServeError):
    """A worker process ended before it had done what it was asked for."""


class EngineFailure(LatentServeError):
    """A graph did not run, or returned something other than its manifest promises."""


class NotFinite(EngineFailure):
    """A graph made NaN or infinity of a row. Where the caller chose the row, that is the caller's to mend."""

    def __init__(self, row: int, output: str) -> None:
        """`row` counts the call's rows from 0."""
        super().__init__(f"output {output} of row {row} is not finite")
        self.row = row
        self.output = output


class StartupError(LatentServeError):
    """The server cannot start; the message is one line for the operator."""


class ConfigError(StartupError):
    """An option has a value that is not allowed."""


class OptionError(ConfigError):
    """The value of one option is not allowed, whatever the others are."""

    def __init__(self, flag: str, value: object, problem: str) -> None:
        super().__init__(f"{flag} {value}: {problem}")
        self.flag = flag
        self.problem = problem


class BundleError(StartupError):
    """A bundle is incomplete, damaged, or not what its manifest says. The message is one short line of text."""

    def __init__(self, message: str) -> None:
        line = " ".join(message.encode(errors="replace").decode().split())  # it may quote what the bundle says
        super().__init__(line if len(line) <= _MAX_LINE else f"{line[:_MAX_LINE]}...")


class PrecisionShortfall(BundleError):
    """A graph in lower precision is further from float32 on this machine than its manifest says."""


class DeviceError(StartupError):
    """The device asked for is missing, or onnxruntime does not really use it."""


def is_passing(error: OSError) -> bool:
    """Whether the same may succeed later, though nobody changes the files."""
    return error.errno in _PASSING
