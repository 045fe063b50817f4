#!/usr/bin/env bash
# grpc.max_allowed_incoming_connections holds for each address that a server listens on, and not for the server.
#
# Versions: grpcio 1.85.1.
# Behaviour: the channel argument is described as the number of connections allowed to the server. Each listener has a
#   count of its own: with a limit of 2, a server with two ports takes 2 on each. One port of a name with two addresses,
#   such as localhost with 127.0.0.1 and ::1, is two listeners as well.
# Expected: one count for the server.
# Output seen:
#   one port: 2 of 6 clients connected
#   two ports: 4 of 6 clients connected
# Why it matters: the limit bounds file descriptors and the buffers that each connection brings. A server with a port
#   for callers and one for its administration takes twice what was computed, and one that binds to a name may do so on
#   one machine and not on another. Divide the limit by the listeners.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet grpcio==1.85.1

"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
from concurrent.futures import ThreadPoolExecutor

import grpc

LIMIT = ("grpc.max_allowed_incoming_connections", 2)
OWN_CONNECTION = ("grpc.use_local_subchannel_pool", 1)


def connected(ports):
    """Return how many of six clients, spread over its ports, reach a server that listens on so many."""
    server = grpc.server(ThreadPoolExecutor(1), options=[LIMIT])
    echo = {"Echo": grpc.unary_unary_rpc_method_handler(lambda request, context: request)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("service", echo)])
    targets = [f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}" for _ in range(ports)]
    server.start()
    answers = 0
    with contextlib.ExitStack() as stack:
        stack.callback(server.stop, 0)
        for client in range(6):
            channel = stack.enter_context(grpc.insecure_channel(targets[client % ports], options=[OWN_CONNECTION]))
            try:
                channel.unary_unary("/service/Echo")(b"", timeout=5)
                answers += 1
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
    return answers


one, two = connected(1), connected(2)
print(f"one port: {one} of 6 clients connected")
print(f"two ports: {two} of 6 clients connected")
if (one, two) != (2, 4):
    raise SystemExit("changed: connections are counted in another way")
PYTHON
