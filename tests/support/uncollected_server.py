"""A server in a process of its own whose collector never runs, so that what a reference cycle holds stays in memory.

Run as a script with a repository, it is that process.
"""

from __future__ import annotations

import asyncio
import ctypes
import gc
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
from running_server import channel_to, running_server

PATIENCE_SECONDS = 10.0
"""How long memory may take to be free again: a reply arrives before its call has ended."""
SUPPORTED = hasattr(ctypes.CDLL(None), "mallinfo2")
"""Whether the C library says how much memory is in use, as glibc does from 2.33 on."""
_FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS.split()]


def bytes_in_use() -> int:
    """What this process has allocated and not freed, Python's small objects and mapped blocks included."""
    mallinfo2 = ctypes.CDLL(None).mallinfo2
    mallinfo2.restype = _Mallinfo
    found = mallinfo2()
    return int(found.uordblks + found.hblkhd)


class UncollectedServer:
    """The process, and a channel to it."""

    def __init__(self, process: asyncio.subprocess.Process, channel: grpc.aio.Channel) -> None:
        self._process = process
        self.channel = channel

    async def bytes_in_use(self) -> int:
        """As above, of the server's process."""
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return await _read_number(self._process)

    async def falls_to(self, size: int) -> bool:
        """Whether soon no more than so many bytes are in use."""
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                while await self.bytes_in_use() > size:
                    pass
        except TimeoutError:
            return False
        return True


async def _read_number(process: asyncio.subprocess.Process) -> int:
    assert process.stdout is not None
    return int(await process.stdout.readline())


@asynccontextmanager
async def uncollected_server(repository: Path) -> AsyncIterator[UncollectedServer]:
    """A process over the repository, killed when the block is left."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, __file__, repository, stdin=pipe, stdout=pipe)
    try:
        async with channel_to(await _read_number(process)) as channel:
            yield UncollectedServer(process, channel)
    finally:
        process.kill()
        await process.wait()


async def _serve(repository: Path) -> None:
    async with running_server(repository, log_level="error") as served:
        gc.collect()
        gc.disable()
        sys.stdout.write(f"{served.server.port}\n")
        sys.stdout.flush()
        while await asyncio.to_thread(sys.stdin.readline):
            sys.stdout.write(f"{bytes_in_use()}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve(Path(sys.argv[1])))
