"""The process of the command `latentserve`, and the signals that may end it at any moment.

It stands outside of the client's package, whose import takes longer than most of the calls. Until the command itself
can say what it leaves, and once it has, a signal ends the process as it ends any other: at once, and without a word.
"""

from __future__ import annotations

import os
import signal
from types import FrameType
from typing import Never

_INTERRUPTED = 130
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def main() -> int:
    """Run the process's own command line, and return the exit code."""
    # A shell without job control has its background jobs ignore Ctrl-C, which is to stay.
    handled = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    _end_at_once(handled)
    # The command's own line says why there is no answer; gRPC would print one for every attempt.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
    from latentserve_client.cli.main import Terminated
    from latentserve_client.cli.main import main as run

    def terminate(number: int, frame: FrameType | None) -> Never:
        raise Terminated

    handlers = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: terminate}
    try:
        for number in handled:
            signal.signal(number, handlers[number])
        return run()
    except KeyboardInterrupt:
        return _INTERRUPTED
    finally:
        _end_at_once(handled)


def _end_at_once(numbers: list[signal.Signals]) -> None:
    for number in numbers:
        signal.signal(number, signal.SIG_DFL)
