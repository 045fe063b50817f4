"""Flags, variables, a YAML file and defaults: which of them a value comes from, and how bad ones are refused."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from latentserve_server.cli import main
from latentserve_server.configuration.config import ServerConfig
from latentserve_server.configuration.option import server_options
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


def refusal(*arguments: str, environment: Mapping[str, str] | None = None, repository: bool = True) -> str:
    """What is said of a configuration that is refused; it names a repository besides, unless told not to."""
    with pytest.raises(ConfigError) as refused:
        parse_config([*(["--repository=models"] if repository else []), *arguments], environment or {})
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


def test_variables_of_others_do_not_disturb() -> None:
    others = {**SERVICE, "LATENTSERVE_MNIST": "/data", "LATENTSERVE_SERVER": "host:1", "HOME": "/", "LATENTSERVER": "1"}
    others |= {"LATENTSERVE_ADMIN_SERVER": "host:2", "LATENTSERVE_CLIENT_TLS_CA": "ca.crt"}
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
    ("max_batch_rows", "auto", "auto"),
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


ADDRESS = "write host:port, with a port of 0 to 65535"
POLICY = "write all, latest:N with N of at least 1, or explicit"
ENDPOINT = "write http://host:port or https://host:port"
DEVICE = "write auto, cpu, cuda or cuda:N"
CUDA = "needs CUDA and padded batches"
NOT_BELOW_MESSAGES = "must not be below --max-message-bytes, which is 67108864"
NOT_BELOW_ROWS = "must not be below --max-rows-per-request, which is 4096"
REFUSED: dict[tuple[str, ...], str] = {
    ("repository", "", " "): "names no directory and no URL",
    ("repository", "ftp://host/models"): "write a directory, or a URL of file, gs, s3",
    ("max_rows_per_request", "0", "-1"): "must be at least 1",
    ("max_batch_rows", "0", "-64"): "must be auto, or at least 1",
    ("max_batch_rows", "1.5", "1e2", "٣", ""): "must be auto, or a whole number",
    ("max_queue_rows", "0"): "must be at least 1",
    ("max_queue_rows", "10", "4095"): NOT_BELOW_ROWS,
    ("max_connections", "0", "-1"): "must be at least 1",
    ("max_connection_age", "-1", "1000001"): "must be 0 to 1000000",
    ("max_connection_grace", "0", "1000001"): "must be above 0, at most 1000000",
    ("unread_timeout", "0", "-1"): "must be above 0",
    ("max_header_bytes", "1023", str((1 << 20) + 1)): "must be 1 KiB to 1 MiB",
    ("max_calls", "0", "-1"): "must be at least 1",
    ("cpu_threads", "many"): "must be a whole number",
    ("cpu_threads", "-1", "1025"): "must be 0 to 1024",
    ("workers", "0", "257"): "must be 1 to 256",
    ("cache_bytes", "0", str((1 << 20) - 1)): "must be at least 1 MiB",
    ("trace_ratio", "-0.1", "1.01"): "must be 0 to 1",
    ("trace_endpoint", "", "host:4317", "ftp://host:1", "http://host", "http://h:1/v1"): ENDPOINT,
    ("drain_delay", "nan"): "must be a number",
    ("drain_delay", "-1", "-0.1"): "must not be negative",
    ("drain_timeout", "soon", "inf"): "must be a number",
    ("drain_timeout", "-1"): "must not be negative",
    ("poll_interval", "-1", "0.05"): "must be 0 or at least 0.1",
    ("version_policy", "", "latest", "latest:0", "latest:-1", "latest:01", "newest", "1,2", "all "): POLICY,
    ("device", "", "tpu", "cpu:0", "auto:1", "cuda:", "cuda:x", "cuda:-1", "cuda:1000", "CUDA"): DEVICE,
    ("gpu_memory_limit", "-1"): "must not be negative",
    ("concurrent_runs", "-1"): "must not be negative",
    ("max_queue_bytes", "0", str((64 << 20) - 1)): NOT_BELOW_MESSAGES,
    ("max_inflight_bytes", "0", str((64 << 20) - 1)): NOT_BELOW_MESSAGES,
    ("max_memory_share", "-0.1", "1.1"): "must be 0 to 1",
    ("max_message_bytes", "0", str((1 << 20) - 1), str(1 << 31)): "must be 1 MiB to 2 GiB - 1",
    ("listen", "", "50051", "host:", ":50051", "host:65536", "host:-1", "host:http", "host:1 ", "host:٣"): ADDRESS,
    ("metrics_listen", "on", "9090", "host:99999"): ADDRESS,
    ("admin_listen", "on", "50052", "host:99999"): ADDRESS,
    ("health_listen", "on", "50053", "host:99999"): ADDRESS,
    ("tls_cert", "tls.crt"): "needs --tls-key, too",
    ("tls_key", "tls.key"): "needs --tls-cert, too",
    ("tls_client_ca", "ca.crt"): "needs --tls-cert and --tls-key",
    ("insecure", "", "2"): "must be true or false",
    ("log_level", "chatty"): "must be one of debug, info, warning, error",
    ("log_format", "xml"): "must be one of json, text",
    ("access_log", "perhaps"): "must be true or false",
}
"""What is said of an option's values. Of a number, what it counts is said besides."""
OPTIONS = {option.name: option for option in server_options()}


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [(name, value, rule) for (name, *values), rule in REFUSED.items() for value in values],
)
def test_what_is_no_value_is_refused_with_its_place_and_what_is_allowed(
    file: Path, name: str, value: str, rule: str
) -> None:
    flag, variable, said = OPTIONS[name].flag, OPTIONS[name].variable, OPTIONS[name].explain(rule)
    file.write_text(f"# ours\n{name}: '{value}'\n")
    assert refusal(f"{flag}={value}", repository=name != "repository") == f"{flag} {value}: {said}"
    given = {variable: value}
    assert refusal(environment=given, repository=name != "repository") == f"{variable}={value}: {said}"
    assert refusal("--config", str(file), repository=name != "repository") == f"{file}:2: {name}: {value}: {said}"


