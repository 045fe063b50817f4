"""A job that was stopped anywhere goes on where it was, and another job is not mixed into it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bulk.conftest import Command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny_bundle import TinyModel
from written_rows import digests

RANGES = 7


def words(repository: Path, output: Path, *more: object) -> list[object]:
    common = ("--repository", repository, "--output", output, "--seed", 3, "--count", 100 * RANGES, "--quiet")
    return ["sample", "vae", *common, "--range-rows", 100, "--shard", "0/1", *more]


def rewritten(output: Path) -> dict[str, int]:
    """When each file was written last, in nanoseconds."""
    return {path.name: path.stat().st_mtime_ns for path in output.glob("*.parquet")}


@pytest.fixture(scope="module")
def whole(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The digests of the files of a job that nothing stopped."""
    from latentserve_bulk.cli import main

    output = tmp_path_factory.mktemp("whole")
    assert main([str(word) for word in words(repository, output)]) == 0
    return digests(output)


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lost=st.dictionaries(
        st.integers(0, RANGES - 1), st.sampled_from(["file", "record", "both", "cut"]), min_size=1, max_size=RANGES
    )
)
def test_what_is_missing_is_made_again_to_the_bit(
    repository: Path,
    tmp_path_factory: pytest.TempPathFactory,
    command: Command,
    whole: dict[str, str],
    lost: dict[int, str],
) -> None:
    output = tmp_path_factory.mktemp("job")
    assert command(*words(repository, output))[0] == 0
    (output / "_manifest.json").unlink()
    (output / ".unfinished-0123").write_bytes(b"half a file")
    files, before = sorted(output.glob("*.parquet")), rewritten(output)
    for number, how in lost.items():
        record = output / "_ranges" / f"{files[number].stem}.json"
        if how in ("file", "both"):
            files[number].unlink()
        if how in ("record", "both"):
            record.unlink()
        if how == "cut":
            files[number].write_bytes(files[number].read_bytes()[:-1])
    assert command(*words(repository, output))[0] == 0
    assert digests(output) == whole
    assert command("verify", output)[0] == 0
    kept = [path.name for number, path in enumerate(files) if number not in lost]
    assert {name: rewritten(output)[name] for name in kept} == {name: before[name] for name in kept}
    assert not list(output.glob(".unfinished-*"))


def test_a_job_that_is_done_is_done(repository: Path, tmp_path: Path, command: Command) -> None:
    first = command(*words(repository, tmp_path))
    before = rewritten(tmp_path)
    again = command(*words(repository, tmp_path))
    assert (first[0], again[0]) == (0, 0)
    assert rewritten(tmp_path) == before


@pytest.mark.parametrize(
    ("more", "difference"),
    [
        (("--seed", 4), "seed was 3, is 4"),
        (("--count", 701), "rows was 700, is 701"),
        (("--image", "uint8", "--latents"), 'image was "png", is "uint8"; latents was false, is true'),
        (("--range-rows", 50), "range_rows was 100, is 50"),
        (("--truncation", 2), "truncation was null, is 2.0"),
        (("--numerics", "portable"), 'numerics was "fast", is "portable"'),
    ],
)
def test_a_changed_option_is_refused_with_the_difference(
    repository: Path, tmp_path: Path, command: Command, more: tuple[object, ...], difference: str
) -> None:
    assert command(*words(repository, tmp_path))[0] == 0
    before = rewritten(tmp_path)
    line = f"latentserve-bulk: {tmp_path}: is of another job: {difference}\n"
    assert command(*words(repository, tmp_path, *more)) == (1, "", line)
    assert rewritten(tmp_path) == before


def test_who_does_the_work_may_change(
    repository: Path, tmp_path: Path, command: Command, whole: dict[str, str]
) -> None:
    assert command(*words(repository, tmp_path, "--shard", "1/2"))[0] == 0
    assert command(*words(repository, tmp_path, "--threads", 2, "--strict"))[0] == 0
    assert digests(tmp_path) == whole


def test_another_version_is_another_job(tmp_path: Path, command: Command) -> None:
    repository, output = tmp_path / "models", tmp_path / "job"
    TinyModel().write(repository / "vae" / "1")
    assert command(*words(repository, output))[0] == 0
    TinyModel(seed=1).write(repository / "vae" / "2")
    status, _, told = command(*words(repository, output))
    assert status == 1
    assert "version was 1, is 2; digest was " in told
    pinned = words(repository, output)
    pinned[1] = "vae:1"
    assert command(*pinned)[0] == 0


def test_a_folder_of_other_files_is_left_alone(repository: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    line = f"latentserve-bulk: {tmp_path}: there are files of no job; name an empty folder\n"
    assert command(*words(repository, tmp_path)) == (1, "", line)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_damaged_record_is_told(repository: Path, tmp_path: Path, command: Command) -> None:
    assert command(*words(repository, tmp_path))[0] == 0
    record = min((tmp_path / "_ranges").iterdir())
    record.write_text("{}")
    status, _, told = command(*words(repository, tmp_path))
    assert (status, told.count("\n")) == (1, 1)
    assert record.name in told
    assert "remove it to make it again" in told


def test_damage_is_found_by_the_manifest(repository: Path, tmp_path: Path, command: Command) -> None:
    assert command("verify", tmp_path)[0] == 1
    assert command(*words(repository, tmp_path))[0] == 0
    assert command("verify", tmp_path) == (0, f"{tmp_path}: {RANGES} files are as the manifest says\n", "")
    first, second, *_ = sorted(tmp_path.glob("*.parquet"))
    data = bytearray(first.read_bytes())
    data[100] ^= 1
    first.write_bytes(data)
    second.unlink()
    told = f"{first.name}: the SHA-256 is not the manifest's\nlatentserve-bulk: {second.name}: is missing\n"
    assert command("verify", tmp_path) == (1, "", f"latentserve-bulk: {told}")


def test_a_job_says_what_it_is(repository: Path, tmp_path: Path, command: Command) -> None:
    assert command(*words(repository, tmp_path))[0] == 0
    job = json.loads((tmp_path / "_job.json").read_text())
    assert (job["command"], job["model"], job["version"], job["rows"]) == ("sample", "vae", 1, 700)
    assert json.loads((tmp_path / "_manifest.json").read_text())["job"] == job
