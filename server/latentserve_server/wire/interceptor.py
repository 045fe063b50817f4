"""The interceptor of all model calls: request ids, admission, errors, metrics, access log."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc
from google.rpc import error_details_pb2, status_pb2

from latentserve.contract import REQUEST_ID_KEY
from latentserve_server.errors import LatentServeError, Unread
from latentserve_server.telemetry.logs import request_id
from latentserve_server.telemetry.metrics import Metrics
from latentserve_server.wire.admission import Admission
from latentserve_server.wire.bytes_under_way import BytesUnderWay
from latentserve_server.wire.field_count import FieldLimits, check_fields, not_a_message
from latentserve_server.wire.headers import check_headers
from latentserve_server.wire.sending import Sender
from latentserve_server.wire.status import retry_after_ms, status_of

_logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

_GUARDED = ("/latentserve.", "/inference.")
_MAX_REQUEST_ID = 128
_PRINTABLE = re.compile(r"[ -~]+")
"""The characters that gRPC allows in metadata."""
_MAX_WATCHES = 1000
"""Streams of health and reflection at a time, of one listener; they last as long as their callers wish."""
_CUT_OFF = "the server stopped before the call was answered; ask another one"
_JITTER_SECONDS = 0.02
"""How much longer than its cancellation a request may take to arrive."""
_MAX_MESSAGE_BYTES = 1024
"""The longest status message; gRPC sends other bytes than those of printable ASCII as three, and drops trailers over 8
KiB."""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the calls of the services that run models; of health and reflection, only the number is bounded."""

    def __init__(
        self,
        metrics: Metrics,
        model_of: Callable[[Any], str],
        admission: Admission,
        under_way: BytesUnderWay,
        limits: FieldLimits,
        *,
        max_header_bytes: int,
        unread_timeout: float,
        access_log: bool,
    ) -> None:
        """`model_of` is the model of a request, as the metrics call it; empty where it is none of the repository's."""
        self._metrics = metrics
        self._model_of = model_of
        self._admission = admission
        self._watches = Admission(_MAX_WATCHES)
        self._under_way = under_way
        self._limits = limits
        self._max_header_bytes = max_header_bytes
        self._unread_timeout = unread_timeout
        self._access_level = logging.INFO if access_log else logging.DEBUG

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler of the call, wrapped."""
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        metadata = tuple(handler_call_details.invocation_metadata or ())
        refusal: LatentServeError | None = check_headers(metadata, self._max_header_bytes)
        if not handler_call_details.method.startswith(_GUARDED):
            if refusal is None and handler.response_streaming and not self._watches.take():
                refusal = self._watches.refusal()
            return handler if refusal is None else grpc.stream_stream_rpc_method_handler(_turning_away(refusal))
        if refusal is None and not self._admission.take():
            refusal = self._admission.refusal()
        if refusal is not None:
            # For gRPC a stream, whatever the call is, because no message of a stream is read before its handler asks.
            handler = grpc.stream_stream_rpc_method_handler(_refusing(refusal))
        caller_id = dict(metadata).get(REQUEST_ID_KEY, "")
        call = _Ending(handler_call_details.method.rpartition("/")[2], str(caller_id))
        serialize: Any = handler.response_serializer

        # Requests are parsed within the guard, so that bytes that are no message get a status of ours, too.
        async def answer(received: Any, context: Context) -> Any:
            try:
                response = await self._guard(call, handler, received, context)
                if call.code is not grpc.StatusCode.OK:
                    await context.abort(call.code, call.message, call.trailers)
                return response
            except grpc.aio.InternalError as gone:  # a message is on its way that its reader does not take
                raise asyncio.CancelledError from gone
            finally:
                # The context keeps the abort's error, and its traceback this frame: if that held the context and the
                # request, both would stay in memory until the collector runs.
                del received, context

        def serialize_answer(response: Any) -> bytes:
            self._leave(call, 1)  # an answer a request, in order
            return bytes(serialize(response))

        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(answer, None, serialize_answer)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(answer, None, serialize)
        return grpc.unary_unary_rpc_method_handler(answer, None, serialize)

    async def _guard(self, call: _Ending, handler: Handler, received: Any, context: Context) -> Any:
        """The response, or None where `call` then says why there is none. No error outlives it, nor do its frames.

        Raises:
            CancelledError: the caller has gone, or waits no longer.
        """
        request_id.set(call.request_id)
        context.set_trailing_metadata(call.trailers)
        started, allowed = time.monotonic(), context.time_remaining()
        self._metrics.call_started(call.method)
        try:
            self._admission.begin(context)
            self._leave_at_the_end(call, context)
            return await self._respond(call, handler, received, context)
        except (asyncio.CancelledError, grpc.aio.InternalError) as gone:  # a write may fail before the cancellation
            if not self._admission.has_ended:
                late = is_late(allowed, context.time_remaining())
                call.code = grpc.StatusCode.DEADLINE_EXCEEDED if late else grpc.StatusCode.CANCELLED
                raise asyncio.CancelledError from gone
            call.code, call.message = grpc.StatusCode.UNAVAILABLE, _CUT_OFF
        except LatentServeError as error:
            call.fail(error)
            if isinstance(error, Unread):
                self._admission.give_up(context)
        except Exception:
            _logger.exception("%s failed", call.method)
            call.code = grpc.StatusCode.INTERNAL
            call.message = f"internal error; see the log of request {call.request_id}"
        finally:
            self._admission.end()
            self._record(call, time.monotonic() - started)
        return None

    async def _respond(self, call: _Ending, handler: Handler, received: Any, context: Context) -> Any:
        """Run the handler on the request, or on the stream of requests."""
        behaviour: Any = handler.stream_stream or handler.unary_stream or handler.unary_unary
        if handler.request_streaming:
            return await behaviour(self._parse_all(call, handler, context), context)
        request = self._parse(call, handler, received)
        if not handler.response_streaming:
            return await behaviour(request, context)
        # Writes to the context: a generator would be left suspended, and to the collector, where the caller goes.
        sender = Sender(context, seconds=self._unread_timeout)
        async with aclosing(behaviour(request, context)) as responses:
            async for response in responses:
                await sender.send(response)
        return None

    def _leave_at_the_end(self, call: _Ending, context: Context) -> None:
        """Count the call's bytes until its reply has left, which is when gRPC says that it is done."""

        def done(_: Context) -> None:
            self._leave(call, len(call.sizes))

        callback: Any = done  # the stubs take no function
        context.add_done_callback(callback)

    def _leave(self, call: _Ending, requests: int) -> None:
        """Count the bytes of the call's first requests as under way no longer."""
        for _ in range(requests):
            self._under_way.leave(call.sizes.popleft())

    async def _parse_all(self, call: _Ending, handler: Handler, context: Context) -> AsyncIterator[Any]:
        """The requests of a stream; gRPC's own iterator of them would be left to the collector."""
        while (raw := await context.read()) is not grpc.aio.EOF:
            yield self._parse(call, handler, raw)

    def _parse(self, call: _Ending, handler: Handler, raw: Any) -> Any:
        """The request of these bytes, which count as under way from now on.

        Raises:
            Overloaded: there are too many, of all calls. InvalidArgument: they are no message, or hold too much.
        """
        self._under_way.enter(len(raw))
        call.sizes.append(len(raw))
        deserialize: Any = handler.request_deserializer
        check_fields(raw, deserialize.__self__.DESCRIPTOR, self._limits)
        try:
            request = deserialize(raw)
        except Exception as error:
            raise not_a_message() from error
        call.model = self._model_of(request)
        return request

    def _record(self, call: _Ending, seconds: float) -> None:
        self._metrics.call_ended(call.method, call.model, call.code.name, seconds)
        fields = {"method": call.method, "model": call.model, "code": call.code.name, "seconds": round(seconds, 6)}
        level = logging.ERROR if call.code is grpc.StatusCode.INTERNAL else self._access_level
        _logger.log(level, "%s %s", call.method, call.message or call.code.name, extra=fields)


