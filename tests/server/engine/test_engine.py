"""Graphs on a device: plain runs, bound runs, and both graphs in a row, which must all agree, on the CPU to the bit.

The bound path is the one that CUDA takes; the CPU's buffers are bound in the same way.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from held_graph import BACKSTOP_SECONDS
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from tested_device import assert_agree, device, placement
from tiny_bundle import TinyModel
from tiny_graph import FAILURES, FRAGILE_LIMIT

from latentserve_server.engine import Cpu, Cuda, Engine, choose_placement
from latentserve_server.engine.engine import Cancellation, Pipeline, trim_heap
from latentserve_server.errors import BundleError, DeviceError, EngineFailure

BUCKETS = (1, 2, 4, 8)
DECODED = ["image", "image_uint8", "logits"]
MEANS = ("mean", "latent")
ENDLESS_TURNS = 2e9


def engines(tmp_path: Path, *, bound: bool = False, **options: Any) -> tuple[Engine, Engine]:
    """Encoder and decoder of a tiny model."""
    directory = TinyModel(**options).write(tmp_path / f"{len(list(tmp_path.iterdir()))}")
    opened = [Engine((directory / f"{role}.onnx").read_bytes(), placement()) for role in ("encoder", "decoder")]
    for rows in BUCKETS if bound else ():
        opened[0].bind(rows)
        means = opened[0].resident("mean", rows)
        assert means is not None
        opened[1].bind(rows, {"latent": means})
    return opened[0], opened[1]


@pytest.fixture(scope="module")
def conv(tmp_path_factory: pytest.TempPathFactory) -> tuple[Engine, Engine]:
    """The decoder of a convolutional model, plain and bound."""
    root = tmp_path_factory.mktemp("conv")
    return engines(root, conv=True)[1], engines(root, conv=True, bound=True)[1]


def latents(rows: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal((rows, 3), dtype=np.float32)


def assert_same(one: dict[str, NDArray[Any]], other: dict[str, NDArray[Any]]) -> None:
    assert one.keys() == other.keys()
    for name, array in one.items():
        assert_agree(array, other[name])


@given(
    runs=st.lists(
        st.tuples(st.integers(1, 9), st.integers(0, 2**32), st.sets(st.sampled_from(DECODED), min_size=1)), min_size=1
    )
)
def test_a_bound_run_is_a_plain_run(conv: tuple[Engine, Engine], runs: list[tuple[int, int, set[str]]]) -> None:
    plain, bound = conv
    kept = []
    for rows, seed, wanted in runs:
        inputs = {"latent": latents(rows, seed)}
        kept.append((bound.run(inputs, sorted(wanted)), plain.run(inputs, sorted(wanted))))
    for through_buffers, without in kept:  # so a later run has not changed what an earlier one gave
        assert_same(through_buffers, without)


@pytest.mark.cpu_only("on CUDA none is given back, since addresses must not change")
def test_an_engine_that_shrinks_gives_back_what_a_large_run_took(tmp_path: Path) -> None:
    decoder, few, many = engines(tmp_path, conv=True)[1], {"latent": latents(1)}, {"latent": latents(1 << 16)}
    before = decoder.run(few, DECODED)  # which leaves what even a single row takes
    trim_heap()
    at_rest = resident_bytes()
    decoder.run(many, ["image"])
    grown = resident_bytes() - at_rest
    decoder.shrink(few)
    trim_heap()
    assert grown > 1 << 26
    assert resident_bytes() - at_rest < grown / 4
    assert_same(decoder.run(few, DECODED), before)


def resident_bytes() -> int:
    """What this process holds of the machine's memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_rows_that_pad_a_batch_leave_no_trace(conv: tuple[Engine, Engine]) -> None:
    _, bound = conv
    bound.run({"latent": latents(8, seed=1)}, DECODED)
    padded = np.zeros((8, 3), np.float32)
    padded[:5] = latents(5, seed=2)
    first = bound.run({"latent": padded}, DECODED)
    padded[5:] = 7
    second = bound.run({"latent": padded}, DECODED)
    assert_same({name: array[:5] for name, array in first.items()}, {name: array[:5] for name, array in second.items()})


