"""A thread that writes log lines, so that nobody waits for their reader."""

from __future__ import annotations

import io
import os
import select
import threading
from collections.abc import Callable

MAX_WAITING_BYTES = 1 << 20


class LogWriter:
    """Writes lines in order. Those for which there is no room, as nobody reads, are dropped and counted."""

    def __init__(self, descriptor: int, notice: Callable[[int], str], max_bytes: int = MAX_WAITING_BYTES) -> None:
        """Nothing is written before `start`.

        `notice` makes the line that stands in the place of so many that were dropped. `max_bytes` may wait. The
        descriptor stays the caller's.
        """
        self._descriptor = descriptor
        self._room = select.poll()
        self._room.register(descriptor, select.POLLOUT)
        self._notice = notice
        self._max_bytes = max_bytes
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._changed = threading.Condition()  # whose lock may be taken again by a finalizer that writes a line
        self._dropped = 0
        self._told = 0
        self._fails = False
        self._closed = False
        self._thread = threading.Thread(target=self._write_lines, name="log", daemon=True)

    @property
    def dropped(self) -> int:
        """How many lines were not written."""
        return self._dropped

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, line: str) -> None:
        """Have a line written, without its end. Never waits, and may be called on any thread."""
        self.put_lines(_data(line))

    def put_lines(self, lines: bytes) -> None:
        """Have whole lines written as they are, all or none of them. Never waits, and may be called on any thread."""
        with self._changed:
            if self._closed or self._waiting_bytes + len(lines) > self._max_bytes:
                self._dropped += lines.count(b"\n")
                return
            self._tell()
            self._add(lines)

    def close(self, seconds: float) -> None:
        """Take no more lines, and give those that wait so long to be written; what is left goes with the process."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join(seconds)

    def _add(self, data: bytes) -> None:
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        self._changed.notify()

    def _tell(self) -> None:
        """Let a notice wait where lines are missing, unless it would be lost as they were."""
        if self._dropped > self._told and not self._fails:
            self._add(_data(self._notice(self._dropped - self._told)))
            self._told = self._dropped

    def _write_lines(self) -> None:
        while lines := self._take():
            lost = self._write(b"".join(lines))
            with self._changed:
                self._waiting_bytes -= sum(map(len, lines))
                self._dropped += lost
                self._fails = lost > 0
                if not self._waiting:
                    self._tell()

    def _take(self) -> list[bytes]:
        """The lines that wait, once there are some; none once the writer is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._closed)
            lines, self._waiting = self._waiting, []
            return lines

    def _write(self, data: bytes) -> int:
        """Write lines; returns how many of them were lost."""
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:
                self._room.poll()
            except OSError:  # the disk is full, or the reader has gone; the next lines may fare better
                return bytes(left).count(b"\n")
        return 0


def _data(line: str) -> bytes:
    return line.encode(errors="backslashreplace") + b"\n"


class LineStream(io.TextIOBase):
    """A text stream into a writer, for what is printed rather than logged."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer
        self._rest = ""
        self._lock = threading.RLock()

    def writable(self) -> bool:
        """Always."""
        return True

    def write(self, text: str) -> int:
        """Have the lines written that the text completes."""
        with self._lock:
            *lines, self._rest = (self._rest + text).split("\n")
        for line in lines:
            self._writer.put(line)
        return len(text)
