"""The limit of open files, and the connections that fit under it."""

from __future__ import annotations

import resource
from pathlib import Path

from latentserve_server.errors import ConfigError

MAX_ADMIN_CONNECTIONS = 16
MAX_HEALTH_CONNECTIONS = 16
MAX_SCRAPES = 16
_FILES = 128
"""For bundles that are read, a store at a URL, and what the device's libraries open when a model is loaded."""
_ENOUGH = 1 << 16
"""More than this are not asked for: some libraries go through all that a process might have."""


def raise_limit() -> None:
    """Let this process open as many files as it may ask for, where it may open few by default."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _ENOUGH if hard == resource.RLIM_INFINITY else min(hard, _ENOUGH)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def room_for_connections() -> int:
    """How many connections leave enough files to be opened.

    Raises:
        ConfigError: not one does.
    """
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit == resource.RLIM_INFINITY:
        return _ENOUGH
    taken = _open_files() + _FILES + MAX_ADMIN_CONNECTIONS + MAX_HEALTH_CONNECTIONS + MAX_SCRAPES
    if limit <= taken:
        raise ConfigError(f"this process may open {limit} files, which leaves none for connections; allow more")
    return limit - taken


def _open_files() -> int:
    listed = Path("/proc/self/fd")
    return len(list(listed.iterdir())) if listed.exists() else 32  # what a process on Linux was seen to have
