"""The command `latentserve-server`."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

from latentserve_server.heap import freeze_heap, without_collections

if TYPE_CHECKING:
    import asyncio

    from latentserve_server.configuration.config import ServerConfig
    from latentserve_server.errors import StartupError
    from latentserve_server.server import Server
    from latentserve_server.supervision.supervisor import Supervisor
    from latentserve_server.telemetry.log_writer import LogWriter

_EXIT_FAILURE = 1
_EXIT_USAGE = 2
_STOPPING = (signal.SIGINT, signal.SIGTERM)
_logger = logging.getLogger(__name__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT, or make a token; returns the process's exit status.

    Until the event loop answers signals, these two end the process at once: libraries that are half imported fail in
    ways of their own before an exception gets through them, and their threads crash under one that does.
    """
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["token"]:  # no argument of a server stands alone
        from latentserve_server.access import token_command

        return token_command.main(words[1:])
    standard_error = os.dup(2)  # which stays itself when what libraries write there becomes log lines
    end = partial(_end_while_starting, standard_error)
    before = {number: signal.signal(number, end) for number in _STOPPING}
    # It asks for a look at the repository, which is still to come, and would end the process while libraries load.
    before[signal.SIGHUP] = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        status = _main(arguments)
    finally:
        if arguments is not None:  # else the process ends, and is to do so in peace
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(standard_error)
    if arguments is None:
        _leave(status)
    return status


def _leave(status: int) -> None:
    """End the process now, if there are threads that do not end: the interpreter would wait for them."""
    from latentserve_server.blocking_calls import threads_left

    if threads_left():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _main(arguments: Sequence[str] | None) -> int:
    with without_collections():
        import asyncio

        from latentserve_server.configuration.sources import parse_config
        from latentserve_server.errors import ConfigError, StartupError
        from latentserve_server.telemetry.logs import log_to_standard_error
        from latentserve_server.telemetry.open_files import raise_limit

    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # else onnxruntime writes files into the home directory
    try:
        config = parse_config(arguments, os.environ)
    except ConfigError as error:
        return _give_up(error, _EXIT_USAGE)
    try:
        with log_to_standard_error(config.log_level, config.log_format) as log:
            raise_limit()
            try:
                asyncio.run(_serve(config, log))
            except StartupError as error:
                return _give_up(error, _EXIT_FAILURE)  # in order with the log's lines
            finally:
                for number in _STOPPING:  # which the loop has given back to Python
                    signal.signal(number, _end)
                signal.signal(signal.SIGHUP, signal.SIG_IGN)
    except StartupError as error:
        return _give_up(error, _EXIT_FAILURE)
    return 0


def _give_up(error: StartupError, status: int) -> int:
    print("latentserve-server:", *str(error).split(), file=sys.stderr)
    return status


def _end_while_starting(standard_error: int, number: int, _frame: FrameType | None) -> NoReturn:
    with contextlib.suppress(OSError):
        os.write(
            standard_error, f"latentserve-server: stopped by {signal.Signals(number).name} while it started\n".encode()
        )
    _end(number, _frame)


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


async def _serve(config: ServerConfig, log: LogWriter) -> None:
    import asyncio

    with without_collections():
        from latentserve_server.blocking_calls import threads_left

        build = _builder(config)
    stopping = asyncio.Event()
    for number in _STOPPING:
        asyncio.get_running_loop().add_signal_handler(number, _on_signal, stopping, number)
    server = build(log)
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, server.request_rescan)
    start = asyncio.ensure_future(server.start())
    stop = asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait((start, stop), return_when=asyncio.FIRST_COMPLETED)
        if start.done():
            start.result()
            await stop
    finally:
        start.cancel()
        stop.cancel()
        await server.stop()
        if left := threads_left():
            _logger.warning("threads that have not ended are left behind: %s", ", ".join(left))


def _builder(config: ServerConfig) -> Callable[[LogWriter], Server | Supervisor]:
    """What builds the server. onnxruntime loads once logging stands, before the loop has the signals."""
    if config.workers > 1:
        from latentserve_server.supervision.supervisor import Supervisor

        if config.admin_listen == "off":
            return lambda log: Supervisor(config, log)
        from latentserve_server.supervision.administration import Administration

        return lambda log: Supervisor(config, log, Administration)
    from latentserve_server.server import Server

    return lambda log: Server(config, log=log, loaded=freeze_heap)


def _on_signal(stopping: asyncio.Event, number: int) -> None:
    """The first signal drains, the second ends the process at once."""
    if stopping.is_set():
        os._exit(128 + number)
    stopping.set()