def test_runs_of_a_bound_size_use_the_same_memory_every_time(conv: tuple[Engine, Engine]) -> None:
    _, bound = conv
    buffer = bound.resident("image", 4)
    assert buffer is not None
    address = buffer.value.data_ptr()
    for seed in range(20):
        computed = bound.run({"latent": latents(4, seed)}, ["image"])["image"]
        assert not np.shares_memory(computed, buffer.value.numpy())
        np.testing.assert_array_equal(buffer.value.numpy(), computed)
    assert bound.resident("image", 4) == buffer
    assert buffer.value.data_ptr() == address
    assert bound.resident("image", 3) is None


def test_what_is_bound_is_counted(tmp_path: Path) -> None:
    row_bytes = 4 * 3 + (4 + 1 + 4) * 20
    _, decoder = engines(tmp_path)
    assert decoder.buffer_bytes(8) == 8 * row_bytes
    for rows in BUCKETS:
        decoder.bind(rows)
    assert decoder.buffer_bytes(8) == sum(BUCKETS) * row_bytes
    _, sharing = engines(tmp_path, bound=True)
    assert sharing.buffer_bytes(1) == sum(BUCKETS) * (row_bytes - 4 * 3), "the latents' buffer is the encoder's"


@pytest.mark.parametrize(
    ("inputs", "complaint"),
    [
        ({"latent": np.zeros((2, 3))}, "input 'latent' is float64 (2, 3) where float32 (2, 3) is bound"),
        (
            {"latent": np.zeros((2, 4), np.float32)},
            "input 'latent' is float32 (2, 4) where float32 (2, 3) is bound",
        ),
        ({"latents": np.zeros((2, 3), np.float32)}, "the inputs are ['latents'] where ['latent'] are bound"),
    ],
)
def test_a_bound_run_refuses_what_does_not_fit_its_buffers(
    conv: tuple[Engine, Engine], inputs: dict[str, NDArray[Any]], complaint: str
) -> None:
    with pytest.raises(EngineFailure) as caught:
        conv[1].run(inputs, ["image"])
    assert str(caught.value) == complaint


@pytest.mark.parametrize("bound", [False, True], ids=["plain", "bound"])
def test_a_run_that_fails_raises_and_the_next_one_is_right(tmp_path: Path, bound: bool) -> None:
    _, decoder = engines(tmp_path, fragile=True, bound=bound)
    before = decoder.run({"latent": latents(2)}, DECODED)
    with pytest.raises(EngineFailure, match=FAILURES[device()]):
        decoder.run({"latent": np.full((2, 3), FRAGILE_LIMIT, np.float32)}, DECODED)
    assert_same(decoder.run({"latent": latents(2)}, DECODED), before)


@pytest.mark.parametrize("bound", [False, True], ids=["plain", "bound"])
def test_a_run_is_cancelled_before_it_and_within_it_and_the_next_one_is_right(tmp_path: Path, bound: bool) -> None:
    _, decoder = engines(tmp_path, slow=True, bound=bound)
    endless = {"latent": np.full((2, 3), ENDLESS_TURNS, np.float32)}
    early, late = Cancellation(), Cancellation()
    early.cancel()
    with pytest.raises(EngineFailure, match="terminate"):
        decoder.run(endless, ["image"], early)
    with ThreadPoolExecutor(1) as thread:
        run = thread.submit(decoder.run, endless, ["image"], late)
        threading.Timer(0.01, late.cancel).start()
        with pytest.raises(EngineFailure, match="terminate"):
            run.result(BACKSTOP_SECONDS)
    ended = Cancellation()
    decoder.run({"latent": np.zeros((2, 3), np.float32)}, ["image"], ended)
    ended.cancel()
    assert decoder.run({"latent": np.zeros((2, 3), np.float32)}, ["image"])["image"].shape == (2, 1, 4, 5)


