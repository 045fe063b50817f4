"""The CPU image in containers: built, and run as a cluster that trusts nobody would run it, on loopback alone."""

from __future__ import annotations

import asyncio
import os
import shlex
import subprocess
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from server_process import ServerProcess

CHECKOUT = Path(__file__).parents[2]
IMAGE = "latentserve-server:cpu"
BUILD_SECONDS = 600.0
UNUSUAL_USER = "1234567:0"
"""What some clusters give every project: a user of no name, in the group of root."""
RESTRICTED = (
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--tmpfs=/tmp:size=16m",
    f"--user={UNUSUAL_USER}",
    "--network=host",  # where the server listens on loopback alone
)


def engine(*arguments: str) -> str:
    """What a command of the container engine prints, of CONTAINERS or docker.

    Raises:
        subprocess.CalledProcessError: it fails.
    """
    command = [*shlex.split(os.environ.get("CONTAINERS", "docker")), *arguments]
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=BUILD_SECONDS, check=True).stdout


def build(name: str, *options: str) -> None:
    """Build the image by that name, with the options that this machine needs, in IMAGE_OPTIONS, and these."""
    own = shlex.split(os.environ.get("IMAGE_OPTIONS", ""))
    engine("build", "--quiet", *own, *options, "--target", "cpu", "-t", name, str(CHECKOUT))


@dataclass(frozen=True)
class Container:
    """A server in a container."""

    name: str
    process: ServerProcess
    port: int
    """Where it listens, on loopback."""

    def inspect(self, template: str) -> str:
        """What the engine knows of it."""
        return engine("inspect", self.name, "--format", template).strip()


@asynccontextmanager
async def container(
    repository: Path, *flags: str, options: Sequence[str] = (), files: Path | None = None
) -> AsyncIterator[Container]:
    """The image over a repository, serving, with these flags; gone after the block.

    `options` are the engine's. `files` is a folder that the container sees as /files.
    """
    name = f"latentserve-test-{uuid.uuid4().hex}"
    mounts = [f"--volume={repository}:/models:ro"]
    mounts += [f"--volume={files}:/files:ro"] if files is not None else []
    variables = ["--env=LATENTSERVE_LISTEN=127.0.0.1:0", "--env=LATENTSERVE_METRICS_LISTEN=off"]
    process = await asyncio.create_subprocess_exec(
        *shlex.split(os.environ.get("CONTAINERS", "docker")),
        *("run", "--name", name, *RESTRICTED, *mounts, *variables, *options, IMAGE, *flags),
        stderr=asyncio.subprocess.PIPE,
        limit=1 << 20,
    )
    server = ServerProcess(process)
    try:
        serving = await server.log("serving on")
        yield Container(name, server, int(serving["port"]))
    finally:
        engine("rm", "--force", name)
        await process.communicate()
