"""The composition root: builds a server's parts, starts them and stops them in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from grpc_health.v1 import health, health_pb2

from latentserve.oip import inference_pb2
from latentserve.v1 import generation_pb2, models_pb2
from latentserve_server.access.authentication import allowances, authentication
from latentserve_server.api.admin import ModelAdminServicer
from latentserve_server.api.admin_listener import AdminListener
from latentserve_server.api.generation import GenerationServicer
from latentserve_server.api.health_listener import HealthListener
from latentserve_server.api.models import ModelServicer, list_models
from latentserve_server.api.oip import model_names
from latentserve_server.api.oip.service import InferenceServicer
from latentserve_server.api.requests import model_of
from latentserve_server.available_cpus import available_cpus
from latentserve_server.blocking_calls import on_thread
from latentserve_server.bundle.batch_rows import MOST_ROWS
from latentserve_server.bundle.loader import Loader
from latentserve_server.bundle.manifest import precision_named
from latentserve_server.certificates import open_certificates
from latentserve_server.configuration.config import ServerConfig, parse_address, parse_device
from latentserve_server.configuration.exposure import warn_of_exposure
from latentserve_server.engine import Cpu, Cuda, Device, Placement, choose_placement, runtime_version
from latentserve_server.engine.device import DeviceQueue
from latentserve_server.engine.engine import trim_heap
from latentserve_server.errors import ConfigError
from latentserve_server.latent.noise import NoiseSource
from latentserve_server.model.identity import Limits
from latentserve_server.repository.policy import VersionPolicy
from latentserve_server.repository.remote_cache import BundleCache
from latentserve_server.repository.remote_files import scheme_of
from latentserve_server.repository.remote_store import RemoteStore
from latentserve_server.repository.repository import Repository
from latentserve_server.repository.store import LocalStore, ModelStore
from latentserve_server.repository.version import Lifecycle
from latentserve_server.telemetry.log_writer import LogWriter
from latentserve_server.telemetry.metrics import Metrics
from latentserve_server.telemetry.open_files import room_for_connections
from latentserve_server.telemetry.process_metrics import measure_certificates
from latentserve_server.telemetry.tracing.calls import open_tracing
from latentserve_server.wire.admission import Admission, BytesUnderWay
from latentserve_server.wire.answering import Answering
from latentserve_server.wire.core import Completions
from latentserve_server.wire.exchange import Exchange
from latentserve_server.wire.field_count import FieldLimits
from latentserve_server.wire.listener import Listener, listener_options, renewal_options
from latentserve_server.wire.memory_room import MemoryRoom, available_memory, resident_memory
from latentserve_server.wire.reflection import add_reflection
from latentserve_server.wire.services import methods_of
from latentserve_server.workers import Workers

_logger = logging.getLogger(__name__)

_GENERATION = generation_pb2.DESCRIPTOR.services_by_name["GenerationService"]
_MODELS = models_pb2.DESCRIPTOR.services_by_name["ModelService"]
_INFERENCE = inference_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]
_HEALTH: Any = health_pb2.DESCRIPTOR.services_by_name["Health"]
SERVICES = (_GENERATION.full_name, _MODELS.full_name, _INFERENCE.full_name)
DRIVEN = ("Sample", "Encode", "Decode", "Reconstruct", "Score", "Interpolate", "Traverse")


_LEAST_TRACES_SECONDS, _MOST_TRACES_SECONDS = 0.2, 2.0
"""For the last spans to be sent, whatever is left of the drain timeout: a collector that is away is not waited for."""
_FREE_SECONDS = 0.6
"""For threads to end, before the process ends without them."""


class Server:
    """One server: `start` it, let it answer, `stop` it. Everything happens on one event loop."""

    def __init__(
        self,
        config: ServerConfig,
        store: ModelStore | None = None,
        log: LogWriter | None = None,
        loaded: Callable[[], None] = lambda: None,
    ) -> None:
        """Build the server; `store` takes the place of the one that the configuration names, and `log` is measured.

        `loaded` is called once the models are loaded, before the server says SERVING.

        Raises:
            DeviceError: the device asked for does not work. ConfigError: the repository's URL is not understood,
                or the folder of links is not there, or the certificate cannot be taken, or tokens, or keys to verify
                them with, cannot be read.
        """
        self._config = config
        self._certificates = open_certificates(config.tls_cert, config.tls_key, config.tls_client_ca)
        self._loaded = loaded
        self._placement = placement = _placement(config)
        self.metrics = Metrics(log)
        """What this server counts."""
        self.metrics.set_build(version("latentserve-server"), runtime_version(), placement.device)
        self._tracing = open_tracing(config.trace_ratio, config.trace_endpoint, version("latentserve-server"))
        measure_certificates(self.metrics.registry, self._certificates)
        self._workers = Workers(threads=max(2, _processors(config)))
        models = store or _store(config)
        lifecycle = Lifecycle(models, self._build_loader(placement), self.metrics, config.load_timeout)
        self._repository = Repository(
            models,
            VersionPolicy.parse(config.version_policy),
            lifecycle,
            self.metrics,
            self._models_changed,
            removal_delay=config.removal_delay,
            require_models=config.require_models,
            scan_timeout=config.scan_timeout,
            loads_at_once=_loads_at_once(config, placement),
        )
        self._watcher: asyncio.Task[None] | None = None
        self._health = health.aio.HealthServicer()
        self._admission: Admission[Exchange] = Admission(config.max_calls)
        self._under_way = under_way = BytesUnderWay(config.max_inflight_bytes)
        self.metrics.watch_bytes(lambda: under_way.total)
        self._authentication = authentication(config)
        if self._authentication is not None:
            self.metrics.watch_access_files(self._authentication.stale_files)
        self._allowances = allowances(config, self.metrics.caller_refused)
        self._completions = Completions(self._admission.is_busy)
        self.administration = ModelAdminServicer(self._repository)
        """Answers ModelAdminService, and may be asked without a listener once the models are loaded."""
        self._listener = self._build_listener()
        self._admin = self._build_admin() if config.admin_listen != "off" else None
        self._probes = self._build_health() if config.health_listen != "off" else None
        self._serving = False
        self.port = 0
        """The port of the gRPC services, once started."""
        self.admin_port = 0
        """The port of ModelAdminService, once started; 0 where it is off."""
        self.metrics_port = 0
        """The port of the metrics, once started; 0 where they are off."""
        self.health_port = 0
        """The port of health alone, once started; 0 where it is off."""

    async def start(self) -> None:
        """Bind the ports, load the models, and say SERVING.

        Raises:
            ConfigError: an address is taken. StartupError: no model can be served.
        """
        warn_of_exposure(self._config)
        self._bind()
        self._follow_tokens()
        await self._set_health(serving=False)
        self._listener.start()
        for listener in (self._admin, self._probes):
            if listener is not None:
                listener.start()
        await self._load()
        await self._begin_serving()
        ports = {"port": self.port, "metrics_port": self.metrics_port, "admin_port": self.admin_port}
        ports |= {"health_port": self.health_port} if self._probes is not None else {}
        _logger.info("serving on port %d, metrics on port %d", self.port, self.metrics_port, extra=ports)

    async def load(self) -> None:
        """Load the models, before `share_address`.

        Raises:
            ConfigError: the repository cannot be read. StartupError: no model can be served.
        """
        self._follow_tokens()
        await self._set_health(serving=False)
        await self._load()

    async def share_address(self) -> None:
        """Answer at an address where other processes answer, too, from now on: once the models are loaded.

        Until then callers come to the others, and never to one who knows no model yet.

        Raises:
            ConfigError: the address cannot be shared.
        """
        self.port = self._listener.bind("--listen", self._config.listen)
        self._listener.start()
        if self._probes is not None:
            self.health_port = self._probes.bind()
            self._probes.start()
        await self._begin_serving()

    def _follow_tokens(self) -> None:
        if self._authentication is not None:
            self._authentication.start()

    async def _load(self) -> None:
        await self._repository.open()
        self._loaded()

    async def _begin_serving(self) -> None:
        watching = self._repository.watch(self._config.poll_interval)
        self._watcher = asyncio.get_running_loop().create_task(watching)
        self._serving = True
        await self._set_health(serving=True)

    def list_models(self) -> list[models_pb2.ModelStatus]:
        """Every version of every model."""
        return list_models(self._repository)

    def request_rescan(self) -> None:
        """Follow the repository's directory soon, with another try for versions that failed."""
        self._repository.request_rescan()

    async def stop(self) -> None:
        """Say NOT_SERVING, let the calls under way end, and free everything. Harmless when start failed."""
        await self._health.enter_graceful_shutdown()
        if self._authentication is not None:
            self._authentication.stop()
        if self._watcher is not None:
            self._watcher.cancel()
        if self._admin is not None:
            await self._admin.stop()
        if self._serving:
            _logger.info("draining")
            await asyncio.sleep(self._config.drain_delay)
        drained_at = asyncio.get_running_loop().time() + self._config.drain_timeout
        await self._admission.drain(self._config.drain_timeout if self._serving else 0)
        await self._listener.stop()
        if self._probes is not None:
            await self._probes.stop()
        self._completions.close()
        await self._close_traces(drained_at)
        await self._free()
        _logger.info("stopped")

    async def _close_traces(self, drained_at: float) -> None:
        """Send the last spans, in what the calls have left of the drain timeout."""
        if self._tracing is not None:
            left = drained_at - asyncio.get_running_loop().time()
            seconds = min(max(left, _LEAST_TRACES_SECONDS), _MOST_TRACES_SECONDS)
            with suppress(OSError):  # there is no further thread
                await on_thread("end of traces", self._tracing.close, seconds)

    async def _free(self) -> None:
        """Free everything, but wait for nothing that hangs."""
        deadline = asyncio.get_running_loop().time() + _FREE_SECONDS
        closes: tuple[Callable[[], Awaitable[None]], ...] = (
            self._repository.close,
            lambda: on_thread("end of workers", self._workers.close),
            lambda: on_thread("end of the device's threads", self._placement.close),
            lambda: on_thread("end of metrics", self.metrics.close),
        )
        for close in closes:
            with suppress(OSError):  # it takes too long, or there is no further thread
                async with asyncio.timeout_at(deadline):
                    await close()

    def _bind(self) -> None:
        if self._config.metrics_listen != "off":
            host, port = parse_address("--metrics-listen", self._config.metrics_listen)
            self.metrics_port = self.metrics.serve(host, port, self._certificates)
        self.port = self._listener.bind("--listen", self._config.listen)
        if self._admin is not None:
            self.admin_port = self._admin.bind()
        if self._probes is not None:
            self.health_port = self._probes.bind()

    async def _set_health(self, *, serving: bool) -> None:
        """Say of each service whether it answers; all but ModelService need a model for that."""
        status = health_pb2.HealthCheckResponse
        for service in ("", *SERVICES):
            answers = serving and (service == _MODELS.full_name or self._repository.is_ready)
            await self._health.set(service, status.SERVING if answers else status.NOT_SERVING)

    async def _models_changed(self) -> None:
        if self._serving:
            await self._set_health(serving=True)

    def _build_loader(self, placement: Placement) -> Loader:
        config, on_cuda = self._config, placement.device is Device.CUDA
        pad = config.pad_batches == "always" or (config.pad_batches == "auto" and on_cuda)
        return Loader(
            placement=placement,
            slots=DeviceQueue(config.concurrent_runs or (1 if on_cuda else None)),
            precision=precision_named(config.precision),
            links_within=_links_within(config),
            limits=Limits(
                max_rows_per_request=config.max_rows_per_request,
                max_batch_rows=_most_batch_rows(config),
                max_queue_rows=config.max_queue_rows,
                max_queue_bytes=config.max_queue_bytes,
                max_message_bytes=config.max_message_bytes,
            ),
            chooses_batch_rows=config.max_batch_rows == "auto",
            pad_batches=pad,
            bind_batches=pad and on_cuda,
            noise=NoiseSource(),
            workers=self._workers,
            observer=self.metrics.observer,
            drift_observer=self.metrics.drift_observer,
            traces=self._tracing.of_graph if self._tracing is not None else None,
        )

    def _connections(self) -> int:
        wanted, room = self._config.max_connections, room_for_connections()
        if room < wanted:
            _logger.warning("at most %d connections: this process may not open more files", room)
        return min(wanted, room)

    def _build_listener(self) -> Listener:
        config, loop = self._config, asyncio.get_running_loop()
        answering = Answering(
            self._completions,
            self.metrics,
            self._admission,
            self._under_way,
            FieldLimits(config.max_rows_per_request),
            max_header_bytes=config.max_header_bytes,
            unread_timeout=config.unread_timeout,
            access_log=config.access_log,
            authentication=self._authentication,
            allowances=self._allowances,
            tracing=self._tracing,
            memory=MemoryRoom(
                config.max_memory_share,
                resident_memory,
                available_memory(config.workers),
                lambda: loop.run_in_executor(None, trim_heap),
            ),
        )
        named = partial(model_of, is_model=self._repository.__contains__)
        generation = GenerationServicer(self._repository, self._workers)
        answering.add_methods(methods_of(_GENERATION, generation, driven=DRIVEN, model_of=named))
        answering.add_methods(methods_of(_MODELS, ModelServicer(self._repository), model_of=named))
        inference = InferenceServicer(
            self._repository,
            self._workers,
            self._health,
            version("latentserve-server"),
            draining=self._admission.draining,
            stream_rows=min(2 * _most_batch_rows(config), config.max_queue_rows),
            totals=self.metrics.graph_totals,
        )
        oip_model_of = partial(model_names.model_of, is_model=self._repository.__contains__)
        base_of = partial(model_names.base_of, is_model=self._repository.__contains__)
        answering.add_methods(
            methods_of(_INFERENCE, inference, driven=("ModelInfer",), model_of=oip_model_of, repository_name=base_of)
        )
        answering.add_methods(methods_of(_HEALTH, self._health, is_own=False))
        if config.reflection:
            add_reflection((*SERVICES, health.SERVICE_NAME), answering)
        options = [
            *listener_options(
                config.listen, self._connections(), config.max_header_bytes, is_shared=config.workers > 1
            ),
            *renewal_options(config.max_connection_age, config.max_connection_grace),
            ("grpc.max_receive_message_length", config.max_message_bytes),
            ("grpc.max_send_message_length", config.max_message_bytes),
        ]
        return Listener(self._completions, options, answering, self._certificates)

    def _build_admin(self) -> AdminListener:
        is_model = self._repository.__contains__
        return AdminListener(
            self._config,
            self._completions,
            self.metrics,
            self._under_way,
            self.administration,
            is_model,
            self._certificates,
            self._authentication,
        )

    def _build_health(self) -> HealthListener:
        return HealthListener(self._config, self._completions, self.metrics, self._under_way, self._health)