@pytest.mark.parametrize("rows", [1, 3, 8])
@pytest.mark.parametrize("bound", [False, True], ids=["plain", "bound"])
def test_the_pipeline_is_the_encoder_and_then_the_decoder(tmp_path: Path, rows: int, bound: bool) -> None:
    model = TinyModel()
    images = (model.random_images(rows) / 255).astype(np.float32)
    encoder, decoder = engines(tmp_path)
    posterior = encoder.run({"image": images}, ["mean", "log_variance"])
    apart = posterior | decoder.run({"latent": posterior["mean"]}, DECODED)
    pipeline = Pipeline(*engines(tmp_path, bound=bound), MEANS, resident=True)
    for wanted in (["image", "mean"], ["image_uint8", "log_variance", "logits"], sorted(apart)):
        together = pipeline.run({"image": images}, wanted, Cancellation())
        assert_same({name: apart[name] for name in wanted}, {name: together[name] for name in wanted})


def test_the_graphs_of_a_pipeline_are_right_alone_and_in_a_row_in_any_order(tmp_path: Path) -> None:
    images = (TinyModel().random_images(4) / 255).astype(np.float32)
    (encoder, decoder), plain = engines(tmp_path, bound=True), engines(tmp_path)
    pipeline = Pipeline(encoder, decoder, MEANS, resident=True)
    apart = plain[1].run({"latent": plain[0].run({"image": images}, ["mean"])["mean"]}, DECODED)
    for seed in range(3):
        assert_same(
            decoder.run({"latent": latents(4, seed)}, DECODED), plain[1].run({"latent": latents(4, seed)}, DECODED)
        )
        assert_same(pipeline.run({"image": images}, DECODED, Cancellation()), apart)
        encoder.run({"image": 1 - images}, ["mean"])
    stranger = engines(tmp_path, bound=True)[0].resident("mean", 4)
    assert stranger is not None
    with pytest.raises(EngineFailure) as caught:
        decoder.run({"latent": stranger}, ["image"])
    assert str(caught.value) == "input 'latent' is a buffer that is not bound"


def test_a_cancelled_pipeline_fails(tmp_path: Path) -> None:
    pipeline, gone = Pipeline(*engines(tmp_path), MEANS, resident=True), Cancellation()
    gone.cancel()
    with pytest.raises(EngineFailure, match="terminate"):
        pipeline.run({"image": np.zeros((1, 1, 4, 5), np.float32)}, ["image"], gone)


def test_what_is_no_graph_is_told_without_the_place_where_it_was_read() -> None:
    with pytest.raises(BundleError, match=r"^onnxruntime cannot open it: ") as caught:
        Engine(b"no graph", placement())
    assert "/proc" not in str(caught.value)


def test_cuda_options_are_onnxruntime_s() -> None:
    assert Cuda().provider_options() == {
        "device_id": "0",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "use_tf32": "0",
        "enable_cuda_graph": "0",
    }
    chosen = Cuda(index=2, memory_limit_bytes=1 << 30, tf32=True, graphs=True).provider_options()
    assert chosen["gpu_mem_limit"] == "1073741824"
    assert (chosen["device_id"], chosen["use_tf32"], chosen["enable_cuda_graph"]) == ("2", "1", "1")


def test_a_device_that_is_not_there_is_refused_where_it_was_asked_for() -> None:
    cpu, nowhere = Cpu(threads=1), Cuda(index=999)
    with pytest.raises(DeviceError, match="--device cuda: "):
        choose_placement("cuda", cpu, nowhere)
    chosen, why = choose_placement("auto", cpu, nowhere)
    assert chosen == cpu
    assert "CUDA provider" in why
