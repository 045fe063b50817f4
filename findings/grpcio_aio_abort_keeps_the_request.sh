#!/usr/bin/env bash
# A request that an asyncio handler refuses by context.abort stays in memory until the garbage collector runs.
#
# Versions: grpcio 1.85.1, CPython 3.11 or newer.
# Behaviour: context.abort of grpc.aio raises an exception and keeps it with the call. The exception holds its
#   traceback, that the handler's frame, and that the context, which holds the call: a cycle with the request in it,
#   which only the collector frees. The collector counts objects, not bytes, so dozens of refused requests of any size
#   wait for it. A handler that raises another exception, or sets a code and returns, frees its request at once, and so
#   does abort in grpc.server.
# Expected: a refused request is freed when the call has ended.
# Output seen (the collector switched off; 20 requests of 1 MB each):
#   context.abort: 20 of 20 requests in memory, after gc.collect() no more than 2
#   context.abort after "del request": no more than 2
#   an exception: no more than 2
#   set_code and return: no more than 2
#   context.abort in grpc.server: no more than 2
#   with the collector on, 300 requests: 46 in memory at most (the number varies)
# Why it matters: a server refuses when it is full or when what it gets is too large, and then keeps what it refuses:
#   memory rises by dozens of the largest messages, and by all of them in a service that has frozen or switched off
#   the collector to avoid its pauses. Delete the request before abort, in every frame that holds it.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grpcio==1.85.1

"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
import gc
import logging
import weakref
from concurrent.futures import ThreadPoolExecutor

import grpc

logging.disable(logging.ERROR)  # the exception of one of the handlers


class Request:
    """A request that counts those in memory, and the most there were."""

    alive = most = 0

    def __init__(self, message):
        self.message = message
        Request.alive += 1
        Request.most = max(Request.most, Request.alive)
        weakref.finalize(self, Request.freed)

    @staticmethod
    def freed():
        Request.alive -= 1


async def aborts(request, context):
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "too large")


async def deletes_and_aborts(request, context):
    del request
    await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "too large")


async def raises(request, context):
    raise ValueError("too large")


async def returns(request, context):
    context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
    return b""


def aborts_in_a_thread(request, context):
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, "too large")


def add(server, *handlers):
    methods = {
        handler.__name__: grpc.unary_unary_rpc_method_handler(handler, request_deserializer=Request)
        for handler in handlers
    }
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("service", methods)])
    return server.add_insecure_port("127.0.0.1:0")


async def refuse(port, handler, calls):
    """Return how many of the requests are in memory when all calls have ended, and how many were at most."""
    gc.collect()
    Request.most = 0
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.unary_unary(f"/service/{handler.__name__}")
        for _ in range(calls):
            try:
                await method(bytes(1_000_000))
            except grpc.aio.AioRpcError:
                pass
    await asyncio.sleep(0.5)  # the server's side of the last call
    return Request.alive, Request.most


def words(alive):
    return "no more than 2" if alive <= 2 else f"{alive} of 20 requests in memory"


async def main():
    server, threads = grpc.aio.server(), grpc.server(ThreadPoolExecutor(1))
    port = add(server, aborts, deletes_and_aborts, raises, returns)
    thread_port = add(threads, aborts_in_a_thread)
    await server.start()
    threads.start()
    gc.disable()
    kept, _ = await refuse(port, aborts, 20)
    gc.collect()
    print(f"context.abort: {words(kept)}, after gc.collect() {words(Request.alive)}")
    left = [Request.alive]
    for handler, label in (
        (deletes_and_aborts, 'context.abort after "del request"'),
        (raises, "an exception"),
        (returns, "set_code and return"),
    ):
        left.append((await refuse(port, handler, 20))[0])
        print(f"{label}: {words(left[-1])}")
    left.append((await refuse(thread_port, aborts_in_a_thread, 20))[0])
    print(f"context.abort in grpc.server: {words(left[-1])}")
    gc.enable()
    _, most = await refuse(port, aborts, 300)
    print(f"with the collector on, 300 requests: {most} in memory at most")
    threads.stop(0)
    await server.stop(0)
    if kept < 18 or max(left) > 2:
        raise SystemExit("changed: other refused requests stay in memory")


asyncio.run(main())
PYTHON
