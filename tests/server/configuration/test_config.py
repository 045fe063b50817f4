"""One frozen configuration, and how its addresses and devices are read."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from importlib.metadata import version
from typing import Any

import pytest

from latentserve_server.configuration.config import ServerConfig, parse_address, parse_device
from latentserve_server.configuration.sources import parse_config
from latentserve_server.errors import ConfigError


def test_the_version_is_told_before_onnxruntime_is_imported() -> None:
    check = (
        "import atexit, sys; from latentserve_server.cli import main;"
        "atexit.register(lambda: print('onnxruntime' in sys.modules)); main(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["latentserve-server", version("latentserve-server"), "False"]


def test_the_repository_is_all_that_must_be_said() -> None:
    config = parse_config(["--repository", "models"], {})
    assert config == ServerConfig(repository="models")
    assert (config.listen, config.device, config.max_batch_rows) == ("127.0.0.1:50051", "auto", 64)


def test_every_field_is_a_flag() -> None:
    given: dict[str, Any] = {
        "repository": "models",
        "links_within": "cache",
        "cache_dir": "cache",
        "cache_bytes": 1 << 20,
        "listen": "[::1]:1",
        "admin_listen": "[::1]:2",
        "metrics_listen": "off",
        "tls_cert": "tls.crt",
        "tls_key": "tls.key",
        "tls_client_ca": "ca.crt",
        "health_listen": "[::1]:3",
        "insecure": False,
        "workers": 2,
        "version_policy": "latest:3",
        "poll_interval": 0.5,
        "removal_delay": 1.0,
        "require_models": False,
        "scan_timeout": 1.0,
        "load_timeout": 2.0,
        "device": "cuda:1",
        "tf32": False,
        "gpu_memory_limit": 1 << 30,
        "cuda_graphs": True,
        "concurrent_runs": 1,
        "precision": "int8",
        "numerics": "fast",
        "cpu_threads": 3,
        "tokens": "tokens.yaml",
        "jwt_keys": "keys.json",
        "jwt_issuer": "https://issuer.example",
        "jwt_audience": "latentserve",
        "reflection": False,
        "caller_calls_per_second": 12.5,
        "caller_rows_per_second": 13.5,
        "caller_rows_in_flight": 10,
        "caller_calls_in_flight": 11,
        "max_rows_per_request": 5,
        "max_batch_rows": 6,
        "max_queue_rows": 7,
        "max_queue_bytes": 2 << 20,
        "max_inflight_bytes": 3 << 20,
        "max_memory_share": 0.5,
        "max_connections": 8,
        "max_connection_age": 10.5,
        "max_connection_grace": 11.5,
        "max_header_bytes": 2 << 10,
        "max_calls": 9,
        "pad_batches": "always",
        "max_message_bytes": 1 << 20,
        "unread_timeout": 0.5,
        "drain_delay": 1.5,
        "drain_timeout": 2.5,
        "log_level": "debug",
        "log_format": "text",
        "access_log": False,
        "trace_ratio": 0.25,
        "trace_endpoint": "https://collector:4317",
    }
    assert given.keys() == {field.name for field in dataclasses.fields(ServerConfig)}
    flags = [
        f"--{name.replace('_', '-')}={str(value).lower() if value is False else value}" for name, value in given.items()
    ]
    assert dataclasses.asdict(parse_config(flags, {})) == given


def test_a_configuration_is_frozen_and_named() -> None:
    config = ServerConfig(repository="models")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.listen = "127.0.0.1:1"  # type: ignore[misc]
    with pytest.raises(TypeError):
        ServerConfig("models")  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("device", "parsed"), [("auto", ("auto", 0)), ("cpu", ("cpu", 0)), ("cuda", ("cuda", 0)), ("cuda:13", ("cuda", 13))]
)
def test_a_device_is_a_kind_and_an_index(device: str, parsed: tuple[str, int]) -> None:
    assert parse_device(device) == parsed


@pytest.mark.parametrize(
    ("address", "host", "port"),
    [("localhost:0", "localhost", 0), ("0.0.0.0:65535", "0.0.0.0", 65535), ("[::]:80", "::", 80)],  # noqa: S104
)
def test_an_address_is_a_host_and_a_port(address: str, host: str, port: int) -> None:
    assert parse_address("--listen", address) == (host, port)


def test_a_port_of_thousands_of_digits_is_refused_like_any_other() -> None:
    with pytest.raises(ConfigError, match="--listen"):
        parse_address("--listen", "host:" + "9" * 5000)