TOGETHER = [
    (
        ["--max-rows-per-request=9000"],
        "max_queue_rows",
        " 8192, the default",
        "must not be below --max-rows-per-request, which is 9000",
    ),
    (["--cuda-graphs=true", "--device=cpu"], "cuda_graphs", " true", CUDA),
    (["--cuda-graphs=true", "--pad-batches=never"], "cuda_graphs", " true", CUDA),
    (
        ["--cuda-graphs=true", "--concurrent-runs=2"],
        "concurrent_runs",
        " 2",
        "does not go with --cuda-graphs, whose capture must be alone",
    ),
]


@pytest.mark.parametrize(("flags", "name", "value", "rule"), TOGETHER)
def test_options_that_do_not_go_together_are_refused(flags: list[str], name: str, value: str, rule: str) -> None:
    assert refusal(*flags) == f"{OPTIONS[name].flag}{value}: {OPTIONS[name].explain(rule)}"


FILES = [
    ("devise: cpu\n", ":1: devise: there is no such option; did you mean device?"),
    ("metrics: off\n", ":1: metrics: there is no such option"),
    ("device: cpu\nmax-calls: 1\n", ":2: max-calls: there is no such option; did you mean max_calls?"),
    ("device: cpu\ndevice: cuda\n", ":2: device: stands there twice, first at {file}:1"),
    ("device: [cpu]\n", ":1: device: must be one value, neither a list nor a mapping"),
    ("device: {cpu: 1}\n", ":1: device: must be one value, neither a list nor a mapping"),
    ("? [a]\n: 1\n", ":1: a key that is no text: there is no such option"),
    ("- a\n- b\n", ":1: must be a mapping of options to values, such as cpu_threads: 2"),
    ("cpu\n", ":1: must be a mapping of options to values, such as cpu_threads: 2"),
    ("device: cpu\n{", ":2: no YAML: ..."),
    ("device: cpu\n---\ndevice: cuda\n", ":2: no YAML: ..."),
    ("device: \x00", ": no YAML: ..."),
    (b"device: \xff\xfe", ": no YAML: ..."),
]


@pytest.mark.parametrize(("text", "complaint"), FILES)
def test_a_file_that_is_not_understood_is_refused_with_its_line(file: Path, text: str | bytes, complaint: str) -> None:
    file.write_bytes(text.encode() if isinstance(text, str) else text)
    said = re.sub("(?<=no YAML: ).+", "...", refusal("--config", str(file)))  # PyYAML's own words, in one line
    assert said == f"{file}{complaint.format(file=file)}"


def test_an_empty_file_says_nothing(file: Path) -> None:
    file.write_text("# nothing\n")
    assert parse_config([f"--config={file}", "--repository=m"], {}) == ServerConfig(repository="m")


@pytest.mark.parametrize(("path", "problem"), [("/nowhere.yaml", "No such file or directory"), ("", "names no file")])
def test_a_file_that_cannot_be_read_is_named_by_who_names_it(path: str, problem: str) -> None:
    assert refusal("--config", path) == f"--config {path}: {problem}"
    assert refusal(environment={"LATENTSERVE_CONFIG": path}) == f"LATENTSERVE_CONFIG={path}: {problem}"


OPTION, VARIABLE = "there is no such option", "LATENTSERVE_MAX_BATCH_ROWS"
UNKNOWN: list[tuple[list[str], dict[str, str], str]] = [
    (["--bogus=1"], {}, f"--bogus: {OPTION}"),
    (["--max_calls", "1"], {}, f"--max_calls: {OPTION}; did you mean --max-calls?"),
    (["models"], {}, "models: belongs to no option"),
    (["--listen"], {}, "--listen: expected one argument"),
    ([], {"LATENTSERVE_MAX_BATCH_ROW": "1"}, f"variable LATENTSERVE_MAX_BATCH_ROW: {OPTION}; did you mean {VARIABLE}?"),
    ([], {"LATENTSERVE_MAXBATCHROWS": "1"}, f"variable LATENTSERVE_MAXBATCHROWS: {OPTION}; did you mean {VARIABLE}?"),
    ([], {"LATENTSERVE_PORT": "8080"}, f"variable LATENTSERVE_PORT: {OPTION}"),
    (["--metrics", "on"], {}, f"--metrics: {OPTION}"),
]


@pytest.mark.parametrize(("arguments", "variables", "line"), UNKNOWN)
def test_what_is_not_understood_is_refused_with_what_was_meant(
    arguments: list[str], variables: dict[str, str], line: str
) -> None:
    assert refusal(*arguments, environment=variables) == line


def test_a_repository_must_be_named() -> None:
    missing = f"--repository is missing: {OPTIONS['repository'].description}"
    assert refusal(repository=False) == missing


@pytest.mark.parametrize("arguments", [[], ["--repository=m", "--bogus=1"], ["--repository=m", "--device=tpu"]])
def test_what_is_refused_is_one_line_and_wrong_usage(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("latentserve-server: --")


def test_every_option_is_explained_with_its_variable_and_default(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for name in ServerConfig.__dataclass_fields__:
        assert f"LATENTSERVE_{name.upper()})" in text
    assert "Seconds that calls under way have to end after SIGTERM. (default: 30.0; " in text
