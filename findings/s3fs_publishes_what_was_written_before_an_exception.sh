#!/usr/bin/env bash
# A file on S3 whose writing fails half-way is published, in the place of the good one.
#
# Versions: s3fs 2026.9.0, fsspec 2026.9.0, boto3 1.43.117 (against moto 5.2.5).
# Behaviour: an exception inside "with filesystem.open(path, 'wb') as file" closes the file, and closing uploads what
#   was written so far as if it were all: a small file by one PUT, a large one by completing its multipart upload. The
#   object that was there before is replaced. The exception goes on to the caller. Inside "with
#   filesystem.transaction" the old object stays.
# Expected: nothing. S3 itself shows an object whole or not at all, an upload that is not completed is never seen, and
#   boto3's upload_fileobj and put keep to that when their source fails.
# Output seen:
#   RuntimeError after 4 bytes: the object is now 4 bytes (it was 1000 bytes)
#   RuntimeError after 12582912 bytes: the object is now 12582912 bytes (it was 1000 bytes)
#   RuntimeError after 4 bytes in a transaction: the object is now 1000 bytes (it was 1000 bytes)
#   boto3, RuntimeError after 12582912 bytes: the object is now 1000 bytes (it was 1000 bytes)
# Why it matters: a writer that raises or is interrupted half-way through a model leaves it truncated under the live
#   name, in the place of the one that worked, and a server that follows the bucket loads it. Write through a
#   transaction, or under another name and move.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fsspec==2026.9.0 s3fs==2026.9.0 "moto[server]==5.2.5" boto3==1.43.117

AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any AWS_DEFAULT_REGION=us-east-1 "$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import logging

import boto3
import s3fs
from moto.server import ThreadedMotoServer

logging.disable(logging.WARNING)  # moto's line for every request


class Source:
    """A file that breaks after 12 MiB, for boto3."""

    left = 12 << 20

    def read(self, size=-1):
        if not self.left:
            raise RuntimeError("the writer failed")
        part = bytes(min(size, self.left))
        self.left -= len(part)
        return part


def write(file, number):
    file.write(bytes(number))
    raise RuntimeError("the writer failed")


def attempt(what, action):
    filesystem.pipe_file("models/weights", bytes(1000))
    try:
        action()
    except RuntimeError as error:
        size = client.head_object(Bucket="models", Key="weights")["ContentLength"]
        print(f"{what}: the object is now {size} bytes (it was 1000 bytes)")
        return size
    raise SystemExit("changed: the exception is lost")


def by_file(number, around):
    with around, filesystem.open("models/weights", "wb") as file:
        write(file, number)


server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
filesystem = s3fs.S3FileSystem(client_kwargs={"endpoint_url": f"http://{host}:{port}"})
client = boto3.client("s3", endpoint_url=f"http://{host}:{port}")
filesystem.mkdir("models")
nothing, large = contextlib.nullcontext(), 12 << 20
seen = [
    attempt("RuntimeError after 4 bytes", lambda: by_file(4, nothing)),
    attempt(f"RuntimeError after {large} bytes", lambda: by_file(large, nothing)),
    attempt("RuntimeError after 4 bytes in a transaction", lambda: by_file(4, filesystem.transaction)),
    attempt(
        f"boto3, RuntimeError after {large} bytes", lambda: client.upload_fileobj(Source(), "models", "weights")
    ),
]
server.stop()
if seen != [4, large, 1000, 1000]:
    raise SystemExit("changed: what is left after an exception is something else")
PYTHON
