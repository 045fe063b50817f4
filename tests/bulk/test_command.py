"""What the command says of what it is not asked well."""

from __future__ import annotations

from pathlib import Path

import pytest
from bulk.conftest import Command
from tiny_bundle import TinyModel


def sample(repository: Path, output: Path, *words: object, model: str = "vae") -> list[object]:
    common = ("--repository", repository, "--output", output, "--shard", "0/1", "--quiet")
    return ["sample", model, *common, "--seed", 0, "--count", 10, *words]


@pytest.mark.parametrize(
    ("model", "words", "problem"),
    [
        ("other", (), "there is no model 'other'; it has calibrated, codes, conditional, fragile, gan, many, vae"),
        ("vae:2", (), "model 'vae' has no version 2; it has 1"),
        ("vae@best", (), "model 'vae' has no alias 'best'"),
        ("vae", ("--prior", "mixture"), "prior: the model's bundle carries no mixture"),
        ("vae", ("--psi", 1), "psi: the model's decoder takes none"),
        ("vae", ("--labels", "1"), "labels: the model has no labels; give none"),
        ("conditional", ("--labels", "7"), "labels[0]: 7; 0 to 2 are allowed"),
        (
            "conditional",
            ("--labels", "cat"),
            "--labels: 'cat' is neither a number nor the name of a label of conditional",
        ),
        ("many", (), "files hold 1, 3 or 4 channels and the model's images 5"),
        ("vae", ("--first-index", 2**48), "first_index: 281474976710656 + 10 rows is over 2^48"),
    ],
)
def test_what_a_model_cannot_do_is_one_line(
    repository: Path, tmp_path: Path, command: Command, model: str, words: tuple[object, ...], problem: str
) -> None:
    status, said, told = command(*sample(repository, tmp_path / "out", *words, model=model))
    assert (status, said, told.count("\n")) == (1, "", 1)
    assert problem in told
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("--count", 0), "'0' is not an integer from 1 to 281474976710656"),
        (("--shard", "2/2"), "'2/2' is not I/N, such as 0/4, with I from 0 to N - 1"),
        (("--temperature", "hot"), "'hot' is not a number from 0 to 4"),
        (("--psi", "inf"), "'inf' is not a finite number"),
        (("--device", "tpu"), "'tpu' is not auto, cpu or cuda"),
        (("--colour",), "unrecognized arguments: --colour"),
    ],
)
def test_words_that_are_not_understood_are_told(
    repository: Path, tmp_path: Path, command: Command, words: tuple[object, ...], problem: str
) -> None:
    status, _, told = command(*sample(repository, tmp_path, *words))
    assert status == 2
    assert problem in told


def test_a_repository_that_is_not_there_is_told(tmp_path: Path, command: Command) -> None:
    status, _, told = command(*sample(tmp_path / "none", tmp_path / "out"))
    assert (status, told.count("\n")) == (1, 1)
    assert "not a readable directory" in told


def test_an_output_that_cannot_be_written_is_told(repository: Path, tmp_path: Path, command: Command) -> None:
    (tmp_path / "file").write_text("")
    status, _, told = command(*sample(repository, tmp_path / "file" / "out"))
    assert (status, told.count("\n")) == (1, 1)
    assert str(tmp_path / "file" / "out") in told


def test_a_scheme_that_is_not_known_is_told(repository: Path, command: Command) -> None:
    words = sample(repository, Path("out"))
    words[words.index(Path("out"))] = "gopher://host/out"
    status, _, told = command(*words)
    assert (status, told.count("\n")) == (1, 1)
    assert "gopher" in told


def test_a_damaged_bundle_is_told(tmp_path: Path, command: Command) -> None:
    bundle = TinyModel().write(tmp_path / "models" / "vae" / "1")
    (bundle / "decoder.onnx").write_bytes(b"")
    status, _, told = command(*sample(tmp_path / "models", tmp_path / "out"))
    assert (status, told.count("\n")) == (1, 1)
    assert "vae:1: decoder.onnx: " in told
