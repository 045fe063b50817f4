"""One call from its arrival until its reply has left: how it ends, what its servicer sees of it, and what runs it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from contextvars import copy_context
from typing import Any, NoReturn, Protocol

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from latentserve_server.access.allowance import Allowance
from latentserve_server.access.caller import Caller
from latentserve_server.batching.batch import AwaitedResult
from latentserve_server.batching.scheduling import NEVER
from latentserve_server.errors import LatentServeError, Unread
from latentserve_server.telemetry.tracing.calls import CallTrace
from latentserve_server.wire.admission import Admission, BytesUnderWay
from latentserve_server.wire.core import Call, Completions, Metadata
from latentserve_server.wire.services import Method
from latentserve_server.wire.status import retry_after_ms, status_of

_logger = logging.getLogger(__name__)

_JITTER_SECONDS = 0.02
"""How much longer than its cancellation a request may take to arrive."""
_MAX_MESSAGE_BYTES = 1024
"""The longest status message; gRPC sends other bytes than those of printable ASCII as three, and drops trailers over 8
KiB."""


class Aborted(Exception):
    """A servicer of gRPC's own ends its call with a status."""


class Answers(Protocol):
    """What answers calls."""

    def request_came(self, exchange: Exchange, raw: bytes | None) -> None:
        """Answer the request of these bytes, or that there is none."""
        ...

    def check_model(self, exchange: Exchange, request: Any) -> None:
        """Hold a request to the models that the caller may use.

        Raises:
            NotPermitted: it names another one.
        """
        ...


class Exchange(Call):
    """One call and its end, which is OK unless something is noted. To the servicer it is the call's context."""

    method: Method
    """What was called, once that is known."""

    __slots__ = (
        "_allowed",
        "_answers",
        "_has_place",
        "_reading",
        "_sizes",
        "_under_way",
        "_unread_timeout",
        "allowance",
        "began_ns",
        "caller",
        "code",
        "deadline",
        "is_cut_off",
        "message",
        "method",
        "model",
        "places",
        "refused_for",
        "request_id",
        "task",
        "token",
        "trace",
        "trailers",
    )

    def __init__(
        self,
        arrival: Any,
        completions: Completions,
        answers: Answers,
        under_way: BytesUnderWay,
        unread_timeout: float,
    ) -> None:
        """`unread_timeout` seconds is how long a message of a stream waits for its reader."""
        super().__init__(arrival, completions)
        self.request_id = self.model = self.message = self.refused_for = self.token = ""
        self.caller: Caller | None = None
        """Who calls, where that is asked."""
        self.allowance: Allowance | None = None
        """What its caller may have, where callers are told apart."""
        self.code = grpc.StatusCode.OK
        self.trailers: Metadata = ()
        self.trace: CallTrace | None = None
        """None where it is not sampled."""
        self.task: asyncio.Task[None] | Driver | None = None
        """What answers it."""
        self.is_cut_off = False
        """Whether the server ends it, and not its caller."""
        self.began_ns = time.monotonic_ns()
        """When it came, on the monotonic clock, which the event loop keeps, too."""
        self._allowed = self.time_remaining()
        self.deadline = NEVER if self._allowed is None else self.began_ns / 1e9 + self._allowed
        """Until when its caller waits, in seconds of that clock; infinity where there is no end."""
        self._answers = answers
        self._reading: asyncio.Future[bytes | None] | None = None
        self._unread_timeout = unread_timeout
        self._under_way = under_way
        self.places: Admission[Exchange] | None = None
        """What counts it."""
        self._has_place = False
        self._sizes: list[int] = []

    def received(self, message: bytes | None) -> None:
        """The request is here, or the next one of a stream."""
        if self._reading is None:
            self._answers.request_came(self, message)
        elif not self._reading.done():
            self._reading.set_result(message)

    def take_place(self) -> None:
        """Count it among the calls under way, and among those of its caller."""
        if self.places is not None:
            self.places.take(self)
        if self.allowance is not None:
            self.allowance.take_place()
            self._has_place = True

    def leave_place(self) -> None:
        """Count it no longer among the calls under way. Harmless where it is not counted."""
        if self.places is not None:
            self.places.leave(self)
        if self._has_place and self.allowance is not None:
            self.allowance.leave_place()
            self._has_place = False

    async def read(self) -> bytes | None:
        """The next message of a stream of requests; None after the last one."""
        self._reading = asyncio.get_running_loop().create_future()
        self.receive()
        return await self._reading

    async def write(self, message: Message) -> None:
        """Send a message of a stream; it returns when gRPC has taken it, which holds one for a reader who is behind.

        Raises:
            Unread: nobody made room for it in time. CancelledError: the caller has gone.
        """
        if self.closed:
            raise asyncio.CancelledError
        if self._sizes and self.method.takes_stream:  # a reply a request, in their order
            self._under_way.leave(self._sizes.pop(0))
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.send(message.SerializeToString(), lambda: None if future.done() else future.set_result(None))
        try:
            async with asyncio.timeout(self._unread_timeout):
                await future
        except TimeoutError:
            raise Unread(f"nobody read the stream for {self._unread_timeout:g} s") from None

    async def abort(self, code: grpc.StatusCode, details: str = "") -> NoReturn:
        """End the call with a status.

        Raises:
            Aborted: always.
        """
        self.code, self.message = code, details
        raise Aborted

    def fail(self, error: LatentServeError) -> None:
        """Note what the error is to the caller."""
        self.code, self.message = status_of(error), _short(str(error))
        self.trailers = (*self.trailers, *_advice(error, self.message))

    def enter(self, size: int) -> None:
        """Count the bytes of a request as under way, until it has been answered.

        Raises:
            Overloaded: there are too many, of all calls. CancelledError: the call has ended meanwhile.
        """
        if self.closed:
            raise asyncio.CancelledError
        self._under_way.enter(size)
        self._sizes.append(size)

    def may_use(self, model: str) -> bool:
        """Whether the caller may use, and know of, a model of the repository."""
        return self.caller is None or self.caller.may_use(model)

    def check_request(self, request: Message) -> None:
        """Hold a request of a stream to what the caller may have, and to the models that it may use.

        Raises:
            OverLimit: the caller has made too many. NotPermitted: it names another model.
        """
        if self.allowance is not None:
            self.allowance.begin_call()
        self._answers.check_model(self, request)

    def cut_off(self) -> None:
        """End it as UNAVAILABLE: the server stops."""
        self.is_cut_off = True
        if self.task is not None:
            self.task.cancel()

    def ended(self) -> None:
        """Stop what answers it, and count it and its bytes no longer."""
        self.leave_place()
        if self.task is not None and not self.task.done():
            self.task.cancel()
        for size in self._sizes:
            self._under_way.leave(size)
        self._sizes.clear()

    def note_leaving(self) -> None:
        """Note that the caller has gone, or waits no longer."""
        late = is_late(self._allowed, self.time_remaining())
        self.code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED

    def note_lateness(self) -> None:
        """Note that an answer comes after its deadline, where it does: its caller waits no longer."""
        if self.code is grpc.StatusCode.OK and time.monotonic_ns() / 1e9 > self.deadline:
            self.code = grpc.StatusCode.DEADLINE_EXCEEDED

    def reply(self, message: bytes | None = None) -> None:
        """Send the status that was noted, after a last message."""
        self.end(self.code.value[0], self.message, self.trailers, message)


