"""A picture of what Grafana's dashboard asks, drawn by matplotlib: the demo's models under load, watched by Prometheus.

`make dashboard-picture` starts this script. For four minutes callers come and go; a damaged version is published, and a
worker is killed. The panels' own queries are then asked of Prometheus.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import signal
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from prometheus import Prometheus, prometheus
from running_server import channel_to
from server_process import ServerProcess, server_process

from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import generation_pb2_grpc

ROOT = Path(__file__).parents[2]
DEMO = ROOT / "demo"
PICTURE = ROOT / "docs" / "images" / "dashboard.png"
PANELS = json.loads((ROOT / "deploy" / "grafana" / "dashboard.json").read_text())["panels"]
VARIABLES = {"$job": "latentserve", "$model": ".*", "$__rate_interval": "15s"}
SECONDS = 240
CALLERS = (2, 4, 12, 4)
"""In each quarter of the time."""
COLUMNS = 4


def main() -> None:
    """Serve, call, watch and draw."""
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(watch(Path(folder)))


async def watch(folder: Path) -> None:
    """Have callers come and go for a while, and draw what Prometheus saw."""
    models = folder / "models"
    shutil.copytree(DEMO / "models", models)
    flags = (
        "--workers=2",
        "--metrics-listen=127.0.0.1:0",
        "--log-level=info",
        "--poll-interval=5",
        "--max-rows-per-request=256",
        "--max-queue-rows=256",
    )
    async with server_process(models, *flags) as server:
        ready = await server.log("serving on port")
        rules = ROOT / "deploy" / "prometheus" / "rules.yaml"
        async with prometheus(folder, f"127.0.0.1:{ready['metrics_port']}", rules) as watcher:
            began = time.time()
            async with asyncio.TaskGroup() as group:
                tasks: list[asyncio.Task[Any]] = [group.create_task(read_log(server))]
                tasks.append(group.create_task(publish_damaged(models)))
                tasks.append(group.create_task(kill_a_worker(server)))
                for callers in CALLERS:
                    calling = [group.create_task(call(ready["port"])) for _ in range(callers)]
                    await asyncio.sleep(SECONDS / len(CALLERS))
                    for task in calling:
                        task.cancel()
                for task in tasks:
                    task.cancel()
            await asyncio.to_thread(draw, watcher, began, time.time())


async def read_log(server: ServerProcess) -> None:
    """Read the log, of which lines are else dropped."""
    with suppress(TimeoutError):
        while True:
            await server.log("")


async def publish_damaged(models: Path) -> None:
    """After a third of the time, publish a version that does not load; later, take it away."""
    await asyncio.sleep(SECONDS / 3)
    shutil.copytree(models / "mlp_gan" / "1", models / "mlp_gan" / ".2")
    (models / "mlp_gan" / ".2" / "decoder.onnx").write_bytes(b"damaged")
    (models / "mlp_gan" / ".2").rename(models / "mlp_gan" / "2")
    await asyncio.sleep(SECONDS / 4)
    shutil.rmtree(models / "mlp_gan" / "2")


async def kill_a_worker(server: ServerProcess) -> None:
    """After two thirds of the time, kill a worker."""
    lines = (json.loads(line) for line in server.lines if line.startswith("{"))
    pids = [line["pid"] for line in lines if "worker" in line and "pid" in line]
    await asyncio.sleep(SECONDS * 2 / 3)
    os.kill(pids[0], signal.SIGKILL)


async def call(port: int) -> None:
    """Call all methods that every bundle of the demo has, with pauses, again and again."""
    digits = [path.read_bytes() for path in sorted((DEMO / "inputs").glob("*.png"))]
    async with channel_to(port) as channel:
        stub = generation_pb2_grpc.GenerationServiceStub(channel)
        while True:
            vae, gan = (pb.ModelRef(name=random.choice(names)) for names in (("conv_vae", "mlp_vae"), ("mlp_gan",)))
            images = pb.Images(encoded=pb.EncodedImages(files=random.choices(digits, k=random.randint(1, 32))))
            with suppress(grpc.aio.AioRpcError):
                await stub.Sample(pb.SampleRequest(model=gan, count=random.randint(1, 64)), timeout=1)
                await stub.Sample(pb.SampleRequest(model=vae, count=random.randint(1, 200)), timeout=1)
                await stub.Encode(pb.EncodeRequest(model=vae, images=images), timeout=1)
                await stub.Reconstruct(pb.ReconstructRequest(model=vae, images=images), timeout=1)
                await stub.Score(pb.ScoreRequest(model=vae, images=images), timeout=1)
            await asyncio.sleep(random.uniform(0, 0.05))


def draw(watcher: Prometheus, began: float, ended: float) -> None:
    """Write the picture: an axes for every panel, in the dashboard's order."""
    panels = [panel for panel in PANELS if panel["type"] != "row"]
    rows = -(-len(panels) // COLUMNS)
    figure = Figure(figsize=(5 * COLUMNS, 3 * rows), dpi=70, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, panel in zip(figure.subplots(rows, COLUMNS).flat, panels, strict=False):
        for target in panel["targets"]:
            expression = target["expr"]
            for name, value in VARIABLES.items():
                expression = expression.replace(name, value)
            found = watcher.ask("query_range", query=expression, start=str(began), end=str(ended), step="2")
            for series in found["result"]:
                moments, values = np.array(series["values"], float).T
                axes.plot(moments - began, values, label=legend(target["legendFormat"], series["metric"]))
        unit = panel["fieldConfig"]["defaults"]["unit"]
        axes.set_title(panel["title"] + {"percentunit": ", share", "s": ", s", "reqps": ", 1/s"}.get(unit, ""))
        axes.set_ylim(bottom=0)
        axes.set_xlim(0, ended - began)
        axes.grid(alpha=0.3)
        if 0 < len(axes.lines) <= 10:
            axes.legend(fontsize=7, loc="upper left")
    figure.supxlabel("seconds")
    figure.savefig(PICTURE)


def legend(form: str, labels: dict[str, str]) -> str:
    """The name of a series; an instance is one replica."""
    for name, value in (labels | {"instance": "replica"}).items():
        form = form.replace("{{" + name + "}}", value)
    return form


if __name__ == "__main__":
    main()
