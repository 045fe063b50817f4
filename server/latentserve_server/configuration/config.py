"""The server's configuration: one frozen, validated object."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from latentserve_server.errors import OptionError
from latentserve_server.repository.policy import VersionPolicy
from latentserve_server.repository.remote_files import SCHEMES, scheme_of

_MAX_WORKERS = 256
"""More are a mistake: each holds every model."""

_MAX_CPU_THREADS = 1024
"""More are a mistake: onnxruntime starts all of them for every graph, and cannot be stopped while it does."""

_MAX_RATE = 1e12
"""More is no bound."""

_MAX_SECONDS = 1_000_000
"""gRPC counts milliseconds in 31 bits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ServerConfig:
    """Every decision about one server. Each field is a flag, a variable and a YAML key of the same name."""

    repository: str
    """Directory of model bundles, <name>/<version>/manifest.json, or its URL: s3://, gs:// or file://."""
    links_within: str = ""
    """Directory that links in the place of a bundle's files may lead into; empty refuses links."""
    cache_dir: str = ""
    """Directory where the bundles of a URL are kept, for one server; empty for one that goes with the process."""
    cache_bytes: int = 10 << 30
    """Bytes of bundles in the cache directory, at most; those used longest ago make room."""
    listen: str = "127.0.0.1:50051"
    """Address of the gRPC services, host:port; port 0 takes a free one."""
    admin_listen: str = "off"
    """Address of ModelAdminService, host:port; 'off' for none. Whoever reaches it may change what is served."""
    tokens: str = ""
    """File of the tokens of those who may call; without it and --jwt-keys everybody may."""
    jwt_keys: str = ""
    """Keys that JSON Web Tokens of callers are verified with: a JSON Web Key Set in a file, or its https URL."""
    jwt_issuer: str = ""
    """What the claim `iss` of such a token must be."""
    jwt_audience: str = ""
    """What the claim `aud` of such a token must be, or have in it."""
    caller_calls_per_second: float = 0.0
    """Calls a second of one caller, at most, where its token says nothing else; 0: without bound."""
    caller_rows_per_second: float = 0.0
    """Rows a second that graphs run for one caller, at most, where its token says nothing else; 0: without bound."""
    caller_rows_in_flight: int = 0
    """Rows of one caller that wait or run at a time, at most, but for a single call; 0: without bound."""
    caller_calls_in_flight: int = 0
    """Calls of one caller under way at a time, at most, whatever they ask for; 0: without bound."""
    reflection: bool = True
    """Describe the services to whoever asks, without a token, as grpcurl does."""
    metrics_listen: str = "127.0.0.1:9090"
    """Address of the Prometheus metrics, host:port, at /metrics; 'off' for none."""
    tls_cert: str = ""
    """PEM file of the server's certificate and those between it and its CA, for TLS at the addresses above."""
    tls_key: str = ""
    """PEM file of the certificate's private key, not encrypted."""
    tls_client_ca: str = ""
    """PEM file of the CAs of which clients must have a certificate; empty where they need none."""
    health_listen: str = "off"
    """Address, host:port, of gRPC health alone, never with TLS, for probes that speak none; 'off' for none."""
    insecure: bool = False
    """Do not warn of addresses beyond this machine that have no TLS."""
    workers: int = 1
    """Processes that answer at the one address, each with models and bounds of its own, at most 256."""
    version_policy: str = "latest:1"
    """Versions of each model to serve: 'latest:N', the N highest that load; 'all'; 'explicit', what aliases name."""
    poll_interval: float = 0.0
    """Seconds between scans of the repository for changes; 0 scans on SIGHUP or on request alone."""
    removal_delay: float = 60.0
    """Seconds that a version must be missing from the repository before it is unloaded, unless by Rescan or Unload."""
    require_models: bool = False
    """Do not start over a repository without a model; else the server waits for the first one."""
    scan_timeout: float = 120.0
    """Seconds that a scan of the repository may take; what is served stays then."""
    load_timeout: float = 600.0
    """Seconds that a version may take to be fetched, opened and tried; it is UNAVAILABLE then, and tried again."""
    device: str = "auto"
    """Where graphs run: 'cpu'; 'cuda' or 'cuda:N', which refuses to start unless it works; 'auto', CUDA if it works."""
    tf32: bool = False
    """On CUDA, round float32 products to 10 bits of mantissa, which is faster and less exact."""
    gpu_memory_limit: int = 0
    """Bytes of GPU memory that one graph's arena may take; 0 for no limit."""
    cuda_graphs: bool = False
    """On CUDA, capture the run of each batch size once, at load, and replay it."""
    concurrent_runs: int = 0
    """Runs of graphs on the device at a time, shared fairly by the models; 0: one on CUDA, without bound on the CPU."""
    precision: Literal["float32", "float16", "int8"] = "float32"
    """Which of a bundle's graphs to run: 'float32', 'float16' or 'int8'; float32 where it has none in that."""
    numerics: Literal["fast", "portable"] = "fast"
    """On the CPU, 'fast', or 'portable': slower, and the same bits on x86-64 processors with FMA, however many."""
    cpu_threads: int = 0
    """Threads of one run on the CPU, at most 1024; 0 takes the processors that are there for each worker."""
    max_rows_per_request: int = 4096
    """Rows (images or latents) in one call, at most."""
    max_batch_rows: int | Literal["auto"] = 64
    """Rows in one run of a graph, at most, or 'auto': as many as pay, measured of each model as it loads."""
    max_queue_rows: int = 8192
    """Rows that may wait for a graph; beyond, calls are refused at once."""
    max_queue_bytes: int = 256 << 20
    """Bytes of input that may wait for a graph; beyond, calls are refused at once."""
    max_inflight_bytes: int = 512 << 20
    """Bytes of requests that are not answered yet, at most; beyond, calls are refused before they are parsed."""
    max_memory_share: float = 0.75
    """Share of the memory, beside what it takes to be idle, that calls may take; beyond, they are refused; 0: any."""
    max_connections: int = 10_000
    """Connections to the gRPC services at a time, or fewer, so that files can be opened; those beyond are closed."""
    max_connection_age: float = 0.0
    """Seconds that a connection to the gRPC services lasts, give or take a tenth; 0: as long as its client wishes."""
    max_connection_grace: float = 600.0
    """Seconds that calls under way then have to end."""
    max_header_bytes: int = 16 << 10
    """Bytes of the headers (metadata) of one call, at most, as HTTP/2 counts them."""
    max_calls: int = 16384
    """Calls under way at a time, whatever they ask for; beyond, calls are refused at once."""
    pad_batches: Literal["auto", "always", "never"] = "auto"
    """Fill batches up to a power of two rows, so that the device meets few shapes; 'auto' does so on CUDA."""
    max_message_bytes: int = 64 << 20
    """Bytes of one request or reply, at most."""
    unread_timeout: float = 300.0
    """Seconds that a message of a stream may wait for its reader, until the stream ends."""
    drain_delay: float = 0.0
    """Seconds between NOT_SERVING and the refusal of new calls on SIGTERM."""
    drain_timeout: float = 30.0
    """Seconds that calls under way have to end after SIGTERM."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least level of log lines."""
    log_format: Literal["json", "text"] = "json"
    """Form of log lines, on standard error."""
    access_log: bool = True
    """Log every call, at level info."""
    trace_ratio: float = 0.0
    """Share of calls, 0 to 1, that are traced where the caller's traceparent does not decide; 0 traces none at all."""
    trace_endpoint: str = "http://127.0.0.1:4317"
    """URL of the collector that traces are sent to by OTLP over gRPC, http://host:port, or https:// for TLS."""

    def __post_init__(self) -> None:
        """Check the values against each other.

        Raises:
            OptionError: a value is not allowed.
        """
        self._check("repository", self.repository.strip() != "", "names no directory and no URL")
        known = scheme_of(self.repository) in (None, *SCHEMES)
        self._check("repository", known, f"write a directory, or a URL of {', '.join(SCHEMES)}")
        self._check("jwt_keys", "://" not in self.jwt_keys or self.jwt_keys.startswith("https://"), "must be https")
        for name in ("jwt_issuer", "jwt_audience"):
            needed = "is needed beside --jwt-keys" if self.jwt_keys else "does nothing without --jwt-keys"
            self._check(name, bool(getattr(self, name)) == bool(self.jwt_keys), needed)
        for name in ("calls_per_second", "rows_per_second", "rows_in_flight", "calls_in_flight"):
            limit = getattr(self, f"caller_{name}")
            self._check(f"caller_{name}", 0 <= limit < _MAX_RATE, "must not be negative")
        for name in ("max_rows_per_request", "max_queue_rows", "max_connections", "max_calls"):
            self._check(name, getattr(self, name) >= 1, "must be at least 1")
        self._check("workers", 1 <= self.workers <= _MAX_WORKERS, f"must be 1 to {_MAX_WORKERS}")
        rows = self.max_batch_rows
        self._check("max_batch_rows", rows == "auto" or rows >= 1, "must be auto, or at least 1")
        parse_device(self.device)
        on_cuda = self.device.startswith("cuda")
        self._check("numerics", self.numerics == "fast" or not on_cuda, "is the CPU's; CUDA has no portable bits")
        padded = self.pad_batches != "never" and self.device != "cpu"
        self._check("cuda_graphs", padded or not self.cuda_graphs, "needs CUDA and padded batches")
        self._check("gpu_memory_limit", self.gpu_memory_limit >= 0, "must not be negative")
        self._check("concurrent_runs", self.concurrent_runs >= 0, "must not be negative")
        serial = self.concurrent_runs in (0, 1) or not self.cuda_graphs
        self._check("concurrent_runs", serial, "does not go with --cuda-graphs, whose capture must be alone")
        self._check("cpu_threads", 0 <= self.cpu_threads <= _MAX_CPU_THREADS, f"must be 0 to {_MAX_CPU_THREADS}")
        self._check("cache_bytes", self.cache_bytes >= 1 << 20, "must be at least 1 MiB")
        self._check("unread_timeout", self.unread_timeout > 0, "must be above 0")
        self._check("drain_delay", self.drain_delay >= 0, "must not be negative")
        self._check("drain_timeout", self.drain_timeout >= 0, "must not be negative")
        self._check("max_message_bytes", 1 << 20 <= self.max_message_bytes < 1 << 31, "must be 1 MiB to 2 GiB - 1")
        self._check("max_connection_age", 0 <= self.max_connection_age <= _MAX_SECONDS, f"must be 0 to {_MAX_SECONDS}")
        grace = 0 < self.max_connection_grace <= _MAX_SECONDS
        self._check("max_connection_grace", grace, f"must be above 0, at most {_MAX_SECONDS}")
        self._check("max_header_bytes", 1 << 10 <= self.max_header_bytes <= 1 << 20, "must be 1 KiB to 1 MiB")
        for name, floor in (
            ("max_queue_bytes", "max_message_bytes"),
            ("max_inflight_bytes", "max_message_bytes"),
            ("max_queue_rows", "max_rows_per_request"),
        ):
            problem = f"must not be below {_flag(floor)}, which is {getattr(self, floor)}"
            self._check(name, getattr(self, name) >= getattr(self, floor), problem)
        self._check("max_memory_share", 0 <= self.max_memory_share <= 1, "must be 0 to 1")
        self._check("poll_interval", self.poll_interval == 0 or self.poll_interval >= 0.1, "must be 0 or at least 0.1")
        for name in ("scan_timeout", "load_timeout"):
            self._check(name, getattr(self, name) > 0, "must be above 0")
        self._check("removal_delay", self.removal_delay >= 0, "must not be negative")
        self._check("tls_cert", bool(self.tls_key) or not self.tls_cert, "needs --tls-key, too")
        self._check("tls_key", bool(self.tls_cert) or not self.tls_key, "needs --tls-cert, too")
        self._check("tls_client_ca", bool(self.tls_cert) or not self.tls_client_ca, "needs --tls-cert and --tls-key")
        self._check("trace_ratio", 0 <= self.trace_ratio <= 1, "must be 0 to 1")
        self._check("trace_endpoint", _is_endpoint(self.trace_endpoint), "write http://host:port or https://host:port")
        VersionPolicy.parse(self.version_policy)
        parse_address("--listen", self.listen)
        if self.admin_listen != "off":
            parse_address("--admin-listen", self.admin_listen)
        if self.metrics_listen != "off":
            parse_address("--metrics-listen", self.metrics_listen)
        if self.health_listen != "off":
            parse_address("--health-listen", self.health_listen)

    def _check(self, name: str, holds: bool, problem: str) -> None:
        if not holds:
            raise OptionError(_flag(name), getattr(self, name), problem)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _is_endpoint(url: str) -> bool:
    scheme, separator, address = url.removesuffix("/").partition("://")
    if not separator or scheme not in ("http", "https"):
        return False
    try:
        parse_address("--trace-endpoint", address)
    except OptionError:
        return False
    return not set(address) & set("/?#@ ")


def parse_address(option: str, address: str) -> tuple[str, int]:
    """Host and port of "host:port" or "[v6]:port".

    Raises:
        OptionError: the address is neither.
    """
    host, colon, port = address.rpartition(":")
    if not colon or not host or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 65535:
        raise OptionError(option, address, "write host:port, with a port of 0 to 65535")
    return host.removeprefix("[").removesuffix("]"), int(port)


def parse_device(device: str) -> tuple[str, int]:
    """The kind and the index of "auto", "cpu", "cuda" or "cuda:N".

    Raises:
        OptionError: it is none of these.
    """
    kind, colon, index = device.partition(":")
    if kind not in ("auto", "cpu", "cuda") or (colon and (kind != "cuda" or not re.fullmatch("[0-9]{1,3}", index))):
        raise OptionError("--device", device, "write auto, cpu, cuda or cuda:N")
    return kind, int(index or 0)
