"""Jobs on Ray, in processes of their own that are killed: what is written is what one process alone writes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from process_tree import all_end, descendants, listening, named
from written_rows import digests, manifest

from latentserve_bulk.cli import main

pytestmark = pytest.mark.slow

COUNT, RANGE_ROWS = 60_000, 500
WORKER = "ray::MapWorker"
BACKSTOP_SECONDS = 120


def words(repository: Path, output: Path, *more: object) -> list[str]:
    common = ("--repository", repository, "--output", output, "--seed", 5, "--count", COUNT)
    return [str(word) for word in ("sample", "vae", *common, "--range-rows", RANGE_ROWS, *more)]


@pytest.fixture(scope="module")
def alone(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of the files that one process writes without Ray."""
    output = tmp_path_factory.mktemp("alone")
    assert main(words(repository, output, "--shard", "0/1", "--quiet")) == 0
    return digests(output)


@contextmanager
def job(repository: Path, output: Path, *more: object) -> Iterator[subprocess.Popen[str]]:
    """The command, once it has begun to write ranges; killed if the block leaves it."""
    code = "import sys; from latentserve_bulk.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *words(repository, output, *more)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    started = list[int]()
    try:
        assert process.stderr is not None
        said = ""
        while not re.search(r"\b[1-9]\d*%", said):
            said += (letter := process.stderr.read(1))
            assert letter, said
        started = descendants(process.pid)
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()
        if not all_end(started, 3):  # Ray's agents outlive a driver that was killed
            for pid in named(started, "ray::"):
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    said, told = process.communicate(timeout=BACKSTOP_SECONDS)
    return process.returncode, said, told


def finished_ranges(output: Path) -> int:
    return len(list((output / "_ranges").glob("*.json")))


def test_workers_of_ray_write_what_one_process_writes_and_reach_this_machine_alone(
    repository: Path, tmp_path: Path, alone: dict[str, str]
) -> None:
    with job(repository, tmp_path) as process:
        processes = [process.pid, *descendants(process.pid)]
        assert named(processes, WORKER)
        assert listening(processes) == {"127.0.0.1"}
        status, said, _ = ended(process)
    assert status == 0
    assert said.startswith(f"{tmp_path}: {COUNT} rows, 0 rejected, in {COUNT // RANGE_ROWS} ranges; vae:1, ")
    assert digests(tmp_path) == alone
    assert manifest(tmp_path)["rows"] == COUNT


def test_a_worker_that_is_killed_costs_no_row(repository: Path, tmp_path: Path, alone: dict[str, str]) -> None:
    with job(repository, tmp_path) as process:
        worker = named(descendants(process.pid), WORKER)[0]
        os.kill(worker, signal.SIGKILL)
        assert all_end([worker], BACKSTOP_SECONDS)
        assert finished_ranges(tmp_path) < len(alone)
        status, _, told = ended(process)
    assert status == 0, told
    assert digests(tmp_path) == alone


def test_a_job_whose_driver_is_killed_goes_on(repository: Path, tmp_path: Path, alone: dict[str, str]) -> None:
    with job(repository, tmp_path) as process:
        workers = named(descendants(process.pid), WORKER)
        process.kill()
        assert ended(process)[0] == -signal.SIGKILL
        assert all_end(workers, BACKSTOP_SECONDS)
    done = finished_ranges(tmp_path)
    assert 0 < done < len(alone)
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "_ranges").iterdir()}
    with job(repository, tmp_path) as process:
        assert ended(process)[0] == 0
    assert digests(tmp_path) == alone
    after = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "_ranges").iterdir()}
    assert before.items() <= after.items()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_job_and_says_how_to_go_on(
    repository: Path, tmp_path: Path, alone: dict[str, str], number: signal.Signals
) -> None:
    with job(repository, tmp_path) as process:
        started = descendants(process.pid)
        process.send_signal(number)
        status, said, told = ended(process)
        assert all_end(started, BACKSTOP_SECONDS)
    assert (status, said) == (130, "")
    assert re.search(r"latentserve-bulk: stopped; \d+ ranges are done; run the same command again to go on\n$", told)
    assert "Traceback" not in told
    assert main(words(repository, tmp_path, "--shard", "0/1", "--quiet")) == 0
    assert digests(tmp_path) == alone


def test_more_threads_than_there_are_processors_are_refused(repository: Path, tmp_path: Path) -> None:
    code = "import sys; from latentserve_bulk.cli import main; sys.exit(main())"
    command = [sys.executable, "-c", code, *words(repository, tmp_path, "--threads", 1000, "--quiet")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BACKSTOP_SECONDS, check=False)
    assert done.returncode == 1
    assert "latentserve-bulk: --threads 1000: no machine has so many processors; the most is " in done.stderr
