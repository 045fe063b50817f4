"""Rows of a batch, chosen by what runs took: the fewest that pay, in short runs, after little measuring."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from hypothesis import given
from hypothesis import strategies as st
from loaded_model import loaded
from numpy.typing import NDArray
from resigned import resign
from running_server import running_server
from tiny_bundle import TinyModel

from latentserve.v1 import models_pb2
from latentserve_server.bundle.batch_rows import (
    BATCH_SECONDS,
    BUFFER_BYTES,
    FEW_ROWS,
    LEAST_SHARE,
    LONGEST_RUN_SECONDS,
    MEASURING_SECONDS,
    SHORT_RUN_SECONDS,
    choose,
    measure,
    most_rows,
)
from latentserve_server.bundle.golden_rows import rows_in_time
from latentserve_server.errors import BundleError
from latentserve_server.model.requests import SampleRequest

SIZES = [1 << power for power in range(13)]
seconds = st.floats(1e-6, 1.0)
tables = st.integers(1, 3).flatmap(
    lambda graphs: st.dictionaries(
        st.sampled_from(SIZES), st.lists(seconds, min_size=graphs, max_size=graphs), min_size=1
    )
)


class Graphs:
    """Graphs whose runs take so many seconds, and so many more a row; what was run."""

    def __init__(self, costs: Sequence[tuple[float, float]], room: int = 1 << 20) -> None:
        self._costs = costs
        self._room = room
        self.runs: list[tuple[int, float]] = []

    def __call__(self, rows: int) -> Sequence[float]:
        """The seconds of a run of each; none where there is no room for the rows."""
        if rows > self._room:
            return ()
        taken = [run + row * rows for run, row in self._costs]
        self.runs.append((rows, sum(taken)))
        return taken


costs = st.lists(st.tuples(st.floats(0, 0.01), st.floats(1e-7, 0.1)), min_size=1, max_size=3)


def rate(rows: int, taken: float) -> float:
    return rows / (BATCH_SECONDS + taken)


@given(table=tables)
def test_the_fewest_rows_that_pay_are_chosen_of_runs_that_are_short(table: dict[int, list[float]]) -> None:
    choice = choose(table)
    table = {
        rows: [min(table[more][graph] for more in table if more >= rows) for graph in range(len(runs))]
        for rows, runs in table.items()
    }
    short = {rows: runs for rows, runs in table.items() if sum(runs) <= LONGEST_RUN_SECONDS}
    if not short:
        assert choice.rows == min(table)
        return
    best = [max(rate(rows, runs[graph]) for rows, runs in short.items()) for graph in range(len(short[choice.rows]))]
    share = {rows: min(rate(rows, t) / b for t, b in zip(runs, best, strict=True)) for rows, runs in short.items()}
    paying = [rows for rows, least in share.items() if least >= LEAST_SHARE]
    few = max((rows for rows in short if rows <= FEW_ROWS and sum(short[rows]) <= SHORT_RUN_SECONDS), default=1)
    least_loss = min(rows for rows, least in share.items() if least == max(share.values()))
    assert choice.rows == max(few, min(paying) if paying else least_loss)
    assert (choice.share, choice.seconds) == (share[choice.rows], sum(short[choice.rows]))


@given(costs=costs, power=st.integers(0, 12))
def test_measuring_ends_within_its_time_and_one_run(costs: list[tuple[float, float]], power: int) -> None:
    graphs = Graphs(costs)
    table = measure(graphs, len(costs), 1 << power)
    *before, last = [taken for _, taken in graphs.runs]
    assert sum(before) <= len(costs) * MEASURING_SECONDS + 1e-9
    assert last == graphs.runs[-1][1]
    assert list(table) == SIZES[: len(table)]
    assert max(table) <= 1 << power


@given(costs=costs)
def test_what_is_chosen_has_nearly_the_rows_a_second_of_the_longest_run_allowed(
    costs: list[tuple[float, float]],
) -> None:
    table = measure(Graphs(costs), len(costs), SIZES[-1])
    choice = choose(table)
    for rows in SIZES:
        taken = [run + row * rows for run, row in costs]
        if sum(taken) <= LONGEST_RUN_SECONDS and rows in table:
            for mine, theirs in zip(table[choice.rows], taken, strict=True):
                assert rate(choice.rows, mine) >= LEAST_SHARE * rate(rows, theirs) * (1 - 1e-9)


def test_larger_sizes_are_left_alone_where_they_bring_nothing() -> None:
    graphs = Graphs([(0.0, 1e-2)])
    assert max(measure(graphs, 1, 4096)) < 16
    assert choose(measure(graphs, 1, 4096)).rows == 1


def test_a_graph_of_long_runs_and_free_rows_takes_as_many_as_there_may_be() -> None:
    assert choose(measure(Graphs([(4e-3, 1e-7)]), 1, 4096)).rows == 4096


def test_no_more_rows_are_chosen_than_the_device_has_room_for() -> None:
    assert choose(measure(Graphs([(4e-3, 1e-7)], room=300), 1, 4096)).rows == 256


@given(row_bytes=st.integers(1, 1 << 32), bound=st.integers(1, 1 << 16))
def test_as_many_rows_as_their_buffers_have_room_for(row_bytes: int, bound: int) -> None:
    rows = most_rows(row_bytes, bound)
    assert rows & (rows - 1) == 0
    assert 1 <= rows <= bound
    assert rows == 1 or rows * row_bytes <= BUFFER_BYTES
    assert 2 * rows > bound or 2 * rows * row_bytes > BUFFER_BYTES


@pytest.mark.cpu_only("the same bits in batches of any size are promised on the CPU alone")
@pytest.mark.parametrize(("pad", "bound"), [(False, False), (True, False), (True, True)])
async def test_a_model_of_chosen_rows_answers_to_the_bit_as_another(tmp_path: Path, pad: bool, bound: bool) -> None:
    directory = TinyModel(conv=True).write(tmp_path / "vae" / "1")
    request = SampleRequest(rows=60, seed=3)
    async with (
        loaded(directory, max_batch_rows=7) as other,
        loaded(directory, max_batch_rows=4096, pad=pad, bound=bound, chooses=True) as model,
    ):
        rows = model.limits.max_batch_rows
        assert rows in SIZES
        assert model.identity.numerics == other.identity.numerics
        sampled, expected = await model.sample(request), await other.sample(request)
        np.testing.assert_array_equal(sampled.images, expected.images)


async def test_rows_that_are_chosen_are_those_that_a_model_is_described_with(tmp_path: Path) -> None:
    TinyModel().write(tmp_path / "vae" / "1")
    async with running_server(tmp_path, max_batch_rows="auto", max_queue_rows=4096) as served:
        reply = await served.models.GetModel(models_pb2.GetModelRequest(model={"name": "vae"}))
        assert reply.model.limits.max_batch_rows in [rows for rows in SIZES if rows <= 1024]


@pytest.mark.parametrize(("row_seconds", "rows"), [(1e-5, 64), (0.01, 64), (0.1, 10), (0.4, 2), (1.0, 1), (30.0, 1)])
def test_a_run_has_no_more_rows_than_a_second_has(row_seconds: float, rows: int) -> None:
    assert rows_in_time(row_seconds, 64) == rows


def take_rows(most: int, source: str, *sides: int) -> Callable[[onnx.ModelProto], None]:
    """An edit by which a graph fails with more rows: it looks up, in a table of zeros, the number of rows less one."""

    def edit(model: onnx.ModelProto) -> None:
        for node in model.graph.node:
            node.input[:] = ["counted" if name == source else name for name in node.input]
        row = ", ".join(map(str, ("batch", *sides)))
        nodes = f"sides = Shape({source}) count = Gather(sides, i0) last = Sub(count, i1) none = Gather(zeros, last)"
        signature = f"(float[{row}] {source}) => (float[{row}] counted)"
        lookup = onnx.parser.parse_graph(f"lookup {signature} {{ {nodes} counted = Add({source}, none) }}")
        for number, node in enumerate(lookup.node):
            model.graph.node.insert(number, node)
        constants = {"i0": np.int64(0), "i1": np.int64(1), "zeros": np.zeros(most, np.float32)}
        model.graph.initializer.extend(
            onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()
        )

    return edit


@pytest.mark.cpu_only("on CUDA a Gather beyond its table gives zeros")
async def test_no_golden_rows_run_together_that_would_not_be_served_so(tmp_path: Path) -> None:
    bundle = TinyModel().write(tmp_path / "bundle", edit_decoder=take_rows(1, "latent", 3))
    async with loaded(bundle, max_batch_rows=1) as model:
        assert model.limits.max_batch_rows == 1
    with pytest.raises(BundleError, match="decoder"):
        async with loaded(bundle, max_batch_rows=2):
            raise AssertionError("it was loaded")


@pytest.mark.cpu_only("on CUDA a Gather beyond its table gives zeros")
async def test_no_graph_is_tried_with_more_rows_than_another_allows(tmp_path: Path) -> None:
    def work_long(golden: dict[str, NDArray[Any]]) -> None:
        golden["decoder.latent"][:, 0] = 6000

    bundle = TinyModel(slow=True).write(tmp_path / "bundle", edit_golden=work_long)
    take_rows(500, "image", 1, 4, 5)(encoder := onnx.load(bundle / "encoder.onnx"))
    resign(bundle, "encoder.onnx", encoder.SerializeToString())
    async with loaded(bundle, max_batch_rows=1024) as model:
        assert model.limits.max_batch_rows <= 500
