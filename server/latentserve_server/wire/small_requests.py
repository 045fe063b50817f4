"""Checked parsing for gRPC's own services, health and reflection."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc

from latentserve_server.errors import InvalidArgument
from latentserve_server.wire.field_count import FREE_BYTES, not_a_message
from latentserve_server.wire.interceptor import Context, Handler
from latentserve_server.wire.status import status_of

_OWN = "/grpc."


class SmallRequests(grpc.aio.ServerInterceptor):
    """Refuses what is no request of these services, which name a service or a symbol, or is longer than that takes."""

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The handler of the call, wrapped."""
        handler = await continuation(handler_call_details)
        if handler is None or not handler_call_details.method.startswith(_OWN):
            return handler
        behaviour: Any = handler.stream_stream or handler.unary_stream or handler.unary_unary

        async def answer(received: Any, context: Context) -> Any:
            refusal: InvalidArgument | None = None
            try:
                try:
                    if handler.request_streaming:
                        async for response in behaviour(_parse_all(handler, context), context):
                            await context.write(response)
                        return None
                    return await behaviour(_parse(handler, received), context)
                except InvalidArgument as error:
                    refusal = error.with_traceback(None)
                await context.abort(status_of(refusal), str(refusal))
            finally:
                del received, context  # as in CallInterceptor

        if handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(answer, None, handler.response_serializer)
        if handler.response_streaming:
            return grpc.unary_stream_rpc_method_handler(answer, None, handler.response_serializer)
        return grpc.unary_unary_rpc_method_handler(answer, None, handler.response_serializer)


async def _parse_all(handler: Handler, context: Context) -> AsyncIterator[Any]:
    while (raw := await context.read()) is not grpc.aio.EOF:
        yield _parse(handler, raw)


def _parse(handler: Handler, raw: Any) -> Any:
    if len(raw) > FREE_BYTES:
        raise InvalidArgument("request", f"{len(raw)} bytes; {FREE_BYTES} are allowed")
    try:
        deserialize: Any = handler.request_deserializer
        return deserialize(raw)
    except Exception as error:
        raise not_a_message() from error
