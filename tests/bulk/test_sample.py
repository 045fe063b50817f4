"""Samples in Parquet have the bits of a running server's, however they are cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk.conftest import MODELS, Command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from running_server import running_server
from written_rows import digests, manifest, pictures, rejected_rows, tensors, written_rows

from latentserve.ndarray import to_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve.v1 import models_pb2

COUNT = 330
"""More than five batches, and no multiple of one."""


async def served(repository: Path, model: str, **request: Any) -> tuple[NDArray[Any], str, list[int]]:
    """Images, numerics and labels that a server answers with."""
    async with running_server(repository) as server:
        ref = pb.ModelRef(name=model)
        reply = await server.generation.Sample(pb.SampleRequest(model=ref, count=COUNT, seed=11, **request))
        described = await server.models.GetModel(models_pb2.GetModelRequest(model=ref))
        return to_ndarray(reply.images.tensor), described.model.numerics, list(reply.labels)


def sample(repository: Path, output: Path, model: str, *words: object, count: int = COUNT) -> list[object]:
    """The words of a job without Ray."""
    common = ("--repository", repository, "--output", output, "--seed", 11, "--count", count, "--quiet")
    shard = () if "--shard" in words else ("--shard", "0/1")
    return ["sample", model, *common, *shard, *words]


@pytest.mark.parametrize("model", MODELS)
async def test_the_rows_are_those_of_a_running_server(
    repository: Path, tmp_path: Path, command: Command, model: str
) -> None:
    images, numerics, labels = await served(repository, model, first_index=5)
    words = ("--image", "float32", "--first-index", 5, "--range-rows", 100)
    assert command(*sample(repository, tmp_path, model, *words))[0] == 0
    rows = written_rows(tmp_path)
    np.testing.assert_array_equal(tensors(rows, "image"), images, strict=True)
    assert rows["index"].to_pylist() == list(range(5, 5 + COUNT))
    assert set(rows["seed"].to_pylist()) == {11}
    assert (rows["label"].to_pylist() if "label" in rows.column_names else []) == labels
    assert manifest(tmp_path)["numerics"] == [numerics]
    assert [part["file"]["rows"] for part in manifest(tmp_path)["ranges"]] == [100, 100, 100, 30]


@pytest.mark.parametrize("model", ["vae", "conditional"])
async def test_pictures_and_levels_are_those_of_a_running_server(
    repository: Path, tmp_path: Path, command: Command, model: str
) -> None:
    images, *_ = await served(repository, model, output=pb.Output(format=pb.IMAGE_FORMAT_UINT8))
    for form in ("png", "uint8"):
        assert command(*sample(repository, tmp_path / form, model, "--image", form))[0] == 0
    np.testing.assert_array_equal(pictures(written_rows(tmp_path / "png")), images, strict=True)
    np.testing.assert_array_equal(tensors(written_rows(tmp_path / "uint8"), "image"), images, strict=True)


async def test_a_shaped_sample_is_that_of_a_running_server(repository: Path, tmp_path: Path, command: Command) -> None:
    shaping = pb.Shaping(temperature=0.5, truncation=1.0)
    images, *_ = await served(repository, "conditional", shaping=shaping, labels=[2, 1])
    words = ("--temperature", 0.5, "--truncation", 1, "--labels", "2,1", "--image", "float32")
    assert command(*sample(repository, tmp_path, "conditional", *words))[0] == 0
    np.testing.assert_array_equal(tensors(written_rows(tmp_path), "image"), images, strict=True)


def test_latents_have_the_shape_that_the_model_says(repository: Path, tmp_path: Path, command: Command) -> None:
    assert command(*sample(repository, tmp_path / "vae", "vae", "--latents", "--image", "float32"))[0] == 0
    assert command(*sample(repository, tmp_path / "codes", "codes", "--latents"))[0] == 0
    rows, tiny = written_rows(tmp_path / "vae"), MODELS["vae"]
    np.testing.assert_allclose(
        tensors(rows, "image"), tiny.images(tensors(rows, "latent").reshape(COUNT, -1)), rtol=0, atol=1e-6
    )
    codes = tensors(written_rows(tmp_path / "codes"), "codes")
    assert (codes.dtype, codes.shape) == (np.int64, (COUNT, 2, 3))


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    range_rows=st.integers(1, 200), batch_rows=st.integers(1, 100), shards=st.integers(1, 3), count=st.integers(1, 250)
)
def test_the_rows_are_the_same_however_they_are_cut(
    repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
    command: Command,
    range_rows: int,
    batch_rows: int,
    shards: int,
    count: int,
) -> None:
    output, other = tmp_path_factory.mktemp("cut"), tmp_path_factory.mktemp("whole")
    words = ("--image", "float32", "--latents")
    for shard in range(shards):
        cut = ("--range-rows", range_rows, "--batch-rows", batch_rows, "--shard", f"{shard}/{shards}")
        assert command(*sample(repository, output, "conditional", *words, *cut, count=count))[0] == 0
    assert command(*sample(repository, other, "conditional", *words, count=count))[0] == 0
    assert written_rows(output).equals(written_rows(other))


def test_shards_write_the_files_of_one_process(repository: Path, tmp_path: Path, command: Command) -> None:
    for shards in (1, 3):
        for shard in range(shards):
            words = ("--shard", f"{shard}/{shards}", "--range-rows", 50)
            status, said, _ = command(*sample(repository, tmp_path / str(shards), "vae", *words))
            assert status == 0
            assert ("other shards are not done" in said) == (shard < shards - 1)
    assert digests(tmp_path / "1") == digests(tmp_path / "3")


def test_an_image_is_read_without_all_the_others(repository: Path, tmp_path: Path, command: Command) -> None:
    words = ("--image", "float32", "--range-rows", 70_000)
    assert command(*sample(repository, tmp_path, "many", *words, count=70_000))[0] == 0
    (path,) = tmp_path.glob("*.parquet")
    file = pq.ParquetFile(path)
    groups = [file.metadata.row_group(number) for number in range(file.num_row_groups)]
    assert len(groups) > 1
    assert max(group.total_byte_size for group in groups) <= 64 << 20
    assert file.schema_arrow.field("image").type == pa.fixed_shape_tensor(pa.float32(), [5, 4, 5])


def test_rows_that_cannot_be_made_are_set_aside(repository: Path, tmp_path: Path, command: Command) -> None:
    words = ("--temperature", 4, "--range-rows", 500)
    status, said, _ = command(*sample(repository, tmp_path, "fragile", *words, count=2000))
    assert status == 0
    rejected, kept = rejected_rows(tmp_path), written_rows(tmp_path)["index"].to_pylist()
    assert f"{len(kept)} rows, {len(rejected)} rejected" in said
    assert len(rejected) > 0
    assert sorted([*kept, *(row["index"] for row in rejected)]) == list(range(2000))
    assert all(row["reason"] and row["source"] is None for row in rejected)
    assert manifest(tmp_path)["rejected_rows"] == len(rejected)


def test_a_strict_job_stops_at_a_row_that_cannot_be_made(repository: Path, tmp_path: Path, command: Command) -> None:
    words = sample(repository, tmp_path, "fragile", "--temperature", 4, count=2000)
    status, said, told = command(*words, "--strict")
    assert (status, said, told.count("\n")) == (1, "", 1)
    assert told.startswith("latentserve-bulk: --strict: row ")
    assert not list(tmp_path.glob("*.parquet"))
    assert command(*words)[0] == 0, "which is the same job"


def test_a_range_of_which_no_row_can_be_made_leaves_an_empty_file(
    repository: Path, tmp_path: Path, command: Command
) -> None:
    first = next(row["index"] for row in rejected_after(repository, tmp_path / "all", command))
    words = ("--temperature", 4, "--first-index", first, "--latents", "--image", "uint8")
    assert command(*sample(repository, tmp_path / "one", "fragile", *words, count=1))[0] == 0
    assert written_rows(tmp_path / "one").num_rows == 0
    assert manifest(tmp_path / "one")["rejected_rows"] == 1


def rejected_after(repository: Path, output: Path, command: Command) -> list[dict[str, Any]]:
    assert command(*sample(repository, output, "fragile", "--temperature", 4, count=2000))[0] == 0
    return rejected_rows(output)
