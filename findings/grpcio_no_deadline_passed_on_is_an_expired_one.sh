#!/usr/bin/env bash
# A call without a deadline, passed on with its remaining time, fails at once with DEADLINE_EXCEEDED.
#
# Versions: grpcio 1.85.1.
# Behaviour: in a server with threads (grpc.server), context.time_remaining() of a call without a deadline is about
#   9.2e18 seconds, where its documentation says None. A client that gets such a number, or math.inf, as a timeout
#   ends the call at once with DEADLINE_EXCEEDED and sends nothing; so it does from about 7.4e9 seconds on, a time
#   beyond the year 2262. asyncio's server does return None; asyncio's client treats inf as the other one does.
# Expected: None for no deadline; and a timeout that is endless, or 292 billion years, to be the same as none.
# Output seen:
#   caller with 5 s: OK, the front had 5 s left
#   caller without a deadline: DEADLINE_EXCEEDED after 0.0 s, the front had 9.2e+18 s left, the backend saw nothing
#   timeout=math.inf: DEADLINE_EXCEEDED after 0.0 s
# Why it matters: stub.Call(request, timeout=context.time_remaining()) is how a Python service hands a deadline on to
#   a model server. It works for every caller that sets a deadline and fails for every one that does not, with an
#   error that speaks of slowness. "is None" never holds there, so a default for such callers is never used.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grpcio==1.85.1

"$folder/venv/bin/python" - <<'PYTHON'
import math
import time
from concurrent.futures import ThreadPoolExecutor

import grpc


def serve(method):
    server = grpc.server(ThreadPoolExecutor(4))
    handler = grpc.unary_unary_rpc_method_handler(method)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo", {"Call": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, grpc.insecure_channel(f"127.0.0.1:{port}").unary_unary("/demo/Call")


def backend(request, context):
    reached.append(request)
    return b""


def front(request, context):
    left.append(context.time_remaining())
    try:
        return call_backend(request, timeout=context.time_remaining())
    except grpc.RpcError as error:
        context.abort(error.code(), error.details())


def outcome(call, timeout):
    begin = time.monotonic()
    try:
        call(b"", timeout=timeout)
        return "OK", 0
    except grpc.RpcError as error:
        return error.code().name, time.monotonic() - begin


reached, left = [], []
backend_server, call_backend = serve(backend)
front_server, call_front = serve(front)
bounded, _ = outcome(call_front, 5)
print(f"caller with 5 s: {bounded}, the front had {left[-1]:.0f} s left")
reached.clear()
endless, seconds = outcome(call_front, None)
saw = f"{len(reached)} calls" if reached else "nothing"
print(
    f"caller without a deadline: {endless} after {seconds:.1f} s, "
    f"the front had {left[-1]:.1e} s left, the backend saw {saw}"
)
infinite, seconds = outcome(call_backend, math.inf)
print(f"timeout=math.inf: {infinite} after {seconds:.1f} s")
front_server.stop(None).wait()
backend_server.stop(None).wait()
if (bounded, endless, infinite) != ("OK", "DEADLINE_EXCEEDED", "DEADLINE_EXCEEDED"):
    raise SystemExit("changed: an endless deadline is no longer an expired one")
PYTHON