def _refusing(error: LatentServeError) -> Callable[..., Awaitable[None]]:
    """A handler that raises the error."""

    async def refuse(requests: AsyncIterator[Any], context: Context) -> None:
        raise error.with_traceback(None)

    return refuse


def _turning_away(error: LatentServeError) -> Callable[..., Awaitable[None]]:
    """A handler that ends a call with the error's status, for those that nothing is wrapped around."""

    async def turn_away(requests: AsyncIterator[bytes], context: Context) -> None:
        try:
            await context.abort(status_of(error), str(error), _advice(error, str(error)))
        finally:
            del requests, context  # as in `answer`

    return turn_away


def is_late(allowed: float | None, remaining: float | None) -> bool:
    """Whether a call that ended with so many seconds left of those allowed was given up for its deadline.

    A caller cancels by its own clock, a little before ours: gRPC rounds timeouts up on their way, by up to a hundredth.
    Cancelled by hand within that hundredth, a second at most, a call is taken for a late one, too.
    """
    if allowed is None or remaining is None:
        return False
    return remaining <= min(allowed * 0.1, min(allowed * 0.01, 1.0) + _JITTER_SECONDS)


class _Ending:
    """How a call ends; OK unless something is noted."""

    def __init__(self, method: str, caller_id: str) -> None:
        asked = caller_id[:_MAX_REQUEST_ID]
        self.method = method
        self.request_id = asked if _PRINTABLE.fullmatch(asked) else uuid.uuid4().hex
        self.model = ""
        self.code = grpc.StatusCode.OK
        self.message = ""
        self.sizes: deque[int] = deque()
        """Bytes of the requests that are under way, in their order."""
        self.trailers: tuple[tuple[str, str | bytes], ...] = ((REQUEST_ID_KEY, self.request_id),)

    def fail(self, error: LatentServeError) -> None:
        """Note what the error is to the caller."""
        self.code, self.message = status_of(error), _short(str(error))
        self.trailers += _advice(error, self.message)


def _short(message: str) -> str:
    data = message.encode(errors="replace")
    return message if len(data) <= _MAX_MESSAGE_BYTES else f"{data[:_MAX_MESSAGE_BYTES].decode(errors='ignore')}..."


def _advice(error: LatentServeError, message: str) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata that tells a refused caller when to come back: as pushback and as google.rpc.RetryInfo."""
    milliseconds = retry_after_ms(error)
    if milliseconds is None:
        return ()
    info = error_details_pb2.RetryInfo()
    info.retry_delay.FromMilliseconds(milliseconds)
    status = status_pb2.Status(code=grpc.StatusCode.RESOURCE_EXHAUSTED.value[0], message=message)
    status.details.add().Pack(info)
    return ("grpc-retry-pushback-ms", str(milliseconds)), ("grpc-status-details-bin", status.SerializeToString())
