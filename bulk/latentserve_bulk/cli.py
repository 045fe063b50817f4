"""The command `latentserve-bulk`."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from latentserve_bulk.errors import BulkError

if TYPE_CHECKING:
    from latentserve_bulk.command_line import Request
    from latentserve_bulk.job import RowRange

PROG = "latentserve-bulk"
INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code.

    0: done. 1: refused, or failed; a line says why. 2: the command line is not understood. 130: stopped by a signal.
    """
    handlers = {number: signal.signal(number, _stop) for number in (signal.SIGINT, signal.SIGTERM)}
    ended: list[RowRange] = []
    try:
        return _run(argv, ended)
    except KeyboardInterrupt:
        done = f"{len(ended)} ranges are done; " if ended else ""
        _say(f"stopped; {done}run the same command again to go on")
        return INTERRUPTED
    except BulkError as error:
        _say(str(error))
        return 1
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _run(argv: Sequence[str] | None, ended: list[RowRange]) -> int:
    from latentserve_bulk.command_line import Verification, read

    request = read(argv)
    if isinstance(request, Verification):
        return _verify(request.output)
    return _make(request, ended)


def _make(request: Request, ended: list[RowRange]) -> int:
    from latentserve_bulk.planning import plan
    from latentserve_bulk.run import run

    began = time.monotonic()
    job, inputs = plan(request)
    try:
        outcome = run(job, request.place, request.execution, ended, inputs)
    except OSError as error:
        raise BulkError(f"{request.place.output}: {error.strerror or error}") from error
    seconds = time.monotonic() - began
    missing = "" if outcome.is_complete else f" of {len(job.ranges)}, other shards are not done"
    rows = f"{outcome.rows} rows, {outcome.rejected_rows} rejected, in {outcome.ranges} ranges{missing}"
    print(f"{request.place.output}: {rows}; {job.model}:{job.version}, {seconds:.1f} s")
    return 0


def _verify(output: str) -> int:
    from latentserve_bulk.folder import Folder
    from latentserve_bulk.results import damaged_files

    folder = Folder(output)
    try:
        count, problems = damaged_files(folder)
    except OSError as error:
        raise BulkError(f"{output}: {error.strerror or error}") from error
    for problem in problems:
        _say(problem)
    if not problems:
        print(f"{output}: {count} files are as the manifest says")
    return 1 if problems else 0


def _say(line: str) -> None:
    print(f"{PROG}: {line}", file=sys.stderr)


def _stop(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
