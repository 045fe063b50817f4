"""ONNX Runtime sessions for checks: opened on one thread, and run batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from latentserve.fixed_rows import in_runs_of
from latentserve_training.errors import ExportError
from latentserve_training.export.plan import Arrays
from latentserve_training.export.runtime_message import shortened

_RUN_ROWS = 250


def open_session(
    model: bytes | Path, weights: Path | None = None, *, packs_weights: bool = True
) -> onnxruntime.InferenceSession:
    """A CPU session of a model or model file, with one thread so that sums have a fixed order.

    `weights` is the folder in which the external values of a model lie; those of a file lie beside it. A session that
    `packs_weights` copies those of matrix products into the order in which runs read them, as a server's does; one that
    does not is open in half the time, or at once where they are external, and may compute other last bits.

    Raises:
        ExportError: onnxruntime cannot run the model.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    if not packs_weights:
        options.add_session_config_entry("session.disable_prepacking", "1")
    if weights is not None:
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(weights.resolve()))
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own kinds of error have no public common class
        raise ExportError(f"onnxruntime cannot open the graph: {shortened(error)}") from error


def run_rows(
    session: onnxruntime.InferenceSession, names: Sequence[str], inputs: Arrays, batch_rows: int = 0
) -> Arrays:
    """The outputs of these names for all rows at once; `batch_rows` at a time where the graph takes no other number."""

    def run(rows: Mapping[str, NDArray[np.generic]]) -> Arrays:
        return dict(zip(names, session.run(list(names), dict(rows)), strict=True))

    return in_runs_of(batch_rows, run, inputs) if batch_rows else run(inputs)


def run_in_batches(session: onnxruntime.InferenceSession, name: str, inputs: Arrays) -> NDArray[np.generic]:
    """One output for all rows, in batches that take little memory."""
    count = len(next(iter(inputs.values())))
    return np.concatenate(
        [
            session.run([name], {key: rows[start : start + _RUN_ROWS] for key, rows in inputs.items()})[0]
            for start in range(0, count, _RUN_ROWS)
        ]
    )
