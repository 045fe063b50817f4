#!/usr/bin/env bash
# An error whose message is longer than 8 KiB arrives as another status, at random.
#
# Versions: grpcio 1.85.1.
# Behaviour: a status message travels in the trailing metadata, and a client takes 8 KiB of metadata for certain and
#   16 KiB at most. Between the two, each reply is refused with a probability that grows with its size: the caller of
#   a handler that says INVALID_ARGUMENT gets INVALID_ARGUMENT sometimes and RESOURCE_EXHAUSTED ("received metadata
#   size exceeds soft limit") at other times, and only RESOURCE_EXHAUSTED beyond. The server has sent what it was told
#   to, and counts INVALID_ARGUMENT. A character outside of ASCII takes 6 bytes or more, so 1,400 of them are enough.
# Expected: the code of the handler, with its message cut if need be; at least the same answer to the same call.
# Output seen (the numbers between 0 and 200 vary):
#   message of 4,000 characters: INVALID_ARGUMENT 200 of 200
#   message of 12,000 characters: INVALID_ARGUMENT 95, RESOURCE_EXHAUSTED 105 of 200
#   message of 20,000 characters: RESOURCE_EXHAUSTED 200 of 200
#   message of 2,000 times "é": INVALID_ARGUMENT 103, RESOURCE_EXHAUSTED 97 of 200
#   12,000 characters, client with grpc.max_metadata_size of 65,536: INVALID_ARGUMENT 200 of 200
# Why it matters: messages that quote what was wrong (a list of field violations, an error of the model's runtime, the
#   names of a missing tensor and of all there are) get that long. RESOURCE_EXHAUSTED is what clients retry and what
#   autoscalers count, so a call that can never succeed is repeated, and only sometimes. Cut messages in the server.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grpcio==1.85.1

"$folder/venv/bin/python" - <<'PYTHON'
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import grpc


def refuse(request, context):
    context.abort(grpc.StatusCode.INVALID_ARGUMENT, request.decode())


def codes(message, *options):
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
        call = channel.unary_unary("/demo/Call")
        return Counter(call.future(message.encode()).exception().code().name for _ in range(200))


def show(what, counted):
    print(f"{what}: {', '.join(f'{code} {number}' for code, number in sorted(counted.items()))} of 200")
    return set(counted)


server = grpc.server(ThreadPoolExecutor(4))
handler = grpc.unary_unary_rpc_method_handler(refuse)
server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("demo", {"Call": handler}),))
port = server.add_insecure_port("127.0.0.1:0")
server.start()
short = show("message of 4,000 characters", codes("x" * 4_000))
middle = show("message of 12,000 characters", codes("x" * 12_000))
long = show("message of 20,000 characters", codes("x" * 20_000))
accents = show('message of 2,000 times "é"', codes("é" * 2_000))
wide = show(
    "12,000 characters, client with grpc.max_metadata_size of 65,536",
    codes("x" * 12_000, ("grpc.max_metadata_size", 65_536)),
)
server.stop(None).wait()
right, wrong = {"INVALID_ARGUMENT"}, {"RESOURCE_EXHAUSTED"}
if (short, middle, long, accents, wide) != (right, right | wrong, wrong, right | wrong, right):
    raise SystemExit("changed: the codes are others")
PYTHON
