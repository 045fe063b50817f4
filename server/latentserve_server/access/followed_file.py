"""A file whose contents count as soon as they change, as those of Kubernetes' Secrets do."""

from __future__ import annotations

import asyncio
import logging
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

from latentserve_server.blocking_calls import on_thread
from latentserve_server.errors import ConfigError

_logger = logging.getLogger(__name__)

T = TypeVar("T")

_PAUSE_SECONDS = 1.0
"""Between two looks at the file. A look reads it: times and sizes do not tell every change."""
_MAX_BYTES = 16 << 20


class FollowedFile(Generic[T]):
    """What a file says, now. Where it says nothing that makes sense, what it said before counts on."""

    def __init__(self, option: str, path: str, parse: Callable[[bytes, str], T], *, may_be_read: bool = False) -> None:
        """`option` names the file, and `parse` makes of its bytes and its name what they say.

        A warning says that others may change it, and unless it `may_be_read`, that they may read it.

        Raises:
            ConfigError: it cannot be read, or says nothing that makes sense.
        """
        self._option = option
        self._path = path
        self._parse = parse
        self._data = self._read()
        self._problem = ""
        self.value = parse(self._data, path)
        """What it says."""
        mode = Path(path).stat().st_mode
        if mode & (stat.S_IWOTH if may_be_read else stat.S_IROTH | stat.S_IWOTH):
            verb = "change" if mode & stat.S_IWOTH else "read"
            _logger.warning("%s %s: others on this machine may %s it; its mode is %o", option, path, verb, mode & 0o777)

    @property
    def is_stale(self) -> bool:
        """Whether what it says now makes no sense, so that what it said before counts."""
        return bool(self._problem)

    async def follow(self, changed: Callable[[], None] = lambda: None) -> None:
        """Read it again and again, and say when it says something else. Ends by cancellation alone."""
        while True:
            await asyncio.sleep(_PAUSE_SECONDS)
            try:
                found = await on_thread(f"look at {self._option}", self._look)
            except Exception as error:  # whatever it is, it must not end here: tokens are withdrawn by changes
                if str(error) != self._problem:
                    self._problem = str(error)
                    _logger.error("what %s said before counts on: %s", self._option, error)
                continue
            if found is not None:
                self._data, self.value = found
                _logger.info("%s %s has changed, and counts from now on", self._option, self._path)
                changed()
            elif self._problem:
                _logger.info("%s %s is as before, and counts on", self._option, self._path)
            self._problem = ""

    def _look(self) -> tuple[bytes, T] | None:
        """The bytes and what they say, where they have changed."""
        data = self._read()
        return None if data == self._data else (data, self._parse(data, self._path))

    def _read(self) -> bytes:
        try:
            with Path(self._path).open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"{self._option} {self._path}: {error.strerror}") from error
        if len(data) > _MAX_BYTES:
            raise ConfigError(f"{self._option} {self._path}: is over {_MAX_BYTES} bytes")
        return data
