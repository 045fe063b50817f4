"""onnxruntime alone: rows a second of a decoder for batches of several sizes, on one thread.

python -m front.bare GRAPH INPUT DIM SECONDS BATCH [BATCH ...]     prints JSON, rows a second by batch
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import onnxruntime


def rows_per_second(graph: str, name: str, dim: int, seconds: float, batches: list[int]) -> dict[int, float]:
    """`seconds` for each batch, and three runs at least. Time in which something else ran counts, as for a server."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    rates = {}
    for rows in batches:
        latents = {name: np.random.default_rng(rows).standard_normal((rows, dim)).astype(np.float32)}
        session.run(["image_uint8"], latents)
        runs, began = 0, time.perf_counter()
        while runs < 3 or time.perf_counter() < began + seconds:
            session.run(["image_uint8"], latents)
            runs += 1
        rates[rows] = rows * runs / (time.perf_counter() - began)
    return rates


if __name__ == "__main__":
    graph, name, dim, seconds, *batches = sys.argv[1:]
    print(json.dumps(rows_per_second(graph, name, int(dim), float(seconds), [int(rows) for rows in batches])))
