"""The process of one worker: a server that does what its supervisor asks, and ends with it."""

from __future__ import annotations

import asyncio
import base64
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from latentserve.v1 import models_pb2
from latentserve_server.api.forwarded_admin import text_of
from latentserve_server.blocking_calls import threads_left
from latentserve_server.configuration.config import ServerConfig
from latentserve_server.errors import LatentServeError, ShuttingDown
from latentserve_server.heap import freeze_heap
from latentserve_server.server import Server
from latentserve_server.supervision.conversation import Answer, answer
from latentserve_server.telemetry.logs import log_to_standard_error
from latentserve_server.telemetry.merged_metrics import Snapshots

_STOPPING = (signal.SIGINT, signal.SIGTERM)
_LEFT_ALONE = 1
"""The exit status of a worker whose supervisor has gone."""
_ADMIN = models_pb2.DESCRIPTOR.services_by_name["ModelAdminService"]
_REQUESTS: dict[str, type[Message]] = {method.name: GetMessageClass(method.input_type) for method in _ADMIN.methods}
_logger = logging.getLogger("latentserve_server.supervision.worker")  # and not __main__, as which it runs


class Worker:
    """What a supervisor may ask of a server."""

    def __init__(self, number: int, stack: ExitStack) -> None:
        """`stack` closes the log, at the end of everything."""
        self._number = number
        self._stack = stack
        self._server: Server | None = None
        self._snapshots: Snapshots | None = None
        self._starting: asyncio.Task[Any] | None = None
        self.stopping = asyncio.Event()
        """Set once it is to drain and end."""
        self.answers: dict[str, Answer] = {
            "load": self._load,
            "join": self._join,
            "change": self._change,
            "models": self._models,
            "metrics": self._metrics,
            "rescan": self._rescan,
            "drain": self._drain,
        }
        """What it answers, by the question."""

    async def stop(self) -> None:
        """Let the calls under way end, and free everything."""
        if self._starting is not None:
            self._starting.cancel()
        if self._server is not None:
            await self._server.stop()
        if left := threads_left():
            _logger.warning("threads that have not ended are left behind: %s", ", ".join(left))

    async def _load(self, options: dict[str, Any]) -> None:
        """Load the models; nobody is answered yet."""
        config = ServerConfig(**options)
        log = self._stack.enter_context(log_to_standard_error(config.log_level, config.log_format, self._number))
        self._server = Server(config, log=log, loaded=freeze_heap)
        self._snapshots = Snapshots(self._server.metrics.registry)
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._server.request_rescan)
        self._starting = asyncio.current_task()
        await self._server.load()

    async def _join(self, changes: Sequence[tuple[str, str]]) -> str:
        """Make the changes that the other workers have made, and answer calls beside them; returns the models."""
        self._starting = asyncio.current_task()
        for change in changes:
            try:
                await self._change(change)
            except LatentServeError as error:
                _logger.warning("%s was not repeated: %s", change[0], error)
        await self._running.share_address()
        return await self._models(None)

    async def _change(self, change: tuple[str, str]) -> str:
        """The reply of a method of ModelAdminService; request and reply are base64."""
        method, request = change
        make = getattr(self._running.administration, method)
        return text_of(await make(_REQUESTS[method].FromString(base64.b64decode(request)), None))

    async def _models(self, _: Any) -> str:
        """The list of models, as a ListModelsResponse in base64; none while it stops, since versions close then.

        Raises:
            ShuttingDown: it stops.
        """
        if self.stopping.is_set():
            raise ShuttingDown("the server is stopping")
        return text_of(models_pb2.ListModelsResponse(models=self._running.list_models()))

    async def _metrics(self, _: Any) -> str:
        assert self._snapshots is not None
        return await self._snapshots.take()

    async def _rescan(self, _: Any) -> None:
        self._running.request_rescan()

    async def _drain(self, _: Any) -> None:
        self.stopping.set()

    @property
    def _running(self) -> Server:
        assert self._server is not None
        return self._server


async def _work(number: int, connection: socket.socket) -> None:
    with ExitStack() as stack:
        worker = Worker(number, stack)
        loop = asyncio.get_running_loop()
        for each in _STOPPING:  # which the supervisor gets, too, where a whole group is sent them, so once or twice
            loop.add_signal_handler(each, worker.stopping.set)
        answering = loop.create_task(answer(connection, worker.answers))
        answering.add_done_callback(_end_alone)
        await worker.stopping.wait()
        await worker.stop()
        answering.remove_done_callback(_end_alone)


def _end_alone(_: asyncio.Task[None]) -> None:
    """End at once: without a supervisor nobody restarts this process, and it would be in the next one's way."""
    os._exit(_LEFT_ALONE)


def main() -> None:
    """Serve as the worker whose number, and the descriptor of whose socket, are the arguments."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    number, descriptor = map(int, sys.argv[1:])
    asyncio.run(_work(number, socket.socket(fileno=descriptor)))
    if threads_left():  # for which the interpreter would wait
        sys.stdout.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
