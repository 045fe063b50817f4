"""Rows a second of `latentserve-bulk sample` into Parquet beside bare onnxruntime, and beside a user's script on Ray.

    python -m bulk --repository demo/models [--ray]

On one core, each measured between runs of bare onnxruntime, whose rows go nowhere. With `--ray`, whole commands
of two workers each, the start of Ray among it.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime

from latentserve_bulk.command_line import Request, read
from latentserve_bulk.planning import plan
from latentserve_bulk.worker import RangeWorker

ROWS = {"mlp_gan": 32768, "conv_vae": 4096}
GOALS = {"mlp_gan": 0.40, "conv_vae": 0.90}
BATCH_ROWS, ROUNDS = 64, 5
OUTPUTS = {"uint8": "image_uint8", "float32": "image"}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repository", type=Path, default=Path("demo/models"))
    parser.add_argument("--ray", action="store_true")
    arguments = parser.parse_args()
    for model, rows in ROWS.items():
        for image in OUTPUTS:
            one_core(arguments.repository, model, image, rows)
        if arguments.ray:
            on_ray(arguments.repository, model, rows)


def one_core(repository: Path, model: str, image: str, rows: int) -> None:
    """Ranges of a job in this process, each between two runs of bare onnxruntime."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["--count", str(rows * (ROUNDS + 1)), "--range-rows", str(rows), "--image", image]
        request = read(["sample", model, "--repository", str(repository), "--seed", "1", "--output", folder, *words])
        assert isinstance(request, Request)
        job, _ = plan(request)
        worker = RangeWorker(job, request.place)
        bare = bare_run(repository / model / "1" / "decoder.onnx", OUTPUTS[image], rows)
        worker.make(job.ranges[0])
        bulk_seconds, ratios = [], []
        for part in job.ranges[1:]:
            before = seconds(bare)
            bulk_seconds.append(seconds(lambda part=part: worker.make(part)))  # type: ignore[misc]
            ratios.append((before + seconds(bare)) / 2 / bulk_seconds[-1])
        worker.close()
    rate, ratio = rows / statistics.median(bulk_seconds), statistics.median(ratios)
    print(f"{model} {image}: {rate:.0f} rows/s on one core, {ratio:.2f} of bare onnxruntime (goal {GOALS[model]})")


def bare_run(decoder: Path, output: str, rows: int) -> Callable[[], None]:
    """So many rows by onnxruntime alone, of one noise."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(decoder, options, providers=["CPUExecutionProvider"])
    noise = np.zeros((BATCH_ROWS, session.get_inputs()[0].shape[1]), np.float32)
    noise[:] = np.random.default_rng(0).standard_normal(noise.shape)

    def run() -> None:
        for _ in range(rows // BATCH_ROWS):
            session.run([output], {"latent": noise})

    return run


def seconds(run: Callable[[], object]) -> float:
    """What a call takes."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def on_ray(repository: Path, model: str, rows: int) -> None:
    """A job and a script of the same rows, one after the other, with two workers each."""
    count, decoder = 12 * rows, str(repository / model / "1" / "decoder.onnx")
    with tempfile.TemporaryDirectory() as folder:
        words = ["--count", str(count), "--range-rows", str(rows), "--image", "float32", "--workers", "2", "--quiet"]
        where = ["--repository", str(repository), "--seed", "1", "--output", f"{folder}/bulk"]
        command = "from latentserve_bulk.cli import main; raise SystemExit(main())"
        job = [sys.executable, "-c", command, "sample", model, *where, *words]
        script = [sys.executable, "-m", "bulk.script", decoder, "image", str(count), "2", f"{folder}/script"]
        own = seconds(lambda: subprocess.run(job, check=True))
        other = seconds(lambda: subprocess.run(script, check=True))
    print(f"{model} on Ray: {count / own:.0f} rows/s, {other / own:.2f} of the script's {count / other:.0f}")


if __name__ == "__main__":
    main()
