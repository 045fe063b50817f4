"""Processes of a run: each on one core, and ended with all that it started; what they take of time and memory."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

END_SECONDS = 10.0
TICKS = os.sysconf("SC_CLK_TCK")


class BenchError(Exception):
    """Why nothing can be measured, in one line."""


@dataclass(frozen=True)
class Cores:
    """Which core serves and which one loads."""

    server: int
    load: int
    several: tuple[int, ...] = ()
    """All that a server of several processes may have: no hyperthreads of each other, or of the load."""


def choose_cores() -> Cores:
    """The last core that this process may use for the server, and one that is no hyperthread of it for the load.

    Raises BenchError where there are fewer than two.
    """
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise BenchError("the benchmark wants two cores, one for the server and one for the load; this process has one")
    server = allowed[-1]
    siblings = _siblings(server)
    others = [core for core in allowed[:-1] if core not in siblings]
    load = (others or allowed)[0]
    several, taken = list[int](), _siblings(load)
    for core in reversed(allowed):
        if core not in taken:
            several.append(core)
            taken |= _siblings(core)
    return Cores(server, load, tuple(several))


def _siblings(core: int) -> set[int]:
    try:
        text = Path(f"/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list").read_text()
    except OSError:
        return {core}
    found: set[int] = set()
    for part in text.strip().split(","):
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


def command_of(name: str, package: str) -> str:
    """The path of a command. Raises BenchError, which says what to install."""
    path = shutil.which(name)
    if path is None:
        raise BenchError(f"{name} is missing: install Debian's {package} (apt-get install {package})")
    return path


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def pinned(core: int | Sequence[int], command: Sequence[str]) -> list[str]:
    """The command, to be run on one core, or on several."""
    cores = [core] if isinstance(core, int) else core
    return [command_of("taskset", "util-linux"), "-c", ",".join(map(str, cores)), *command]


@contextmanager
def running(
    core: int | Sequence[int], command: Sequence[str], log: IO[bytes], env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on one core, in a process group of its own, which is ended whole at the end."""
    process = subprocess.Popen(
        pinned(core, command), stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env, start_new_session=True
    )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # what it started and left behind is in its group
        process.wait()


def output_of(core: int, command: Sequence[str], env: Mapping[str, str] | None = None) -> str:
    """What a command prints, run to its end on one core. Raises BenchError where it fails, with its last line."""
    done = subprocess.run(pinned(core, command), capture_output=True, text=True, env=env, check=False)
    if done.returncode != 0:
        last = ((done.stderr or done.stdout).strip().splitlines() or ["nothing said"])[-1]
        raise BenchError(f"{Path(command[0]).name} ended with status {done.returncode}: {last}")
    return done.stdout


def installed(environment: Path, names: Sequence[str]) -> dict[str, str]:
    """Versions of packages in another environment."""
    program = f"import importlib.metadata as m; print(*(f'{{name}}={{m.version(name)}}' for name in {tuple(names)}))"
    done = subprocess.run([environment / "bin" / "python", "-c", program], capture_output=True, text=True, check=True)
    return dict(part.split("=", 1) for part in done.stdout.split())


def tree(pid: int) -> list[int]:
    """A process and all that it started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for child in (task / "children").read_text().split():
            found += tree(int(child))
    return found


def cpu_seconds(pid: int) -> float:
    """The processor time of a process and of all that it started, user and system, to a clock tick (10 ms)."""
    total = 0
    for member in tree(pid):
        fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def memory_mib(pid: int) -> float:
    """Memory of a process and of all that it started, where shared pages count in proportion (PSS), in MiB."""
    kib = 0
    for member in tree(pid):
        rollup = Path(f"/proc/{member}/smaps_rollup").read_text()
        kib += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
    return kib / 1024
