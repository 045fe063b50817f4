"""The files of the server that a call and a load pass through.

    python benchmarks/ways.py --repository demo/models --model mlp_gan

Counts the modules in which a function ran while a server started, with all its loads, and while it answered one Sample:
on the event loop, and on threads that began meanwhile. What ran on import is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from latentserve_client import AsyncClient
from latentserve_server.configuration.config import ServerConfig
from latentserve_server.server import Server

_SERVER = "latentserve_server/"


@contextmanager
def passed() -> Iterator[set[str]]:
    """The server's files in which functions are called within the block."""
    files: set[str] = set()

    def note(frame: FrameType, event: str, argument: Any) -> None:
        path = frame.f_code.co_filename
        if event == "call" and _SERVER in path and frame.f_code.co_name != "<module>":
            files.add(path.rpartition(_SERVER)[2])

    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield files
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


async def ways(repository: Path, model: str) -> None:
    """Print both ways."""
    config = ServerConfig(repository=str(repository), listen="127.0.0.1:0", metrics_listen="off", device="cpu")
    with passed() as load:
        server = Server(config)
        await server.start()
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        await client.sample(model, 1)
        with passed() as call:
            await client.sample(model, 1)
    await server.stop()
    for name, files in (("a start with its loads", load), (f"one Sample of {model}", call)):
        print(f"{name}: {len(files)} files")
        print("  " + " ".join(sorted(files)))


def main() -> None:
    """Start a server, call it once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    asyncio.run(ways(arguments.repository, arguments.model))


if __name__ == "__main__":
    main()
