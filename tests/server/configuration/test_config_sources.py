"""Flags, variables, a YAML file and defaults: which of them a value comes from, and how bad ones are refused."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from latentserve_server.cli import main
from latentserve_server.configuration.config import ServerConfig
from latentserve_server.configuration.sources import parse_config
from latentserve_server.errors import ConfigError

COMMAND = str(Path(sys.executable).parent / "latentserve-server")
SERVICE = {
    "LATENTSERVE_SERVICE_HOST": "10.0.0.1",
    "LATENTSERVE_SERVICE_PORT": "50051",
    "LATENTSERVE_SERVICE_PORT_GRPC": "50051",
    "LATENTSERVE_PORT": "tcp://10.0.0.1:50051",
    "LATENTSERVE_PORT_50051_TCP": "tcp://10.0.0.1:50051",
    "LATENTSERVE_PORT_50051_TCP_PROTO": "tcp",
    "LATENTSERVE_PORT_50051_TCP_PORT": "50051",
    "LATENTSERVE_PORT_50051_TCP_ADDR": "10.0.0.1",
    "LATENTSERVE_ADMIN_SERVICE_HOST": "10.0.0.2",
    "LATENTSERVE_ADMIN_PORT": "tcp://10.0.0.2:50052",
    "LATENTSERVE_ADMIN_PORT_50052_TCP_ADDR": "10.0.0.2",
}
"""What Kubernetes tells every pod of a Service called latentserve, and of one called latentserve-admin."""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a test may write a file of options."""
    return tmp_path / "server.yaml"


def refusal(*arguments: str, environment: Mapping[str, str] | None = None) -> str:
    """What is said of a configuration that is refused."""
    with pytest.raises(ConfigError) as refused:
        parse_config(["--repository", "models", *arguments], environment or {})
    return str(refused.value)


