"""Portable runs: threads share the rows of a batch, and the bits depend neither on their number nor on the batch."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx.numpy_helper
import onnx.parser
import pytest
from held_graph import BACKSTOP_SECONDS
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tiny_bundle import TinyModel
from tiny_graph import FRAGILE_LIMIT

from latentserve_server.engine import Cpu, Engine
from latentserve_server.engine.engine import Cancellation
from latentserve_server.engine.row_shares import RowShares
from latentserve_server.errors import EngineFailure

MOST_ROWS = 9
DRAWN = np.random.default_rng(0).standard_normal((MOST_ROWS, 64, 14, 14), dtype=np.float32)

pytestmark = pytest.mark.cpu_only("portable numerics are the CPU's")
# onnxruntime's threads share the sums of both layers: of the first for a batch of one, of the second for all.
GRAPH = """<ir_version: 10, opset_import: ["": 18]>
    convolutions (float[batch, 64, 14, 14] x) => (float[batch, 1, 28, 28] y) {
        hidden = Conv<pads = [1, 1, 1, 1]>(x, first)
        y = ConvTranspose<pads = [1, 1, 1, 1], strides = [2, 2]>(hidden, second)
    }"""


def convolutions() -> bytes:
    model: onnx.ModelProto = onnx.parser.parse_model(GRAPH)
    random = np.random.default_rng(1)
    for name, shape in (("first", (256, 64, 3, 3)), ("second", (256, 1, 4, 4))):
        weight = random.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
        model.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    return model.SerializeToString()


@pytest.fixture(scope="module")
def engines() -> list[Engine]:
    """The same graph for 1, 2, 3 and 7 threads."""
    model = convolutions()
    return [Engine(model, Cpu(threads=threads, portable=True)) for threads in (1, 2, 3, 7)]


@pytest.fixture(scope="module")
def alone(engines: list[Engine]) -> NDArray[np.float32]:
    """Every row, computed by one thread in a batch of its own."""
    return np.concatenate([engines[0].run({"x": DRAWN[row : row + 1]}, ["y"])["y"] for row in range(MOST_ROWS)])


@settings(max_examples=20)
@given(first=st.integers(0, MOST_ROWS - 1), last=st.integers(1, MOST_ROWS))
def test_a_row_has_the_same_bits_in_any_batch_on_any_number_of_threads(
    engines: list[Engine], alone: NDArray[np.float32], first: int, last: int
) -> None:
    rows = slice(min(first, last - 1), max(first + 1, last))
    for engine in engines:
        np.testing.assert_array_equal(engine.run({"x": DRAWN[rows]}, ["y"])["y"], alone[rows])


@pytest.mark.parametrize("bad", [0, 2, 4])
def test_a_share_that_fails_fails_the_batch(tmp_path: Path, bad: int) -> None:
    decoder = TinyModel(fragile=True).write(tmp_path / "vae") / "decoder.onnx"
    engine = Engine(decoder.read_bytes(), Cpu(threads=3, portable=True))
    latents = np.zeros((5, 3), np.float32)
    expected = engine.run({"latent": latents}, ["image"])["image"]
    latents[bad, 0] = FRAGILE_LIMIT
    with pytest.raises(EngineFailure, match="indices"):
        engine.run({"latent": latents}, ["image"])
    latents[bad, 0] = 0
    np.testing.assert_array_equal(engine.run({"latent": latents}, ["image"])["image"], expected)


async def test_cancelling_ends_every_share(tmp_path: Path) -> None:
    decoder = TinyModel(slow=True).write(tmp_path / "vae") / "decoder.onnx"
    engine = Engine(decoder.read_bytes(), Cpu(threads=2, portable=True))
    cancellation, endless = Cancellation(), np.full((2, 3), 2e9, np.float32)
    begun = threading.Event()

    def run() -> None:
        begun.set()
        engine.run({"latent": endless}, ["image"], cancellation)

    with ThreadPoolExecutor(1) as executor:
        running = asyncio.get_running_loop().run_in_executor(executor, run)
        await asyncio.to_thread(begun.wait)
        cancellation.cancel()
        with pytest.raises(EngineFailure):
            async with asyncio.timeout(BACKSTOP_SECONDS):
                await running


def test_all_graphs_share_the_threads(tmp_path: Path) -> None:
    decoder = (TinyModel().write(tmp_path / "vae") / "decoder.onnx").read_bytes()
    placement = Cpu(threads=4, portable=True)
    engines = [Engine(decoder, placement) for _ in range(5)]
    latents = np.zeros((8, 3), np.float32)
    before = set(threading.enumerate())
    with ThreadPoolExecutor(len(engines), "caller") as callers:
        list(callers.map(lambda engine: [engine.run({"latent": latents}, ["image"]) for _ in range(20)], engines))
        started = {thread for thread in set(threading.enumerate()) - before if not thread.name.startswith("caller")}
    assert 1 <= len(started) <= 3


def test_a_graph_that_hangs_holds_up_no_other() -> None:
    shares, released, hanging = RowShares(threads=3), threading.Event(), threading.Semaphore(0)

    def hang(rows: Mapping[str, NDArray[np.float32]]) -> list[NDArray[np.float32]]:
        hanging.release()
        released.wait()
        return [rows["x"]]

    rows = np.arange(7, dtype=np.float32)
    with ThreadPoolExecutor(2) as executor:
        held = executor.submit(shares.run, hang, {"x": rows})
        for _ in range(3):  # both threads, and their caller
            assert hanging.acquire(timeout=BACKSTOP_SECONDS)
        try:
            other = executor.submit(shares.run, lambda given: [given["x"] + 1], {"x": rows})
            np.testing.assert_array_equal(other.result(BACKSTOP_SECONDS)[0], rows + 1)
        finally:
            released.set()
        np.testing.assert_array_equal(held.result(BACKSTOP_SECONDS)[0], rows)
