"""The processes that one started, and theirs: what they are called, what they listen on, and their end."""

from __future__ import annotations

import ipaddress
import os
import select
import socket
import struct
from contextlib import suppress
from pathlib import Path

_LISTENING = "0A"


def descendants(pid: int) -> list[int]:
    """The processes below a process now."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found, pending = list[int](), [pid]
    while pending:
        below = children.get(pending.pop(), [])
        found += below
        pending += below
    return found


def named(pids: list[int], beginning: str) -> list[int]:
    """Those whose command line begins so."""
    found = []
    for pid in pids:
        with suppress(OSError):
            if Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").startswith(beginning):
                found.append(pid)
    return found


def listening(pids: list[int]) -> set[str]:
    """The addresses that the processes listen at."""
    sockets = set[str]()
    for pid in pids:
        with suppress(OSError):
            for entry in Path(f"/proc/{pid}/fd").iterdir():
                with suppress(OSError):
                    sockets.add(str(entry.readlink()))
    found = set[str]()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == _LISTENING and f"socket:[{inode}]" in sockets:
                found.add(_address(local.partition(":")[0]))
    return found


def all_end(pids: list[int], seconds: float) -> bool:
    """Whether all of them have ended, or do within so many seconds."""
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        try:
            if not select.select([descriptor], [], [], seconds)[0]:
                return False
        finally:
            os.close(descriptor)
    return True


def _address(text: str) -> str:
    words = struct.pack(f"={len(text) // 8}I", *(int(text[i : i + 8], 16) for i in range(0, len(text), 8)))
    family = socket.AF_INET if len(words) == 4 else socket.AF_INET6
    address = ipaddress.ip_address(socket.inet_ntop(family, words))
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