def is_late(allowed: float | None, remaining: float | None) -> bool:
    """Whether a call that ended with so many seconds left of those allowed was given up for its deadline.

    A caller cancels by its own clock, a little before ours: gRPC rounds timeouts up on their way, by up to a hundredth.
    Cancelled by hand within that hundredth, a second at most, a call is taken for a late one, too.
    """
    if allowed is None or remaining is None:
        return False
    return remaining <= min(allowed * 0.1, min(allowed * 0.01, 1.0) + _JITTER_SECONDS)


def _short(message: str) -> str:
    data = message.encode(errors="replace")
    return (
        data.decode() if len(data) <= _MAX_MESSAGE_BYTES else f"{data[:_MAX_MESSAGE_BYTES].decode(errors='ignore')}..."
    )


def _advice(error: LatentServeError, message: str) -> Metadata:
    """Trailing metadata that tells a refused caller when to come back: as pushback and as google.rpc.RetryInfo."""
    milliseconds = retry_after_ms(error)
    if milliseconds is None:
        return ()
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromMilliseconds(milliseconds)
    status = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message=message)
    status.details.add().Pack(info)
    return ("grpc-retry-pushback-ms", str(milliseconds)), ("grpc-status-details-bin", status.SerializeToString())


class Driver:
    """Runs one coroutine, which raises nothing.

    What it awaits is a future. It begins at once, and goes on at once when a batch has its result, where a task would
    wait for the event loop to come round. Nothing in it may ask for the current task, as `asyncio.timeout` does.
    """

    __slots__ = ("_context", "_coroutine", "_is_cancelled", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine: Coroutine[Any, Any, None] | None = coroutine
        self._context = copy_context()
        self._is_cancelled = False
        self._waits_for: Any = None
        self._step(coroutine.send, None)

    def done(self) -> bool:
        """Whether the coroutine has ended."""
        return self._coroutine is None

    def cancel(self) -> None:
        """Raise CancelledError in the coroutine, where it waits. Harmless twice, and once it has ended."""
        if self._coroutine is None:
            return
        self._is_cancelled = True
        waits_for = self._waits_for
        if isinstance(waits_for, AwaitedResult):
            waits_for.resume = None
            waits_for.cancel()
            self._resume()
        elif waits_for is not None:
            waits_for.cancel()  # it resumes, or is about to

    def _step(self, go_on: Callable[[Any], Any], value: Any) -> None:
        try:
            waits_for = self._context.run(go_on, value)
        except BaseException as end:
            self._coroutine = self._waits_for = None
            if not isinstance(end, StopIteration):
                _logger.exception("a call was not answered")  # others are answered by the same stack
            return
        self._waits_for = waits_for
        waits_for._asyncio_future_blocking = False  # which says to the future that its await was understood
        if isinstance(waits_for, AwaitedResult):
            waits_for.resume = self._resume
        else:
            waits_for.add_done_callback(self._resume)

    def _resume(self, _: Any = None) -> None:
        if self._coroutine is None:
            return
        self._waits_for = None
        if self._is_cancelled:
            self._is_cancelled = False
            self._step(self._coroutine.throw, asyncio.CancelledError())
        else:
            self._step(self._coroutine.send, None)
