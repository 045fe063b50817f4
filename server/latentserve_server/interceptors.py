"""What every call of the services that run models shares: request id, errors to status codes, metrics, access log."""

from __future__ import annotations

import asyncio
import logging
import re
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeAlias

import grpc
from google.rpc import error_details_pb2, status_pb2

from latentserve_server.errors import InvalidArgument, LatentServeError, ShuttingDown
from latentserve_server.logs import request_id
from latentserve_server.metrics import Metrics
from latentserve_server.oip_names import split_name
from latentserve_server.status import retry_after_ms, status_of

_logger = logging.getLogger(__name__)

Context = grpc.aio.ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"

REQUEST_ID = "x-request-id"
"""Metadata key: taken from the request where the caller sent one, and always in the reply's trailing metadata."""

_GUARDED = ("/latentserve.", "/inference.")
_MAX_REQUEST_ID = 128
_PRINTABLE = re.compile(r"[ -~]+")
"""All that gRPC sends as metadata."""
_JITTER_SECONDS = 0.02
"""Of the ways of a request and of its cancellation, one against the other."""
_MAX_MESSAGE_BYTES = 1024
"""Of a status message; gRPC sends other bytes than those of printable ASCII as three, and drops trailers over 8 KiB."""


class CallInterceptor(grpc.aio.ServerInterceptor):
    """Wraps the calls of the services that run models; health and reflection pass untouched."""

    def __init__(self, metrics: Metrics, is_model: Callable[[str], bool], *, access_log: bool) -> None:
        """`is_model` keeps made-up names out of the metrics' labels."""
        self._metrics = metrics
        self._is_model = is_model
        self._access_level = logging.INFO if access_log else logging.DEBUG
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._draining = False

    async def drain(self) -> None:
        """Refuse new calls as UNAVAILABLE from now on, and return when the reply of the last one under way has left.

        gRPC itself would give CANCELLED to calls that it has not handed over when it stops.
        """
        self._draining = True
        await self._idle.wait()

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler of the call, wrapped."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(_GUARDED):
            return handler
        method = handler_call_details.method.rpartition("/")[2]
        caller_id = dict(handler_call_details.invocation_metadata or ()).get(REQUEST_ID, "")

        # Requests are parsed within the guard, so that bytes that are no message get a status of ours, too.
        async def unary(raw: bytes, context: Context) -> Any:
            async with self._guard(method, str(caller_id), context) as call:
                behaviour: Any = handler.unary_unary
                return await behaviour(self._parse(handler, raw, call), context)

        # Writes to the context: a generator would be left suspended, and to the collector, where the caller goes.
        async def stream(raw: bytes, context: Context) -> None:
            async with self._guard(method, str(caller_id), context) as call:
                behaviour: Any = handler.unary_stream
                async with aclosing(behaviour(self._parse(handler, raw, call), context)) as responses:
                    async for response in responses:
                        await context.write(response)

        async def duplex(raws: AsyncIterator[bytes], context: Context) -> None:
            async with self._guard(method, str(caller_id), context) as call:
                behaviour: Any = handler.stream_stream
                await behaviour((self._parse(handler, raw, call) async for raw in raws), context)

        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(duplex, None, handler.response_serializer)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(stream, None, handler.response_serializer)
        return grpc.unary_unary_rpc_method_handler(unary, None, handler.response_serializer)

    @asynccontextmanager
    async def _guard(self, method: str, caller_id: str, context: Context) -> AsyncIterator[_Ending]:
        """Around one call: identity before, status after, whatever happens."""
        identity = caller_id[:_MAX_REQUEST_ID]
        if not _PRINTABLE.fullmatch(identity):
            identity = uuid.uuid4().hex
        request_id.set(identity)
        context.set_trailing_metadata(((REQUEST_ID, identity),))
        started, allowed = time.monotonic(), context.time_remaining()
        self._metrics.call_started(method)
        call = _Ending()
        try:
            if self._draining:
                raise ShuttingDown("the server is stopping; ask another one")
            self._take(context)
            yield call
        except (asyncio.CancelledError, grpc.aio.InternalError) as gone:  # a write may fail before the cancellation
            call.code = (
                grpc.StatusCode.DEADLINE_EXCEEDED
                if is_late(allowed, context.time_remaining())
                else grpc.StatusCode.CANCELLED
            )
            raise asyncio.CancelledError from gone
        except LatentServeError as error:
            call.code, call.message = status_of(error), _short(str(error))
            await context.abort(call.code, call.message, ((REQUEST_ID, identity), *_advice(error, call.message)))
        except Exception:
            _logger.exception("%s failed", method)
            call.code, call.message = grpc.StatusCode.INTERNAL, f"internal error; see the log of request {identity}"
            await context.abort(call.code, call.message)
        finally:
            self._record(method, call, time.monotonic() - started)

    def _take(self, context: Context) -> None:
        """Count the call until its reply has left, which is when gRPC says that it is done."""
        self._in_flight += 1
        self._idle.clear()
        done: Any = self._done  # the stubs take no function
        context.add_done_callback(done)

    def _done(self, context: Context) -> None:
        self._in_flight -= 1
        if not self._in_flight:
            self._idle.set()

    def _parse(self, handler: Handler, raw: bytes, call: _Ending) -> Any:
        try:
            deserialize: Any = handler.request_deserializer
            request = deserialize(raw)
        except Exception as error:
            raise InvalidArgument("request", "the bytes are not a message of this call's type") from error
        name, _ = split_name(_model_name(request), self._is_model)
        call.model = name if self._is_model(name) else ""
        return request

    def _record(self, method: str, call: _Ending, seconds: float) -> None:
        self._metrics.call_ended(method, call.model, call.code.name, seconds)
        fields = {"method": method, "model": call.model, "code": call.code.name, "seconds": round(seconds, 6)}
        level = logging.ERROR if call.code is grpc.StatusCode.INTERNAL else self._access_level
        _logger.log(level, "%s %s", method, call.message or call.code.name, extra=fields)


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

    def __init__(self) -> None:
        self.code = grpc.StatusCode.OK
        self.message = ""
        self.model = ""


def _model_name(request: Any) -> str:
    """What the request calls its model: in a reference, or by itself in the Open Inference Protocol."""
    reference = getattr(request, "model", request)
    return str(getattr(reference, "name", "") or getattr(reference, "model_name", ""))


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
