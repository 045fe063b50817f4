"""A stream of images whose server is killed and started again in the middle: what arrives, and what it costs.

    python benchmarks/resume.py --repository models --model mlp_gan --count 200000

Draws the images once without a break and once with the server killed (SIGKILL) after a third of them, and compares
every byte. Exits with 1 where a row is missing, repeated or different.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from server_process import serving

from latentserve_client import Client


def stream(target: str, model: str, count: int, after_chunk: Callable[[int], None]) -> tuple[str, int, float]:
    """The digest of all rows in the order in which they came, their number, and the seconds that it took."""
    digest, rows, began = hashlib.sha256(), 0, time.monotonic()
    with Client(target, timeout=30.0) as client:
        for chunk in client.stream_samples(model, count, seed=7, format="uint8"):
            assert chunk.first_index == rows, "chunks come in order and once"
            digest.update(chunk.images.tobytes())
            rows += len(chunk.images)
            after_chunk(rows)
    return digest.hexdigest(), rows, time.monotonic() - began


def main() -> int:
    """Stream twice and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", required=True)
    parser.add_argument("--count", type=int, default=200_000)
    arguments = parser.parse_args()
    with ExitStack() as servers:
        first = servers.enter_context(serving(arguments.repository))
        target, broken = f"127.0.0.1:{first.port}", False

        def break_once(rows: int) -> None:
            nonlocal broken
            if not broken and rows >= arguments.count // 3:
                broken = True
                first.process.kill()
                first.process.wait()
                servers.enter_context(serving(arguments.repository, port=first.port))

        whole = stream(target, arguments.model, arguments.count, lambda rows: None)
        resumed = stream(target, arguments.model, arguments.count, break_once)
    for name, (digest, rows, seconds) in (("without a break", whole), ("with the server killed", resumed)):
        print(f"{name}: {rows} images in {seconds:.1f} s, {rows / seconds:.0f} images/s, SHA-256 {digest[:16]}")
    same = whole[:2] == resumed[:2]
    print("the same images" if same else "NOT the same images")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
