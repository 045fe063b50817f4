#!/usr/bin/env bash
# A call that waited 30 seconds for an asyncio server is cancelled by the server, whatever its deadline.
#
# Versions: grpcio 1.85.1.
# Behaviour: while the event loop is busy with something else, calls wait in gRPC's core. Those that have waited longer
#   than grpc.server_max_unrequested_time_in_server, by default 30 seconds, are answered CANCELLED once the loop is
#   free, without a message, and the handler never sees them. The status is the one of a caller that gave up; the
#   caller's deadline of 10 minutes makes no difference. A few calls that core had handed on before are answered. With
#   the argument set to an hour, all are.
# Expected: an answer, late, as the deadlines allow; or UNAVAILABLE or RESOURCE_EXHAUSTED, which clients retry.
# Output seen (20 calls while the loop is busy; how many of them are handed on before varies by a few):
#   busy for 2 s: 20 OK, the handler saw 20
#   busy for 33 s: 19 CANCELLED, 1 OK, the handler saw 1
#   busy for 33 s, grpc.server_max_unrequested_time_in_server of 3600: 20 OK, the handler saw 20
# Why it matters: a handler that loads or compiles a model in the loop's own thread holds it for so long once, in
#   production, with the large model. Its callers see calls cancelled that nobody cancelled, which the usual retry
#   policies do not repeat, and the server's own counts show nothing. Do such work in another thread.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grpcio==1.85.1

cat >"$folder/server.py" <<'PYTHON'
import asyncio
import sys
import time

import grpc

busy_s, *wait_s = map(int, sys.argv[1:])


async def load(request, context):
    time.sleep(busy_s)  # keeps the event loop busy, as a computation would
    return b""


ready_calls = 0


async def ready(request, context):
    global ready_calls
    ready_calls += 1
    return str(ready_calls).encode()


async def main():
    options = [("grpc.server_max_unrequested_time_in_server", seconds) for seconds in wait_s]
    server = grpc.aio.server(options=options)
    methods = {"Load": grpc.unary_unary_rpc_method_handler(load), "Ready": grpc.unary_unary_rpc_method_handler(ready)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("service", methods)])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


asyncio.run(main())
PYTHON

FOLDER=$folder "$folder/venv/bin/python" - <<'PYTHON'
import os
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc


def outcomes(*arguments):
    """Return how 20 calls end that are made while a server's loop is busy, and how many of them its handler saw."""
    command = [sys.executable, os.environ["FOLDER"] + "/server.py", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            with grpc.insecure_channel(f"127.0.0.1:{server.stdout.readline().strip()}") as channel:
                ready = channel.unary_unary("/service/Ready")
                ready(b"", timeout=60)
                load = channel.unary_unary("/service/Load").future(b"", timeout=600)
                time.sleep(0.5)
                calls = [ready.future(b"", timeout=600) for _ in range(20)]
                load.result()
                codes = Counter(call.code().name for call in calls)
                return codes, int(ready(b"", timeout=60)) - 2  # without the first call and this one
        finally:
            server.terminate()


with ThreadPoolExecutor(3) as pool:
    short, long, patient = pool.map(lambda arguments: outcomes(*arguments), (["2"], ["33"], ["33", "3600"]))


def words(outcome):
    codes, seen = outcome
    return ", ".join(f"{number} {code}" for code, number in sorted(codes.items())) + f", the handler saw {seen}"


print(f"busy for 2 s: {words(short)}")
print(f"busy for 33 s: {words(long)}")
print(f"busy for 33 s, grpc.server_max_unrequested_time_in_server of 3600: {words(patient)}")
all_answered = ({"OK": 20}, 20)
codes, seen = long
if short != all_answered or patient != all_answered or codes["CANCELLED"] < 10 or codes.keys() - {"OK", "CANCELLED"}:
    raise SystemExit("changed: calls that have waited end in another way")
if seen != codes["OK"]:
    raise SystemExit("changed: the handler sees calls that are cancelled")
PYTHON
