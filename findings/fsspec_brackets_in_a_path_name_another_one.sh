#!/usr/bin/env bash
# A path with brackets means another path to fsspec: cat and get read, and rm deletes, what was not named.
#
# Versions: fsspec 2026.9.0, s3fs 2026.9.0 (against moto 5.2.5).
# Behaviour: cat, get and rm take every path with brackets for a pattern, also where something of exactly that name
#   exists. run[1] matches run1, so with both in a bucket get("run[1]") fetches run1, and rm("run[1]", recursive=True)
#   deletes run1 and leaves run[1]; without run1 each is a FileNotFoundError. exists, find, ls and cat_file take the
#   name as it is, so what one call has found the next one cannot read. (Of local files, rm alone takes it as it is.)
# Expected: a path that exists means itself.
# Output seen:
#   memory: find [model], cat {run1/model: b'one'}, get b'one'; after rm of run[1] there is run[1]/model
#   s3: find [model], cat {run1/model: b'one'}, get b'one'; after rm of run[1] there is run[1]/model
# Why it matters: folders named after parameters hold such names (run[1], layers=[64,32]). A server that mirrors a
#   model repository with get serves another run's weights, and a job that removes old runs removes a good one. Use
#   the calls for one file, get_file and rm_file, over what find returned.
set -euo pipefail

python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "skipped: needs Python 3.11 or newer"; exit 0; }
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet fsspec==2026.9.0 s3fs==2026.9.0 "moto[server]==5.2.5"

AWS_ACCESS_KEY_ID=any AWS_SECRET_ACCESS_KEY=any AWS_DEFAULT_REGION=us-east-1 FOLDER=$folder \
    "$folder/venv/bin/python" - <<'PYTHON'
import logging
import os
from pathlib import Path

import fsspec
from moto.server import ThreadedMotoServer

logging.disable(logging.WARNING)  # moto's line for every request


def look(name, files, root):
    for run, content in (("run1", b"one"), ("run[1]", b"bracket")):
        files.pipe_file(f"{root}/{run}/model", content)
    found = [path.rpartition("/")[2] for path in files.find(f"{root}/run[1]")]
    read = {path.removeprefix(f"{root}/"): content for path, content in files.cat(f"{root}/run[1]/model").items()}
    copy = Path(os.environ["FOLDER"], name)
    files.get(f"{root}/run[1]", str(copy), recursive=True)
    fetched = next(path for path in copy.rglob("model")).read_bytes()
    files.rm(f"{root}/run[1]", recursive=True)
    left = [path.removeprefix(f"{root}/") for path in files.find(root)]
    pairs = ", ".join(f"{path}: {content}" for path, content in read.items())
    print(
        f"{name}: find [{', '.join(found)}], cat {{{pairs}}}, get {fetched}; "
        f"after rm of run[1] there is {', '.join(left)}"
    )
    return found == ["model"], read == {"run1/model": b"one"}, fetched == b"one", left == ["run[1]/model"]


server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
host, port = server.get_host_and_port()
bucket = fsspec.filesystem("s3", client_kwargs={"endpoint_url": f"http://{host}:{port}"})
bucket.mkdir("models")
seen = [look("memory", fsspec.filesystem("memory"), "/models"), look("s3", bucket, "models")]
server.stop()
if not all(all(outcome) for outcome in seen):
    raise SystemExit("changed: a path with brackets means something else")
PYTHON
