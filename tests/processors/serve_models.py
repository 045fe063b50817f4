"""Serves the repository that is named, with the numerics that are named, and calls it.

    serve_models.py REPOSITORY NUMERICS

For every model, by its name: what it says of its bits, samples, and of an encoder posteriors, draws and scores.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import numpy as np
from processors import emulator
from running_server import RunningServer, running_server

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import generation_pb2, models_pb2

ROWS, SEED = 6, 7


async def call(served: RunningServer, model: models_pb2.Model) -> dict[str, Any]:
    """What a model answers."""
    ref, generation = generation_pb2.ModelRef(name=model.name), served.generation
    sampled = await generation.Sample(generation_pb2.SampleRequest(model=ref, count=ROWS, seed=SEED))
    found: dict[str, Any] = {
        "row_bits": models_pb2.RowBits.Name(model.row_bits),
        "numerics": model.numerics,
        "sampled": to_ndarray(sampled.images.tensor),
    }
    if models_pb2.CAPABILITY_ENCODE in model.capabilities:
        images = generation_pb2.Images(tensor=from_ndarray(found["sampled"].clip(0, 1)))
        draw = generation_pb2.Draw(seed=SEED)
        encoded = await generation.Encode(generation_pb2.EncodeRequest(model=ref, images=images, draw=draw))
        scored = await generation.Score(generation_pb2.ScoreRequest(model=ref, images=images))
        found["mean"], found["log_variance"] = to_ndarray(encoded.mean), to_ndarray(encoded.log_variance)
        found["drawn"], found["elbo"] = to_ndarray(encoded.z), np.array(scored.elbo, np.float32)
    return found


async def main() -> dict[str, Any]:
    """What all models answer."""
    repository, numerics = sys.argv[1:]
    found = {}
    async with running_server(repository, numerics=numerics, cpu_threads=2, max_batch_rows=4) as served:
        for one in (await served.models.ListModels(models_pb2.ListModelsRequest())).models:
            request = models_pb2.GetModelRequest(model=generation_pb2.ModelRef(name=one.name))
            model = (await served.models.GetModel(request)).model
            found |= {f"{one.name}.{what}": value for what, value in (await call(served, model)).items()}
    return found


emulator.reply(**asyncio.run(main()))
