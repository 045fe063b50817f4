"""A grpc.aio server that answers every call with the same bytes: the floor of what a call costs there.

python -m front.empty_server PORT BYTES
"""

from __future__ import annotations

import asyncio
import sys

import grpc


class Same(grpc.GenericRpcHandler):
    """Answers every unary method."""

    def __init__(self, reply: bytes) -> None:
        async def answer(request: bytes, context: object) -> bytes:
            return reply

        self._handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[bytes, bytes]:
        """The one handler, whatever the method."""
        return self._handler


async def serve(port: int, size: int) -> None:
    """Listen until the process ends."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Same(bytes(size)),))
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1]), int(sys.argv[2])))
