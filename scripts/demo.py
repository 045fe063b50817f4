"""The whole path once, on real data: train, evaluate, export, serve, call. Leaves its pictures in demo/.

Every stage is a command that a user would type, printed before it runs; `make demo` starts this script.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from latentserve_training.data import DataConfig, load

ROOT = Path(__file__).parent.parent
DEMO = Path("demo")
CONFIGS = Path("training/latentserve_training/configs")
MODELS = ("conv_vae", "mlp_vae", "mlp_gan")
INPUTS = 16


def main() -> int:
    """Run every stage; returns the exit status."""
    os.chdir(ROOT)
    os.environ["PATH"] = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # the commands are beside python
    )
    shutil.rmtree(DEMO, ignore_errors=True)
    stages = Stages()
    try:
        run_stages(stages)
    except subprocess.CalledProcessError as error:
        print(f"\ndemo: stopped: `{shlex.join(error.cmd)}` exited with {error.returncode}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ndemo: interrupted; `make demo` starts afresh", file=sys.stderr)
        return 130
    print(stages.table())
    for picture in sorted(DEMO.glob("*.png")):
        print(f"  {picture}")
    return 0


def run_stages(stages: Stages) -> None:
    """Train and export every model, then serve them and call the server."""
    repository = DEMO / "models"
    for model in MODELS:
        run = DEMO / "runs" / model
        with stages.timed(f"train {model}"):
            command("latentserve-train", "--config", CONFIGS / f"{model}_digits.yaml", "--output", run)
        with stages.timed(f"evaluate {model}"):
            command("latentserve-evaluate", run, "--quick")
        with stages.timed(f"export {model}"):
            command("latentserve-export", run, "--repository", repository)
    inputs = write_inputs(DEMO / "inputs")
    with stages.timed("serve and call"), serving(repository) as server:
        call(server.grpc, inputs)
        show_metrics(server.metrics)


def call(address: str, inputs: list[Path]) -> None:
    """Use every verb of the client's command line."""

    def client(*arguments: object) -> None:
        command("latentserve", "--server", address, *arguments)

    client("models")
    for model in MODELS:
        client("sample", model, "--count", 64, "--seed", 7, "-o", DEMO / f"samples_{model}.png")
    client("sample", "conv_vae", "--count", 64, "--seed", 7, "--prior", "mixture", "-o", DEMO / "mixture_conv_vae.png")
    client("score", "conv_vae", *inputs[:4])
    client("reconstruct", "conv_vae", *inputs, "-o", DEMO / "reconstructions_conv_vae.png")
    client("encode", "mlp_vae", *inputs, "-o", DEMO / "latents_mlp_vae.npy")
    client("decode", "mlp_vae", DEMO / "latents_mlp_vae.npy", "-o", DEMO / "decoded_mlp_vae.png")


def write_inputs(folder: Path) -> list[Path]:
    """Test digits that no model was trained on, as PNG files."""
    folder.mkdir(parents=True)
    paths = [folder / f"digit-{number:02}.png" for number in range(INPUTS)]
    for path, image in zip(paths, load(DataConfig()).test.images, strict=False):
        Image.fromarray(image[0]).save(path)
    return paths


@dataclass(frozen=True)
class Addresses:
    """Where the demo's server listens, host:port."""

    grpc: str
    metrics: str


@contextmanager
def serving(repository: Path) -> Iterator[Addresses]:
    """A server on free ports, as a process of its own, stopped by SIGTERM."""
    arguments = ["latentserve-server", "--repository", str(repository)]
    arguments += ["--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    print(f"\n$ {shlex.join(arguments)} &", flush=True)
    log = DEMO / "server.log"
    with log.open("wb") as sink, subprocess.Popen(arguments, stderr=sink) as process:
        try:
            ports = wait_until_serving(process, log)
            yield Addresses(f"127.0.0.1:{ports['port']}", f"127.0.0.1:{ports['metrics_port']}")
        finally:
            process.send_signal(signal.SIGTERM)
    if process.returncode != 0:
        raise subprocess.CalledProcessError(process.returncode, arguments)
    print(f"  stopped by SIGTERM, exit status 0; its log is {log}")


def wait_until_serving(process: subprocess.Popen[bytes], log: Path) -> dict[str, int]:
    """The log record that says on which ports the server answers."""
    while process.poll() is None:
        for line in log.read_text().splitlines(keepends=True):
            if line.endswith("\n") and "metrics_port" in (record := json.loads(line)):
                return dict(record)
        time.sleep(0.05)
    print(log.read_text(), file=sys.stderr)
    raise subprocess.CalledProcessError(process.returncode, process.args)


def show_metrics(address: str) -> None:
    """A few of the server's own numbers on the calls just made."""
    print(f"\n$ curl http://{address}/metrics | grep -E 'requests_total|batch_rows_(sum|count)'", flush=True)
    with urllib.request.urlopen(f"http://{address}/metrics") as reply:  # our own server, plain HTTP
        for line in reply.read().decode().splitlines():
            if line.startswith(
                ("latentserve_requests_total", "latentserve_batch_rows_sum", "latentserve_batch_rows_c")
            ):
                print(line)


def command(*arguments: object) -> None:
    """Print a command, then run it; an exit status other than 0 ends the demo."""
    words = [str(argument) for argument in arguments]
    print(f"\n$ {shlex.join(words)}", flush=True)
    subprocess.run(words, check=True)


class Stages:
    """What was done and how long it took."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Time one stage."""
        print(f"\n=== {name}", flush=True)
        started = time.monotonic()
        yield
        self._seconds[name] = time.monotonic() - started
        print(f"=== {name}: {self._seconds[name]:.1f} s", flush=True)

    def table(self) -> str:
        """Every stage with its time, and the sum."""
        rows = [*self._seconds.items(), ("all", sum(self._seconds.values()))]
        return "\n" + "\n".join(f"  {name:<20}{seconds:7.1f} s" for name, seconds in rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
