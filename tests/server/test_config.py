"""One frozen configuration from flags, environment and file; every bad value is refused in one line."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from latentserve_server.cli import main
from latentserve_server.config import ServerConfig, parse_address, parse_config, parse_device
from latentserve_server.errors import ConfigError

COMMAND = str(Path(sys.executable).parent / "latentserve-server")


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, run to its end in an environment that has no other LATENTSERVE_* variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LATENTSERVE_")}
    return subprocess.run(
        [COMMAND, *arguments], env=clean | environment, capture_output=True, text=True, timeout=30, check=False
    )


def test_the_version_is_told_before_onnxruntime_is_imported() -> None:
    check = (
        "import atexit, sys; from latentserve_server.cli import main;"
        "atexit.register(lambda: print('onnxruntime' in sys.modules)); main(['--version'])"
    )
    done = subprocess.run([sys.executable, "-c", check], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["latentserve-server", version("latentserve-server"), "False"]


def test_the_repository_is_all_that_must_be_said() -> None:
    config = parse_config(["--repository", "models"])
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
        "version_policy": "latest:3",
        "poll_interval": 0.5,
        "removal_delay": 1.0,
        "require_models": False,
        "look_timeout": 1.0,
        "load_timeout": 2.0,
        "device": "cuda:1",
        "tf32": False,
        "gpu_memory_limit": 1 << 30,
        "cuda_graphs": True,
        "concurrent_runs": 1,
        "precision": "int8",
        "numerics": "fast",
        "cpu_threads": 3,
        "max_rows_per_request": 5,
        "max_batch_rows": 6,
        "max_queue_rows": 7,
        "max_queue_bytes": 2 << 20,
        "max_inflight_bytes": 3 << 20,
        "max_connections": 8,
        "max_calls": 9,
        "pad_batches": "always",
        "max_message_bytes": 1 << 20,
        "drain_delay": 1.5,
        "drain_timeout": 2.5,
        "log_level": "debug",
        "log_format": "text",
        "access_log": False,
    }
    assert given.keys() == {field.name for field in dataclasses.fields(ServerConfig)}
    flags = [
        f"--{name.replace('_', '-')}={str(value).lower() if value is False else value}" for name, value in given.items()
    ]
    assert dataclasses.asdict(parse_config(flags)) == given


FILE = "repository: from-file\ncpu_threads: 1\nmax_batch_rows: 1\nlog_level: error\n"


def test_flags_win_over_the_environment_which_wins_over_the_file(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text(FILE)
    variables = {"CONFIG": str(file), "MAX_BATCH_ROWS": "2", "CPU_THREADS": "2"}
    printed = run_command(
        "--max-batch-rows=3", "--print_config", **{f"LATENTSERVE_{name}": value for name, value in variables.items()}
    )
    assert printed.returncode == 0
    lines = printed.stdout.splitlines()
    assert {"repository: from-file", "cpu_threads: 2", "max_batch_rows: 3", "log_level: error"} <= set(lines)
    assert "max_rows_per_request: 4096" in lines


def test_a_file_that_a_flag_names_counts_as_flags(tmp_path: Path) -> None:
    file = tmp_path / "server.yaml"
    file.write_text(FILE)
    printed = run_command("--config", str(file), "--print_config", LATENTSERVE_CPU_THREADS="2")
    assert "cpu_threads: 2" not in printed.stdout.splitlines()
    printed = run_command("--config", str(file), "--cpu-threads=5", "--print_config", LATENTSERVE_CPU_THREADS="2")
    assert "cpu_threads: 5" in printed.stdout.splitlines()


def test_the_environment_alone_is_enough() -> None:
    printed = run_command("--print_config", LATENTSERVE_REPOSITORY="from-environment", LATENTSERVE_ACCESS_LOG="false")
    assert {"repository: from-environment", "access_log: false"} <= set(printed.stdout.splitlines())


def test_a_configuration_is_frozen_and_named() -> None:
    config = ServerConfig(repository="models")
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.listen = "127.0.0.1:1"  # type: ignore[misc]
    with pytest.raises(TypeError):
        ServerConfig("models")  # type: ignore[call-arg]


NOT_ALLOWED = {
    "repository": ["", " "],
    "max_rows_per_request": ["0", "-1"],
    "max_batch_rows": ["0", "-64"],
    "max_queue_rows": ["0", "4095"],
    "max_connections": ["0", "-1"],
    "max_calls": ["0", "-1"],
    "cpu_threads": ["-1", "1025"],
    "cache_bytes": ["0", str((1 << 20) - 1)],
    "drain_delay": ["-0.1"],
    "poll_interval": ["-1", "0.05"],
    "version_policy": ["", "latest", "latest:0", "latest:-1", "latest:01", "newest", "1,2", "all "],
    "drain_timeout": ["-1"],
    "device": ["", "gpu", "cpu:0", "auto:1", "cuda:", "cuda:x", "cuda:-1", "cuda:1000", "CUDA"],
    "gpu_memory_limit": ["-1"],
    "concurrent_runs": ["-1"],
    "max_queue_bytes": ["0", str((64 << 20) - 1)],
    "max_inflight_bytes": ["0", str((64 << 20) - 1)],
    "max_message_bytes": ["0", str((1 << 20) - 1), str(1 << 31)],
    "listen": ["", "50051", "host:", ":50051", "host:65536", "host:-1", "host:http", "host:1 ", "host:٣"],
    "metrics_listen": ["on", "9090", "host:99999"],
    "admin_listen": ["on", "50052", "host:99999"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in NOT_ALLOWED.items() for value in values])
def test_a_value_that_is_not_allowed_is_refused_in_one_line_that_names_it(
    capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    flag = f"--{name.replace('_', '-')}"
    assert main(["--repository", "models", f"{flag}={value}"]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"latentserve-server: {flag} {value}")


MISUNDERSTOOD = [
    ("cpu_threads", "many"),
    ("max_batch_rows", "1.5"),
    ("drain_timeout", "soon"),
    ("drain_delay", "nan"),
    ("device", "tpu"),
    ("log_level", "chatty"),
    ("log_format", "xml"),
    ("access_log", "perhaps"),
]


@pytest.mark.parametrize(("name", "value"), MISUNDERSTOOD)
def test_a_value_of_another_type_is_refused_and_named(
    capsys: pytest.CaptureFixture[str], name: str, value: str
) -> None:
    assert main(["--repository", "models", f"--{name.replace('_', '-')}={value}"]) == 1
    complaint = capsys.readouterr().err
    assert name in complaint
    assert value in complaint


@pytest.mark.parametrize(
    "arguments",
    [
        ["--repository=models", "--cpu-threads=many"],
        ["--repository=models", "--device=tpu"],
        ["--repository=models", "--bogus=1"],
        ["--repository=models", "--config=/nowhere.yaml"],
        [],
    ],
)
def test_what_is_not_understood_is_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    try:
        code: Any = main(arguments)
    except SystemExit as left:
        code = left.code
    assert code not in (0, None)
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [("devise: cpu\n", "devise"), ("cpu_threads: many\n", "cpu_threads"), ("{", "config"), ("- a\n- b\n", "config")],
)
def test_a_file_that_is_not_understood_is_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, complaint: str
) -> None:
    file = tmp_path / "server.yaml"
    file.write_text(text)
    assert main(["--repository", "models", "--config", str(file)]) == 1
    error = capsys.readouterr().err
    assert complaint in error
    assert "Traceback" not in error


def test_a_bad_value_in_the_environment_is_refused() -> None:
    done = run_command("--repository", "models", LATENTSERVE_MAX_BATCH_ROWS="0")
    assert done.returncode == 1
    assert done.stderr == "latentserve-server: --max-batch-rows 0: must be at least 1\n"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--cuda-graphs=true", "--device=cpu"], "--cuda-graphs True: needs CUDA and padded batches"),
        (["--cuda-graphs=true", "--pad-batches=never"], "--cuda-graphs True: needs CUDA and padded batches"),
        (
            ["--cuda-graphs=true", "--concurrent-runs=2"],
            "--concurrent-runs 2: does not go with --cuda-graphs, whose capture must be alone",
        ),
    ],
)
def test_cuda_graphs_demand_what_they_need(
    capsys: pytest.CaptureFixture[str], options: list[str], complaint: str
) -> None:
    assert main(["--repository", "models", *options]) == 1
    assert capsys.readouterr().err == f"latentserve-server: {complaint}\n"


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