def run_command(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command, run to its end in an environment that has no other LATENTSERVE_* variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LATENTSERVE_")}
    return subprocess.run(
        [COMMAND, *arguments], env=clean | environment, capture_output=True, text=True, timeout=30, check=False
    )


RANK = ["flag", "variable", "file that a flag names", "file that a variable names", "default"]
VALUES = {"flag": 1, "variable": 2, "file that a flag names": 3, "file that a variable names": 4, "default": 64}
PAIRS = [(higher, lower) for place, higher in enumerate(RANK) for lower in RANK[place + 1 :]]


@pytest.mark.parametrize(("higher", "lower"), PAIRS)
@pytest.mark.parametrize("flag_first", [True, False])
def test_the_higher_of_two_sources_wins(tmp_path: Path, higher: str, lower: str, flag_first: bool) -> None:
    given = {source: VALUES[source] for source in (higher, lower)}
    for source in given:
        (tmp_path / f"{source}.yaml").write_text(f"max_batch_rows: {VALUES[source]}\n")
    flags = [[f"--max-batch-rows={given['flag']}"]] if "flag" in given else []
    if "file that a flag names" in given:
        flags.append(["--config", str(tmp_path / "file that a flag names.yaml")])
    environment = {"LATENTSERVE_MAX_BATCH_ROWS": str(given["variable"])} if "variable" in given else {}
    if "file that a variable names" in given:
        environment["LATENTSERVE_CONFIG"] = str(tmp_path / "file that a variable names.yaml")
    ordered = flags if flag_first else flags[::-1]
    config = parse_config(["--repository=models", *(word for flag in ordered for word in flag)], environment)
    assert config.max_batch_rows == VALUES[higher]


def test_of_several_files_the_last_that_has_the_option_counts(tmp_path: Path) -> None:
    for name, text in {"1": "cpu_threads: 1\nmax_calls: 1\n", "2": "cpu_threads: 2\n"}.items():
        (tmp_path / name).write_text(text)
    config = parse_config(["--repository=m", *(f"--config={tmp_path / name}" for name in "12")], {})
    assert (config.cpu_threads, config.max_calls) == (2, 1)


def test_the_command_takes_all_sources_and_prints_them(file: Path) -> None:
    file.write_text("repository: from-file\n\ncpu_threads: 1\nmax_batch_rows: 1\nlog_level: error\n")
    done = run_command(
        "--max-batch-rows=3", "--print-config", LATENTSERVE_CPU_THREADS="2", LATENTSERVE_CONFIG=str(file), **SERVICE
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert {
        f"repository: from-file  # {file}:1",
        "cpu_threads: 2  # LATENTSERVE_CPU_THREADS",
        "max_batch_rows: 3  # --max-batch-rows",
        f"log_level: error  # {file}:5",
        "max_rows_per_request: 4096  # default",
    } <= set(lines)


def test_what_is_printed_is_a_file_of_the_same_configuration(capsys: pytest.CaptureFixture[str], file: Path) -> None:
    flags = ["--repository=#1: a", "--metrics-listen=off", "--tf32=true", "--poll-interval=0.5"]
    with pytest.raises(SystemExit) as left:
        main([*flags, "--print_config"])
    assert left.value.code == 0
    file.write_text(capsys.readouterr().out)
    assert parse_config([f"--config={file}"], {}) == parse_config(flags, {})


@pytest.mark.parametrize("variable", ["LATENTSERVE_MAX_BATCH_ROW", "LATENTSERVE_MAXBATCHROWS"])
def test_a_misspelt_variable_is_refused_with_what_was_meant(variable: str) -> None:
    assert refusal(environment={variable: "1"}) == (
        f"variable {variable}: there is no such option; did you mean LATENTSERVE_MAX_BATCH_ROWS?"
    )


def test_a_port_that_is_no_service_is_a_misspelt_variable() -> None:
    assert "LATENTSERVE_PORT" in refusal(environment={"LATENTSERVE_PORT": "8080"})


def test_variables_of_others_do_not_disturb() -> None:
    others = {**SERVICE, "LATENTSERVE_MNIST": "/data", "LATENTSERVE_SERVER": "host:1", "HOME": "/", "LATENTSERVER": "1"}
    assert parse_config(["--repository=models"], others) == ServerConfig(repository="models")


WRITTEN = [
    ("metrics_listen", "off", "off"),
    ("metrics_listen", "'off'", "off"),
    ("repository", "2026", "2026"),
    ("repository", "1.0", "1.0"),
    ("repository", "yes", "yes"),
    ("repository", "2026-11-21", "2026-11-21"),
    ("cache_dir", "", ""),
    ("cache_dir", "null", ""),
    ("cache_dir", "'null'", "null"),
    ("cpu_threads", "'2'", 2),
    ("max_calls", "10_000", 10_000),
    ("poll_interval", "1", 1.0),
    ("poll_interval", "5e-1", 0.5),
    ("access_log", "off", False),
    ("access_log", "No", False),
    ("access_log", "false", False),
    ("tf32", "on", True),
    ("tf32", "'true'", True),
]


@pytest.mark.parametrize(("name", "written", "value"), WRITTEN)
def test_a_value_of_a_file_counts_as_it_is_written(file: Path, name: str, written: str, value: object) -> None:
    file.write_text(f"{name}: {written}\n")
    given = {} if name == "repository" else {"LATENTSERVE_REPOSITORY": "models"}
    assert getattr(parse_config(["--config", str(file)], given), name) == value


MISUNDERSTOOD = [
    ("cpu_threads", "many", "must be a whole number (threads of one run on the CPU, at most 1024; 0 takes the"),
    ("max_batch_rows", "1.5", "must be a whole number (rows in one run of a graph"),
    ("max_batch_rows", "1e2", "must be a whole number (rows"),
    ("max_batch_rows", "٣", "must be a whole number (rows"),
    ("max_batch_rows", "", "must be a whole number (rows"),
    ("max_batch_rows", "0", "must be at least 1 (rows in one run of a graph"),
    ("max_queue_rows", "10", "must not be below --max-rows-per-request, which is 4096 (rows that may wait"),
    ("drain_timeout", "soon", "must be a number (seconds that calls under way have to end after SIGTERM)"),
    ("drain_timeout", "inf", "must be a number (seconds"),
    ("drain_delay", "nan", "must be a number (seconds"),
    ("drain_delay", "-1", "must not be negative (seconds"),
    ("device", "tpu", "write auto, cpu, cuda or cuda:N"),
    ("log_level", "chatty", "must be one of debug, info, warning, error"),
    ("log_format", "xml", "must be one of json, text"),
    ("access_log", "perhaps", "must be true or false"),
    ("listen", "50051", "write host:port, with a port of 0 to 65535"),
]


@pytest.mark.parametrize(("name", "value", "allowed"), MISUNDERSTOOD)
def test_what_is_no_value_is_refused_with_its_place_and_what_is_allowed(
    file: Path, name: str, value: str, allowed: str
) -> None:
    flag, variable = f"--{name.replace('_', '-')}", f"LATENTSERVE_{name.upper()}"
    file.write_text(f"# ours\n{name}: {value}\n")
    assert refusal(f"{flag}={value}").startswith(f"{flag} {value}: {allowed}")
    assert refusal(environment={variable: value}).startswith(f"{variable}={value}: {allowed}")
    assert refusal("--config", str(file)).startswith(f"{file}:2: {name}: {value}: {allowed}")


def test_a_default_that_another_option_forbids_is_called_so() -> None:
    assert refusal("--max-rows-per-request=9000").startswith(
        "--max-queue-rows 8192, the default: must not be below --max-rows-per-request, which is 9000 "
    )


FILES = [
    ("devise: cpu\n", ":1: devise: there is no such option; did you mean device?"),
    ("device: cpu\nmax-calls: 1\n", ":2: max-calls: there is no such option; did you mean max_calls?"),
    ("device: cpu\ndevice: cuda\n", ":2: device: stands there twice, first at {file}:1"),
    ("device: [cpu]\n", ":1: device: must be one value, neither a list nor a mapping"),
    ("device: {cpu: 1}\n", ":1: device: must be one value, neither a list nor a mapping"),
    ("? [a]\n: 1\n", ":1: a key that is no text: there is no such option"),
    ("- a\n- b\n", ":1: must be a mapping of options to values, such as cpu_threads: 2"),
    ("cpu\n", ":1: must be a mapping of options to values"),
    ("device: cpu\n{", ":2: no YAML: "),
    ("device: cpu\n---\ndevice: cuda\n", ":2: no YAML: "),
    ("device: \x00", ": no YAML: "),
]


@pytest.mark.parametrize(("text", "complaint"), FILES)
def test_a_file_that_is_not_understood_is_refused_with_its_line(file: Path, text: str, complaint: str) -> None:
    file.write_text(text)
    assert refusal("--config", str(file)).startswith(f"{file}{complaint.format(file=file)}")


def test_an_empty_file_says_nothing(file: Path) -> None:
    file.write_text("# nothing\n")
    assert parse_config([f"--config={file}", "--repository=m"], {}) == ServerConfig(repository="m")


@pytest.mark.parametrize(("path", "problem"), [("/nowhere.yaml", "No such file or directory"), ("", "names no file")])
def test_a_file_that_cannot_be_read_is_named_by_who_names_it(path: str, problem: str) -> None:
    assert refusal("--config", path) == f"--config {path}: {problem}"
    assert refusal(environment={"LATENTSERVE_CONFIG": path}) == f"LATENTSERVE_CONFIG={path}: {problem}"


def test_bytes_that_are_no_text_are_refused(file: Path) -> None:
    file.write_bytes(b"device: \xff\xfe")
    assert refusal("--config", str(file)).startswith(f"{file}: no YAML: ")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--repository=m", "--bogus=1"], "--bogus: there is no such option"),
        (["--repository=m", "--max_calls", "1"], "--max_calls: there is no such option; did you mean --max-calls?"),
        (["models"], "models: belongs to no option"),
        (["--repository=m", "--listen"], "--listen: expected one argument"),
        ([], "--repository is missing: Directory of model bundles"),
    ],
)
def test_what_is_not_understood_is_one_line_and_wrong_usage(
    capsys: pytest.CaptureFixture[str], arguments: list[str], line: str
) -> None:
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"latentserve-server: {line}")
    assert error.count("\n") == 1


def test_every_option_is_explained_with_its_variable_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in ServerConfig.__dataclass_fields__:
        assert f"LATENTSERVE_{name.upper()})" in text
    assert "Seconds that calls under way have to end after SIGTERM. (default: 30.0; " in text
