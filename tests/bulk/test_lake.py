"""Images of a lake, encoded, scored and reconstructed, have the bits of a running server's."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from bulk.conftest import MODELS, Command
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from running_server import running_server
from written_rows import digests, manifest, pictures, rejected_rows, tensors, written_rows

from latentserve.ndarray import from_ndarray, to_ndarray
from latentserve.v1 import generation_pb2 as pb
from latentserve_bulk.job import RowRange
from latentserve_bulk.lake import Listing

COUNT = 150
SCORES = ("reconstruction_error", "kl", "elbo", "anomaly_percentile")


def png(image: NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image[0] if len(image) == 1 else np.moveaxis(image, 0, -1)).save(file, "PNG")
    return file.getvalue()


def picture_lake(folder: Path, images: NDArray[np.uint8]) -> Path:
    """A file an image, in two folders; the order of their paths is that of the images."""
    for number, image in enumerate(images):
        path = folder / ("a" if number < 40 else "b") / f"{number:04d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(png(image))
    (folder / "README.md").write_text("no picture")
    (folder / "_thumbnails").mkdir()
    (folder / "_thumbnails" / "1.png").write_bytes(b"passed over")
    return folder


def table_lake(folder: Path, column: pa.Array, rows: int = 40, **options: Any) -> Path:
    """Parquet files of so many rows and one of the rest, each in row groups of 16."""
    folder.mkdir(parents=True)
    table = pa.table({"id": pa.array(range(len(column))), "image": column})
    for start in range(0, len(column), rows):
        pq.write_table(table.slice(start, rows), folder / f"{start:04d}.parquet", row_group_size=16, **options)
    return folder


def tensor_array(images: NDArray[Any]) -> pa.Array:
    return pa.FixedShapeTensorArray.from_numpy_ndarray(np.ascontiguousarray(images))


def words(repository: Path, output: Path, images: Path, verb: str, model: str = "vae", *more: object) -> list[object]:
    where = ("--repository", repository, "--output", output, "--images", images, "--shard", "0/1", "--quiet")
    return [verb, model, *where, "--range-rows", 70, *more]


@pytest.mark.parametrize("model", ["vae", "calibrated", "conditional", "codes"])
async def test_the_rows_are_those_of_a_running_server(
    repository: Path, tmp_path: Path, command: Command, model: str
) -> None:
    images = MODELS[model].random_images(COUNT)
    lake = picture_lake(tmp_path / "lake", images)
    label = ("--label", 1) if MODELS[model].labels else ()
    asked: dict[str, Any] = {"model": pb.ModelRef(name=model), "images": pb.Images(tensor=from_ndarray(images))}
    asked |= {"labels": [1]} if label else {}
    async with running_server(repository) as server:
        encoded = await server.generation.Encode(pb.EncodeRequest(**asked))
        scored = await server.generation.Score(pb.ScoreRequest(**asked))
        again = await server.generation.Reconstruct(pb.ReconstructRequest(**asked))
    for verb, form in (("encode", ()), ("score", ()), ("reconstruct", ("--image", "float32"))):
        status, _, told = command(*words(repository, tmp_path / verb, lake, verb, model, *label, *form))
        assert status == 0, told
        rows = written_rows(tmp_path / verb)
        assert rows["index"].to_pylist() == list(range(COUNT))
        assert rows["source"][41].as_py() == "b/0041.png"
    rows = written_rows(tmp_path / "encode")
    for name in ("codes",) if model == "codes" else ("mean", "log_variance"):
        np.testing.assert_array_equal(tensors(rows, name), to_ndarray(getattr(encoded, name)), strict=True)
    rows = written_rows(tmp_path / "score")
    assert {name: rows[name].to_pylist() for name in SCORES if name in rows.column_names} == {
        name: list(getattr(scored, name)) for name in SCORES if getattr(scored, name)
    }
    rows = written_rows(tmp_path / "reconstruct")
    np.testing.assert_array_equal(tensors(rows, "image"), to_ndarray(again.images.tensor), strict=True)
    assert rows["reconstruction_error"].to_pylist() == list(again.reconstruction_error)


COLUMNS: Mapping[str, Callable[[NDArray[np.uint8]], pa.Array]] = {
    "pictures": lambda images: pa.array([png(image) for image in images], pa.binary()),
    "pictures as Hugging Face's datasets have them": lambda images: pa.array(
        [{"bytes": png(image), "path": None} for image in images],
        pa.struct([("bytes", pa.binary()), ("path", pa.string())]),
    ),
    "levels": tensor_array,
    "floats": lambda images: tensor_array(images.astype(np.float32) / np.float32(255)),
    "planes": lambda images: tensor_array(images[:, 0]),
    "lists": lambda images: pa.array(list(images.reshape(len(images), -1)), pa.list_(pa.uint8())),
    "lists of one length": lambda images: pa.array(
        list(images.reshape(len(images), -1)), pa.list_(pa.uint8(), images[0].size)
    ),
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
def test_an_image_is_the_same_however_it_lies_in_parquet(
    repository: Path, tmp_path: Path, command: Command, column: Callable[[NDArray[np.uint8]], pa.Array]
) -> None:
    images = MODELS["vae"].random_images(COUNT)
    lake = table_lake(tmp_path / "tables", column(images))
    assert command(*words(repository, tmp_path / "one", lake, "encode"))[0] == 0
    files = picture_lake(tmp_path / "pictures", images)
    assert command(*words(repository, tmp_path / "other", files, "encode"))[0] == 0
    one, other = written_rows(tmp_path / "one"), written_rows(tmp_path / "other")
    assert one.drop_columns("source").equals(other.drop_columns("source"))
    assert one["source"][41].as_py() == "0040.parquet#1"


def test_what_was_sampled_is_encoded_and_reconstructed(repository: Path, tmp_path: Path, command: Command) -> None:
    drawn = ("--repository", repository, "--seed", 1, "--count", COUNT, "--shard", "0/1", "--quiet")
    for form in ("png", "uint8"):
        output = tmp_path / form
        assert command("sample", "vae", *drawn, "--image", form, "--output", output)[0] == 0
        assert (
            command(*words(repository, tmp_path / f"r-{form}", output, "reconstruct", "vae", "--image", form))[0] == 0
        )
    expected = pictures(written_rows(tmp_path / "r-png"))
    np.testing.assert_array_equal(tensors(written_rows(tmp_path / "r-uint8"), "image"), expected)


def test_images_that_cannot_be_read_are_set_aside_and_the_job_goes_on(
    repository: Path, tmp_path: Path, command: Command
) -> None:
    lake = picture_lake(tmp_path / "lake", MODELS["vae"].random_images(COUNT))
    (lake / "a" / "0003.png").write_bytes(b"")
    (lake / "a" / "0007.png").write_bytes((lake / "a" / "0008.png").read_bytes()[:40])
    (lake / "b" / "0100.png").write_bytes(png(np.zeros((1, 9, 9), np.uint8)))
    status, said, _ = command(*words(repository, tmp_path / "out", lake, "score"))
    assert status == 0
    assert f"{COUNT - 3} rows, 3 rejected" in said
    not_read = "not a readable PNG, JPEG, WebP, GIF or BMP file"
    assert [(row["index"], row["source"], row["reason"]) for row in rejected_rows(tmp_path / "out")] == [
        (3, "a/0003.png", not_read),
        (7, "a/0007.png", not_read),
        (100, "b/0100.png", "9x9 pixels where 5x4 are wanted"),
    ]
    kept = [row for row in range(COUNT) if row not in (3, 7, 100)]
    assert written_rows(tmp_path / "out")["index"].to_pylist() == kept
    assert manifest(tmp_path / "out")["rejected_rows"] == 3
    assert command(*words(repository, tmp_path / "resized", lake, "score", "vae", "--resize"))[0] == 0
    assert manifest(tmp_path / "resized")["rejected_rows"] == 2


def test_tensors_that_are_no_images_are_set_aside(repository: Path, tmp_path: Path, command: Command) -> None:
    images = list(MODELS["vae"].random_images(10).reshape(10, -1).astype(np.float32) / 255)
    images[1] = images[1][:-1]
    images[2] = np.full_like(images[2], np.nan)
    images[3] = images[3] + 3
    lake = table_lake(tmp_path / "lake", pa.array([*images, None], pa.list_(pa.float32())))
    assert command(*words(repository, tmp_path / "out", lake, "encode"))[0] == 0
    reasons = {row["index"]: row["reason"] for row in rejected_rows(tmp_path / "out")}
    assert list(reasons) == [1, 2, 3, 10]
    assert (reasons[2], reasons[10]) == ("a value is not finite", "there is none")
    assert "where [1, 4, 5] is wanted" in reasons[1]


def test_a_damaged_row_group_takes_no_other_with_it(repository: Path, tmp_path: Path, command: Command) -> None:
    images = MODELS["vae"].random_images(48)
    lake = table_lake(tmp_path / "lake", COLUMNS["pictures"](images), rows=48, compression="snappy")
    (path,) = lake.iterdir()
    column = pq.ParquetFile(path).metadata.row_group(1).column(1)
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + 200] = b"\xff" * 200
    path.write_bytes(data)
    assert command(*words(repository, tmp_path / "out", lake, "encode"))[0] == 0
    assert [row["index"] for row in rejected_rows(tmp_path / "out")] == list(range(16, 32))


def test_a_strict_job_names_the_image_that_stops_it(repository: Path, tmp_path: Path, command: Command) -> None:
    lake = picture_lake(tmp_path / "lake", MODELS["vae"].random_images(COUNT))
    (lake / "b" / "0100.png").write_bytes(b"x")
    status, said, told = command(*words(repository, tmp_path / "out", lake, "encode", "vae", "--strict"))
    assert (status, said) == (1, "")
    assert told == (
        "latentserve-bulk: --strict: row 100 (b/0100.png): not a readable PNG, JPEG, WebP, GIF or BMP file\n"
    )
    (lake / "b" / "0100.png").unlink()
    status, _, told = command(*words(repository, tmp_path / "out", lake, "encode", "vae", "--strict"))
    assert status == 1
    assert "rows was 150, is 149; lake was " in told


def test_a_lake_is_gone_on_with(repository: Path, tmp_path: Path, command: Command) -> None:
    lake = picture_lake(tmp_path / "lake", MODELS["vae"].random_images(COUNT))
    (lake / "a" / "0003.png").write_bytes(b"")
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert command(*words(repository, whole, lake, "encode"))[0] == 0
    assert command(*words(repository, parts, lake, "encode", "vae", "--shard", "1/3"))[0] == 0
    min(parts.glob("*.parquet")).unlink()
    assert command(*words(repository, parts, lake, "encode"))[0] == 0
    assert digests(parts) == digests(whole)


@pytest.mark.parametrize(
    ("model", "verb", "more", "problem"),
    [
        ("gan", "encode", (), "model 'gan' is a GAN and cannot encode"),
        ("gan", "score", (), "model 'gan' is a GAN and cannot score"),
        ("conditional", "score", (), "labels: none; the model has 3 labels"),
        ("vae", "encode", ("--label", "1"), "labels: the model has no labels; give none"),
        ("many", "encode", (), "files hold 1, 3 or 4 channels and the model's images 5"),
    ],
)
def test_what_a_model_cannot_do_is_one_line(
    repository: Path, tmp_path: Path, command: Command, model: str, verb: str, more: tuple[object, ...], problem: str
) -> None:
    lake = picture_lake(tmp_path / "lake", MODELS["vae"].random_images(50))
    status, said, told = command(*words(repository, tmp_path / "out", lake, verb, model, *more))
    assert (status, said, told.count("\n")) == (1, "", 1)
    assert problem in told


def test_a_lake_without_images_is_told(repository: Path, tmp_path: Path, command: Command) -> None:
    lake = tmp_path / "lake"
    told = [command(*words(repository, tmp_path / "out", lake, "encode"))[2]]
    lake.mkdir()
    told.append(command(*words(repository, tmp_path / "out", lake, "encode"))[2])
    (lake / "1.png").write_bytes(b"")
    table_lake(lake / "tables", COLUMNS["levels"](MODELS["vae"].random_images(5)))
    told.append(command(*words(repository, tmp_path / "out", lake, "encode"))[2])
    told.append(command(*words(repository, tmp_path / "out", lake / "tables", "encode", "vae", "--column", "x"))[2])
    (lake / "tables" / "0000.parquet").write_bytes(b"PAR1")
    told.append(command(*words(repository, tmp_path / "out", lake / "tables", "encode"))[2])
    expected = [
        "lake",
        "no picture and no Parquet file",
        "name a folder of one of them",
        "it has id, image",
        "not a Parquet",
    ]
    for line, part in zip(told, expected, strict=True):
        assert part in line
        assert line.count("\n") == 1
    assert not (tmp_path / "out").exists()


@given(
    rows=st.lists(st.integers(0, 9), min_size=1, max_size=8).filter(any),
    range_rows=st.integers(1, 12),
)
def test_every_row_of_a_lake_is_in_one_range(rows: list[int], range_rows: int) -> None:
    paths, total = [f"{number}.parquet" for number in range(len(rows))], sum(rows)
    parts = [RowRange(start, min(start + range_rows, total)) for start in range(0, total, range_rows)]
    pieces = list(Listing("parquet", paths, rows, "").pieces(parts))
    assert [sum(piece["rows"].to_pylist()) for piece in pieces] == [len(part) for part in parts]
    found = [
        (row["path"], row["first"] + i) for piece in pieces for row in piece.to_pylist() for i in range(row["rows"])
    ]
    assert found == [(path, row) for path, count in zip(paths, rows, strict=True) for row in range(count)]
