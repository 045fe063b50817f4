#!/usr/bin/env bash
# A retry policy does nothing for requests of more than 256 KiB.
#
# Versions: grpcio 1.85.1.
# Behaviour: with a retryPolicy in the service config, a call that ends UNAVAILABLE is repeated only while its request
#   fits a buffer of 256 KiB, the default of the channel argument grpc.per_rpc_retry_buffer_size. A larger request is
#   sent once and the first error is final, without a log line; nothing in the error says that the policy was not
#   applied. The message's size counts, not what compression makes of it, and for a stream of requests their sum
#   counts.
# Expected: the policy to hold for every request that may be sent, or a word where it does not.
# Output seen:
#   request of 260,000 bytes: OK after 3 attempts
#   request of 270,000 bytes: UNAVAILABLE after 1 attempt
#   request of 3,000,000 bytes: UNAVAILABLE after 1 attempt
#   request of 3,000,000 bytes, with grpc.per_rpc_retry_buffer_size of 16 MiB: OK after 3 attempts
# Why it matters: a batch of images is larger than that (six of 3 x 64 x 64 in float32 are 288 KiB). Tests of a
#   client's retries are written with small requests and pass; in a rolling update the image calls fail and the small
#   ones do not.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grpcio==1.85.1

"$folder/venv/bin/python" - <<'PYTHON'
import json
from concurrent.futures import ThreadPoolExecutor

import grpc

POLICY = {
    "maxAttempts": 4,
    "initialBackoff": "0.01s",
    "maxBackoff": "0.1s",
    "backoffMultiplier": 2,
    "retryableStatusCodes": ["UNAVAILABLE"],
}
CONFIG = json.dumps({"methodConfig": [{"name": [{}], "retryPolicy": POLICY}]})


def fail_twice(request, context):
    attempts.append(len(request))
    if len(attempts) < 3:
        context.abort(grpc.StatusCode.UNAVAILABLE, "try again")
    return b""


def call(size, *options):
    attempts.clear()
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=[("grpc.service_config", CONFIG), *options]) as channel:
        error = channel.unary_unary("/demo/Call").future(bytes(size), timeout=30).exception()
    return ("OK" if error is None else error.code().name), len(attempts)


def show(what, outcome):
    code, number = outcome
    print(f"{what}: {code} after {number} attempt{'s' if number > 1 else ''}")
    return outcome


attempts = []
server = grpc.server(ThreadPoolExecutor(4))
handler = grpc.unary_unary_rpc_method_handler(fail_twice)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo", {"Call": handler}),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
seen = [show(f"request of {size:,} bytes", call(size)) for size in (260_000, 270_000, 3_000_000)]
buffer = ("grpc.per_rpc_retry_buffer_size", 16 << 20)
seen.append(
    show("request of 3,000,000 bytes, with grpc.per_rpc_retry_buffer_size of 16 MiB", call(3_000_000, buffer))
)
server.stop(None).wait()
if seen != [("OK", 3), ("UNAVAILABLE", 1), ("UNAVAILABLE", 1), ("OK", 3)]:
    raise SystemExit("changed: other requests are retried")
PYTHON