def _processors(config: ServerConfig) -> int:
    """How many processors there are for this process, or for each of the workers that share them."""
    return max(1, available_cpus() // config.workers)


def _placement(config: ServerConfig) -> Placement:
    kind, index = parse_device(config.device)
    portable = config.numerics == "portable"
    processors = _processors(config)
    placement, reason = choose_placement(
        Device.CPU if portable else kind,
        Cpu(threads=config.cpu_threads or processors, portable=portable),
        Cuda(
            index=index,
            memory_limit_bytes=config.gpu_memory_limit,
            tf32=config.tf32,
            graphs=config.cuda_graphs,
        ),
    )
    reason = "portable numerics are the CPU's" if portable and kind == "auto" else reason
    _logger.info("device %s: %s", placement.device, reason)
    if placement.device is Device.CPU and config.cpu_threads > processors:
        whose = "all graphs share" if portable else "every graph has"
        which = "this process" if config.workers == 1 else "each worker"
        message = "cpu_threads is %d, and %s may use %d processors; %s %d threads"
        _logger.warning(message, config.cpu_threads, which, processors, whose, config.cpu_threads - 1)
    return placement


def _most_batch_rows(config: ServerConfig) -> int:
    """The rows that a batch of any model may have; what is chosen leaves room in the queue for a few batches."""
    if config.max_batch_rows == "auto":
        return max(1, min(MOST_ROWS, config.max_queue_rows // 4))
    return config.max_batch_rows


def _loads_at_once(config: ServerConfig, placement: Placement) -> int:
    """A device that takes one run at a time loads no faster for more; and what is measured is measured alone."""
    alone = placement.device is Device.CUDA or config.max_batch_rows == "auto"
    return 1 if alone else available_cpus()


def _links_within(config: ServerConfig) -> Path | None:
    if not config.links_within:
        return None
    if not (folder := Path(config.links_within)).is_dir():
        raise ConfigError(f"--links-within {folder}: not a directory")
    return folder


def _store(config: ServerConfig) -> ModelStore:
    if scheme_of(config.repository) is None:
        return LocalStore(Path(config.repository), _links_within(config))
    cache = BundleCache(Path(config.cache_dir) if config.cache_dir else None, config.cache_bytes)
    return RemoteStore(config.repository, cache)
