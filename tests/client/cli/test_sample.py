"""Jobs of samples that are broken off: what is left of them, and how they are gone on with."""

from __future__ import annotations

import queue
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from numpy.typing import NDArray

from latentserve_client import Client
from latentserve_client.cli.files import FileError, GrowingArray
from latentserve_client.cli.main import main

Run = Callable[..., tuple[int, str, str]]
COMMAND = Path(sys.executable).with_name("latentserve")


@pytest.fixture
def sample(target: str, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `sample linear` against the server: exit code, stdout and stderr."""

    def sample(*argv: object) -> tuple[int, str, str]:
        code = main(["--server", target, "sample", "linear", *map(str, argv)])
        out, err = capsys.readouterr()
        return code, out, err

    return sample


@pytest.fixture
def expected(target: str) -> NDArray[np.float32]:
    """The first 20 images of seed 7."""
    with Client(target) as client:
        return np.concatenate(
            [client.sample("linear", 5, seed=7, first_index=start).images for start in (0, 5, 10, 15)]
        )


def test_a_folder_is_gone_on_with(sample: Run, tmp_path: Path, faults: list[Any]) -> None:
    faults.extend([None, (3, grpc.StatusCode.INTERNAL)])
    code, _, err = sample("--count", 20, "--seed", 7, "-o", f"{tmp_path}/")
    assert (code, err.count("\n")) == (1, 1)
    assert f"12 of 20 images are in {tmp_path}; go on with model linear:2" in err
    sample("--count", 8, "--seed", 7, "--first-index", 12, "-o", f"{tmp_path}/")
    assert len(list(tmp_path.iterdir())) == 20


def test_what_has_arrived_is_kept(
    sample: Run, tmp_path: Path, expected: NDArray[np.float32], faults: list[Any]
) -> None:
    output = tmp_path / "samples.npy"
    output.write_bytes(b"old")
    faults.extend([None, (2, grpc.StatusCode.INTERNAL)])
    code, _, err = sample("--count", 17, "--seed", 7, "--first-index", 3, "-o", output)
    kept = tmp_path / "samples.seed-7.rows-3-10.npy"
    assert (code, err.count("\n")) == (1, 1)
    assert f"8 of 17 images are in {kept}; go on with model linear:2 and --seed 7 --first-index 11 --count 9" in err
    assert output.read_bytes() == b"old"
    assert sorted(tmp_path.iterdir()) == [output, kept]
    sample("--seed", 7, "--first-index", 11, "--count", 9, "-o", output)
    np.testing.assert_array_equal(np.concatenate([np.load(kept), np.load(output)]), expected[3:])


def test_the_rest_is_drawn_as_what_has_arrived_was(sample: Run, tmp_path: Path, faults: list[Any]) -> None:
    how = "--prior standard_normal --temperature 0.7 --truncation 2.5 --psi -0.5 --labels 3,0"
    faults.extend([None, (2, grpc.StatusCode.INTERNAL)])
    code, _, err = sample("--count", 17, "--seed", 7, *how.split(), "-o", tmp_path / "a.npy")
    assert code == 1
    assert err.endswith(f"go on with model linear:2 and --seed 7 --first-index 8 --count 9 {how}\n")


def test_the_rest_of_a_folder_shows_the_same_bands(sample: Run, tmp_path: Path, faults: list[Any]) -> None:
    faults.extend([None, (3, grpc.StatusCode.INTERNAL)])
    _, _, err = sample("--count", 20, "--seed", 7, "--bands", "2,1,0", "-o", f"{tmp_path}/")
    assert err.endswith("go on with model linear:2 and --seed 7 --first-index 12 --count 8 --bands 2,1,0\n")


def test_an_interrupt_leaves_what_has_arrived(
    target: str, tmp_path: Path, expected: NDArray[np.float32], faults: list[Any], stalled: queue.Queue[str]
) -> None:
    faults.extend([None, (2, "stall")])
    argv = [str(COMMAND), "--server", target, "sample", "linear", "--seed", "7", "-o", str(tmp_path / "all.npy")]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        stalled.get(timeout=30)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert (process.returncode, out) == (130, "")
    assert err.startswith("latentserve: interrupted")
    # The server is ahead of its reader, so that some of what it has sent may not have been read.
    for kept in tmp_path.iterdir():
        rows = np.load(kept)
        assert f"{len(rows)} of 64 images are in {kept}; go on with" in err
        np.testing.assert_array_equal(rows, expected[: len(rows)])


@pytest.mark.parametrize(
    ("name", "message"), [("file/", "is not a directory"), ("none/folder/", "there is no directory")]
)
def test_a_folder_that_cannot_be(sample: Run, tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / "file").touch()
    code, _, err = sample("-o", f"{tmp_path}/{name}")
    assert (code, err.count("\n"), message in err) == (1, 1, True)


def test_a_growing_array_is_whole_after_every_append(tmp_path: Path) -> None:
    rows = np.random.default_rng(0).standard_normal((1100, 2, 3)).astype(np.float32)
    array = GrowingArray(tmp_path / "a.npy", (2, 3), "<f4")
    (hidden,) = tmp_path.iterdir()
    assert np.load(hidden).shape == (0, 2, 3)
    for start, end in ((0, 1), (1, 9), (9, 10), (10, 1100)):
        array.append(rows[start:end])
        np.testing.assert_array_equal(np.load(hidden), rows[:end])
    array.publish(tmp_path / "a.npy")
    array.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["a.npy"]
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy", mmap_mode="r"), rows)


def test_a_growing_array_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"a\.npy: cannot be written: No such file"):
        GrowingArray(tmp_path / "none" / "a.npy", (2,), "<f4")


def test_a_large_sample_is_a_stream(
    run: Run, target: str, tmp_path: Path, attempts: list[tuple[str, str, Any]]
) -> None:
    output = tmp_path / "samples.npy"
    code, out, _ = run("sample", "linear", "--count", 20, "--seed", 3, "--first-index", 5, "-o", output)
    assert code == 0
    assert "20 images, seed 3 from index 5, model linear:2" in out
    ((_, _, request),) = [attempt for attempt in attempts if attempt[0] == "StreamSamples"]
    assert (request.first_index, request.count, request.model.version) == (5, 20, 2)
    array = np.load(output)
    assert (array.dtype, array.shape) == (np.float32, (20, 3, 4, 6))
    with Client(target) as client:
        np.testing.assert_array_equal(array[8:16], client.sample("linear", 8, seed=3, first_index=13).images)
    assert list(tmp_path.iterdir()) == [output]


def test_a_failure_halfway_keeps_the_old_file(run: Run, tmp_path: Path, faults: list[Any]) -> None:
    output = tmp_path / "grid.png"
    output.write_bytes(b"old")
    faults.extend([None, (2, grpc.StatusCode.INTERNAL)])
    code, _, err = run("sample", "linear", "--count", 20, "-o", output)
    assert (code, "told to say INTERNAL [StreamSamples: INTERNAL" in err) == (1, True)
    assert output.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [output]
