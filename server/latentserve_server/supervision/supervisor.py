"""The supervisor: keeps an address and its workers, and is one server with them to everybody."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Callable, Coroutine, Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from latentserve_server.blocking_calls import on_thread
from latentserve_server.certificates import open_certificates
from latentserve_server.configuration.config import ServerConfig, parse_address
from latentserve_server.configuration.exposure import warn_of_exposure
from latentserve_server.errors import LatentServeError, StartupError, WorkerGone
from latentserve_server.supervision.address import KeptAddress
from latentserve_server.supervision.worker_process import WorkerProcess, ending
from latentserve_server.telemetry.log_writer import LogWriter
from latentserve_server.telemetry.merged_metrics import (
    Families,
    MergedMetrics,
    SupervisorMetrics,
    serve_merged,
    snapshot,
)
from latentserve_server.telemetry.metrics_listener import MetricsListener
from latentserve_server.telemetry.process_metrics import measure_certificates, process_registry

if TYPE_CHECKING:
    from latentserve_server.api.forwarded_admin import Peer
    from latentserve_server.supervision.administration import Administration

_logger = logging.getLogger(__name__)

_LONGEST_PAUSE_SECONDS = 60.0
"""Between the end of a worker and the next start. One that ran for longer is started again at once."""
_STOP_SECONDS = 10.0
"""How much longer than the drain the end of a worker may take, until it is ended at once."""
_ANSWER_SECONDS = 5.0
"""For a worker to tell its metrics; those that it told last are shown then."""


class Supervisor:
    """Several workers that are one server. Everything happens on one event loop."""

    def __init__(
        self, config: ServerConfig, log: LogWriter, administration: type[Administration] | None = None
    ) -> None:
        """Nothing is started yet. The workers' lines go to `log`; `administration` makes the admin port, if any.

        Raises:
            ConfigError: the certificate cannot be taken.
        """
        self._config = config
        self._certificates = certificates = open_certificates(config.tls_cert, config.tls_key, config.tls_client_ca)
        self._log = log
        self._processes = set[WorkerProcess]()
        self._workers: dict[int, Peer] = {}
        self._keepers = list[asyncio.Task[None]]()
        self._address: KeptAddress | None = None
        self._probed: KeptAddress | None = None
        self._admin = administration(config, self._workers, log, certificates) if administration else None
        registry = self._admin.registry if self._admin is not None else process_registry(log)
        measure_certificates(registry, certificates)
        self._counts = SupervisorMetrics(registry, lambda: len(self._workers))
        self._merged = MergedMetrics()
        self._scrapes: MetricsListener | None = None
        self._serving = False

    async def start(self) -> None:
        """Take the addresses, start the workers, and return when all of them take calls.

        Raises:
            ConfigError: an address is taken. StartupError: a worker cannot start.
        """
        warn_of_exposure(self._config)
        ports = self._take_addresses()
        workers = [WorkerProcess(number, self._log) for number in range(1, self._config.workers + 1)]
        await _all_or_error(self._load(worker) for worker in workers)
        for worker in workers:
            await self._join(worker)
        self._keepers = [asyncio.get_running_loop().create_task(self._keep(worker)) for worker in workers]
        if self._admin is not None:
            self._admin.start()
        self._serving = True
        message = "serving on port %d, metrics on port %d, with %d workers"
        numbers = ports["port"], ports["metrics_port"], len(workers)
        _logger.info(message, *numbers, extra=ports | {"workers": len(workers)})

    def request_rescan(self) -> None:
        """Have every worker follow the repository's directory soon."""
        for worker in list(self._workers.values()):
            worker.tell("rescan")

    async def stop(self) -> None:
        """Have all workers drain at once, and return when they have ended. Harmless when start failed."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        if self._admin is not None:
            await self._admin.stop()
        await self._end_workers()
        if self._scrapes is not None:
            await on_thread("end of metrics", self._scrapes.close)
        for address in (self._address, self._probed):
            if address is not None:
                address.close()
        _logger.info("stopped")

    async def _end_workers(self) -> None:
        processes = list(self._processes)
        if not processes:
            return
        for process in processes:
            process.tell("drain")
        seconds = self._config.drain_delay + self._config.drain_timeout if self._serving else 0.0
        ends = [asyncio.ensure_future(process.ended()) for process in processes]
        _, late = await asyncio.wait(ends, timeout=seconds + _STOP_SECONDS)
        for process, end in zip(processes, ends, strict=True):
            if end in late:
                _logger.warning("worker %d does not end, and is killed", process.number)
                process.kill()
        await asyncio.gather(*ends)

    def _take_addresses(self) -> dict[str, int]:
        config, ports = self._config, {"port": 0, "metrics_port": 0, "admin_port": 0}
        if config.metrics_listen != "off":
            host, port = parse_address("--metrics-listen", config.metrics_listen)
            self._scrapes = serve_merged(host, port, self._families_for_a_thread(), self._certificates)
            ports["metrics_port"] = self._scrapes.port
        self._address = KeptAddress("--listen", config.listen)
        ports["port"] = self._address.port
        if config.health_listen != "off":
            self._probed = KeptAddress("--health-listen", config.health_listen)
            ports["health_port"] = self._probed.port
        if self._admin is not None:
            ports["admin_port"] = self._admin.bind()
        return ports

    async def _load(self, worker: WorkerProcess) -> None:
        """Start a worker, and have it load its models.

        Raises:
            StartupError: it cannot, or it has ended.
        """
        assert self._address is not None
        config = self._config
        own = {"listen": self._address.address, "admin_listen": "off", "metrics_listen": "off"}
        if self._probed is not None:
            own["health_listen"] = self._probed.address
        if config.cache_dir:
            own["cache_dir"] = str(Path(config.cache_dir) / f"worker-{worker.number}")
        try:
            await worker.start()
        except OSError as error:
            raise StartupError(f"worker {worker.number} cannot be started: {error.strerror}") from error
        self._processes.add(worker)
        try:
            await worker.ask("load", dataclasses.asdict(config) | own)
        except WorkerGone as error:
            raise await self._early_end(worker) from error

    async def _join(self, worker: WorkerProcess) -> None:
        """Have a worker take calls.

        Raises:
            StartupError: it cannot, or it has ended.
        """
        try:
            if self._admin is not None:
                await self._admin.join(worker)
            else:
                await worker.ask("join", [])
                self._workers[worker.number] = worker
        except WorkerGone as error:
            raise await self._early_end(worker) from error
        fields = {"worker": worker.number, "pid": worker.pid}
        _logger.info("worker %d takes calls", worker.number, extra=fields)

    async def _early_end(self, worker: WorkerProcess) -> StartupError:
        how = ending(await self._end_of(worker))
        return StartupError(f"worker {worker.number} ended {how} while it started")

    async def _end_of(self, worker: WorkerProcess) -> int:
        status = await worker.ended()
        self._processes.discard(worker)
        if self._workers.get(worker.number) is worker:
            del self._workers[worker.number]
        self._merged.forget(str(worker.number))
        return status

    async def _keep(self, worker: WorkerProcess) -> None:
        """Put another worker in the place of one that has ended, again and again."""
        number, loop = worker.number, asyncio.get_running_loop()
        pauses = _pauses()
        while True:
            began = loop.time()
            status = await self._end_of(worker)
            if loop.time() - began > _LONGEST_PAUSE_SECONDS:
                pauses = _pauses()
            problem = f"ended {ending(status)}"
            while True:
                pause = next(pauses)
                when = f"in {pause:g} s" if pause else "now"
                _logger.error(
                    "worker %d %s; another one is started %s", number, problem, when, extra={"worker": number}
                )
                await asyncio.sleep(pause)
                worker = WorkerProcess(number, self._log)
                try:
                    await self._load(worker)
                    await self._join(worker)
                    break
                except Exception as error:
                    problem = f"does not start: {error}"
                    if worker in self._processes:
                        worker.kill()
                        await self._end_of(worker)
            self._counts.restarted()

    def _families_for_a_thread(self) -> Callable[[], Families]:
        loop = asyncio.get_running_loop()

        def families() -> Families:
            return asyncio.run_coroutine_threadsafe(self._families(), loop).result()

        return families

    async def _families(self) -> Families:
        """The metrics of all workers, and of this process."""
        workers = list(self._workers.values())
        await asyncio.gather(*(self._ask_for_metrics(worker) for worker in workers))
        self._merged.note("supervisor", snapshot(self._counts.registry))
        return self._merged.families()

    async def _ask_for_metrics(self, worker: Peer) -> None:
        with suppress(LatentServeError, TimeoutError):
            async with asyncio.timeout(_ANSWER_SECONDS):
                told = await worker.ask("metrics")
                if self._workers.get(worker.number) is worker:
                    self._merged.note(str(worker.number), told)


def _pauses() -> Iterator[float]:
    """Seconds before the next start, and those after it: a worker that ran well is there again at once."""
    yield 0.0
    pause = 1.0
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


async def _all_or_error(works: Iterable[Coroutine[None, None, None]]) -> None:
    """Do all of them side by side, or give the others up at the first error, and raise that."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
