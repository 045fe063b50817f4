"""The files of the server that a load and a call pass through.

    python benchmarks/ways.py --repository demo/models --model mlp_gan

Counts the modules in which a function ran, on any thread, while a version that had appeared in the repository of a
running server became READY, and while that server answered one Sample of it. What ran on import is left out.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from latentserve_client import AsyncClient
from latentserve_server.configuration.config import ServerConfig
from latentserve_server.repository.store import Catalog, LocalStore
from latentserve_server.server import Server

_SERVER = "latentserve_server/"


class Passage:
    """Which of the server's files are passed. Threads are watched that begin after it was installed."""

    def __init__(self) -> None:
        self._files: dict[str, None] | None = None

    def install(self) -> None:
        """Begin to watch, on this thread and on those to come."""
        threading.setprofile(self._note)
        sys.setprofile(self._note)

    @contextmanager
    def recorded(self) -> Iterator[dict[str, None]]:
        """The files in which functions are called within the block, in the order in which they are first."""
        self._files = {}
        try:
            yield self._files
        finally:
            self._files = None

    def _note(self, frame: FrameType, event: str, argument: Any) -> None:
        files, path = self._files, frame.f_code.co_filename
        if files is not None and event == "call" and _SERVER in path and frame.f_code.co_name != "<module>":
            files.setdefault(path.rpartition(_SERVER)[2])


class WatchedStore(LocalStore):
    """A directory whose scans are told of."""

    def __init__(self, root: Path, scan_begins: Callable[[bool], None]) -> None:
        """`scan_begins` is told, on the scan's thread, whether the scan before has found a model."""
        super().__init__(root)
        self._scan_begins = scan_begins
        self._found = False

    def catalog(self) -> Catalog:
        """As `LocalStore.catalog`."""
        self._scan_begins(self._found)
        catalog = super().catalog()
        self._found = bool(catalog.models)
        return catalog


async def ways(bundle: Path, root: Path) -> None:
    """Print the ways of the bundle, a version's directory, in a repository at `root`, which is empty yet."""
    model, passage = bundle.parent.name, Passage()
    loop, settled = asyncio.get_running_loop(), asyncio.Event()

    def scan_begins(found_before: bool) -> None:
        if found_before:  # and the repository does one thing after another, so all that followed from it is done
            loop.call_soon_threadsafe(settled.set)

    config = ServerConfig(
        repository=str(root), listen="127.0.0.1:0", metrics_listen="off", device="cpu", poll_interval=0.1
    )
    passage.install()
    server = Server(config, store=WatchedStore(root, scan_begins))
    await server.start()
    shutil.copytree(bundle, root / f".{model}" / bundle.name)
    with passage.recorded() as load:
        (root / f".{model}").rename(root / model)
        await settled.wait()
    async with AsyncClient(f"127.0.0.1:{server.port}") as client:
        await client.sample(model, 1)
        with passage.recorded() as call:
            await client.sample(model, 1)
    await server.stop()
    for name, files in ((f"the load of {model}", load), (f"one Sample of {model}", call)):
        print(f"{name}: {len(files)} files")
        print("  " + " ".join(files))


def main() -> None:
    """Let a bundle appear, and call it once."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repository", type=Path, required=True)
    parser.add_argument("--model", required=True)
    arguments = parser.parse_args()
    bundle = max((path for path in (arguments.repository / arguments.model).iterdir() if path.is_dir()), key=str)
    with tempfile.TemporaryDirectory() as root:
        asyncio.run(ways(bundle, Path(root)))


if __name__ == "__main__":
    main()
