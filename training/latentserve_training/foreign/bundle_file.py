"""An adapted graph as files of a bundle: with its weights inside, or in a file beside it where they are many."""

from __future__ import annotations

import mmap
from contextlib import ExitStack
from pathlib import Path

import onnx
from onnx import TensorProto

from latentserve_training.export.plan import WEIGHTS_SUFFIX
from latentserve_training.foreign.outside_weights import is_outside, move, outside_bytes, place

_MOST_INSIDE_BYTES = 64 << 20
_ALIGNED = 64
"""Weights begin at a multiple of so many bytes, as processors read them best."""


def write_model(model: onnx.ModelProto, source: Path, path: Path) -> None:
    """Write the graph to `path`; its weights that are elsewhere lie in the folder `source`.

    They get into the graph's file, or, where they are more than 64 MiB, into one beside it: `<role>.weights`.
    """
    with ExitStack() as opened:
        files: dict[str, mmap.mmap] = {}
        beside = path.with_suffix(WEIGHTS_SUFFIX) if outside_bytes(model) > _MOST_INSIDE_BYTES else None
        weights = opened.enter_context(beside.open("wb")) if beside else None
        for tensor in filter(is_outside, model.graph.initializer):
            location, offset, length = place(tensor)
            if location not in files:
                file = opened.enter_context((source / location).open("rb"))
                files[location] = opened.enter_context(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            if weights is None or beside is None:
                del tensor.external_data[:]
                tensor.data_location = TensorProto.DEFAULT
                tensor.raw_data = files[location][offset : offset + length]
            else:
                weights.write(bytes(-weights.tell() % _ALIGNED))
                move(tensor, beside.name, weights.tell(), length)
                with memoryview(files[location]) as content, content[offset : offset + length] as values:
                    weights.write(values)
    onnx.save(model, path)
