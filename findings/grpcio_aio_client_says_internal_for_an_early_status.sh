#!/usr/bin/env bash
# A stream that a server refuses at once sometimes ends as INTERNAL in grpc.aio's client, whatever the server said.
#
# Versions: grpcio 1.85.1, CPython 3.11 or newer.
# Behaviour: the client of grpc.aio takes the messages of a stream of requests from an iterator and sends them one by
#   one. Where the server's status arrives while the first of them is being handed over, sending fails, and the call ends
#   with StatusCode.INTERNAL and "Internal error from Core". The status, its message and its trailing metadata are lost.
#   The blocking client of the same package has the server's status every time.
# Expected: the status that the server sent.
# Output seen (a server that does not know the method, 400 calls each; the first number varies):
#   grpc.aio: 20 calls INTERNAL, the others UNIMPLEMENTED
#   grpc: 0 calls INTERNAL, the others UNIMPLEMENTED
# Why it matters: a server that is full refuses before it reads, and says when to come back. The quicker it does, the
#   more callers are told of an error inside, which nobody retries. A server may send its refusals of such calls some
#   milliseconds later; a client may treat this message as UNAVAILABLE.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grpcio==1.85.1

"$folder/venv/bin/python" - <<'PYTHON'
import asyncio
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc

METHOD, CALLS, ROUNDS = "/a.Service/Unknown", 400, 20


async def ask(port):
    """How calls of grpc.aio end."""
    seen = Counter()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        await channel.channel_ready()
        method = channel.stream_stream(METHOD)
        for _ in range(CALLS):
            try:
                await method(iter([b""])).read()
            except grpc.aio.AioRpcError as error:
                seen[error.code().name, error.details()] += 1
    return seen


def ask_blocking(port):
    """How calls of the blocking client end."""
    seen = Counter()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        method = channel.stream_stream(METHOD)
        for _ in range(CALLS):
            try:
                list(method(iter([b""])))
            except grpc.RpcError as error:
                seen[error.code().name, error.details()] += 1
    return seen


def words(seen):
    internal = seen["INTERNAL", "Internal error from Core"]
    others = sorted({code for code, _ in seen} - {"INTERNAL"})
    return internal, f"{internal} calls INTERNAL, the others {' '.join(others)}"


server = grpc.server(ThreadPoolExecutor(2))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
for _ in range(ROUNDS):  # it is a matter of chance
    lost, said = words(asyncio.run(ask(port)))
    if lost:
        break
print("grpc.aio:", said)
blocking_lost, said = words(ask_blocking(port))
print("grpc:", said)
server.stop(0)
if not lost or blocking_lost:
    raise SystemExit("changed: the status of a refused stream arrives otherwise")
PYTHON
