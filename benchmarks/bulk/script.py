"""The script that a user of Ray Data would write: a range, a session an actor, NumPy's noise, Parquet."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path

os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # read by Ray as it is imported: 127.0.0.1 is to be meant
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"

import numpy as np
import onnxruntime
import ray
import ray.data


class Decode:
    """Images of noise."""

    def __init__(self, path: str, output: str) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self._dim = self._session.get_inputs()[0].shape[1]
        self._output = output

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Rows "id" become rows "image"."""
        noise = np.random.default_rng().standard_normal((len(batch["id"]), self._dim), np.float32)
        (images,) = self._session.run([self._output], {"latent": noise})
        return {"id": batch["id"], "image": images}


def main(decoder: str, output: str, count: int, workers: int, folder: str) -> None:
    """Draw so many rows into a folder of Parquet files."""
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    cpus = workers + 1
    ray.init("local", num_cpus=cpus, include_dashboard=False, log_to_driver=False, _node_ip_address="127.0.0.1")
    ray.data.DataContext.get_current().enable_progress_bars = False
    ray.data.range(count).map_batches(
        Decode,
        fn_constructor_args=(str(Path(decoder).resolve()), output),
        batch_size=64,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_cpus=1,
    ).write_parquet(folder)
    ray.shutdown()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5])
