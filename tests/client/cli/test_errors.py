"""What the command line says when something is wrong, and how it ends."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from latentserve_client.cli.main import main

Misuse = Callable[[list[str]], str]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["model", "nobody"], "model: there is no 'nobody'"),
        (
            ["sample", "linear:9", "-o", "{}/a.png"],
            "model: there is no 'linear' of that version or alias [GetModel: NOT",
        ),
        (["sample", "linear", "-o", "{}/none/a.png"], "there is no directory"),
        (["encode", "linear", "{}/missing.png", "-o", "{}/z.npy"], "missing.png: No such file or directory"),
        (
            ["encode", "linear", "{}/empty", "-o", "{}/z.npy"],
            "empty: there is no file in this folder that ends in .png",
        ),
        (
            ["encode", "linear", "{}/text.png", "-o", "{}/z.npy"],
            "text.png: not a readable PNG, JPEG, WebP, GIF or BMP file",
        ),
        (
            ["encode", "linear", "{}/cut.png", "-o", "{}/z.npy"],
            "cut.png: not a readable PNG, JPEG, WebP, GIF or BMP file",
        ),
        (["encode", "linear", "{}/wide.png", "-o", "{}/z.npy"], "wide.png: 4 x 7 pixels; the model takes 4 x 6"),
        (
            ["reconstruct", "linear", "{}/text.png", "-o", "{}/p.png"],
            "text.png: not a readable PNG, JPEG, WebP, GIF or BMP file",
        ),
        (["decode", "linear", "{}/missing.npy", "-o", "{}/a.png"], "missing.npy: No such file or directory"),
        (["decode", "linear", "{}/text.png", "-o", "{}/a.png"], "text.png: not a .npy file"),
        (
            ["decode", "linear", "{}/flat.npy", "-o", "{}/a.png"],
            "flat.npy: float64 [5]; the model takes float32 [n, 5]",
        ),
        (["decode", "linear", "{}/pickle.npy", "-o", "{}/a.png"], "pickle.npy: not a .npy file, or a damaged one"),
    ],
)
def test_an_error_is_one_line(
    target: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, argv: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / ".hidden.png").touch()
    (tmp_path / "text.png").write_text("not pixels")
    Image.new("RGB", (7, 4)).save(tmp_path / "wide.png")
    Image.new("RGB", (6, 4)).save(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:40])
    np.save(tmp_path / "flat.npy", np.zeros(5))
    np.save(tmp_path / "pickle.npy", np.array([{}]), allow_pickle=True)
    before = set(tmp_path.iterdir())
    assert main(["--server", target, *(word.format(tmp_path) for word in argv)]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("latentserve: ")
    assert err.count("\n") == 1
    assert message in err
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (
            ["sample", "linear", "--count", "2", "--first-index", str(2**48), "-o", "{}/a.png"],
            "first_index 28147497671",
        ),
        (["encode", "linear", "{}/good.png", "--first-index", "1", "-o", "{}/z.npy"], "give draw_seed too"),
        (["sample", "linear", "--label", "cat", "-o", "{}/a.png"], "label 'cat': the model has no labels; give none"),
    ],
)
def test_what_no_server_would_take_is_wrong_usage(
    target: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, argv: list[str], message: str
) -> None:
    Image.new("RGB", (6, 4)).save(tmp_path / "good.png")
    assert main(["--server", target, *(word.format(tmp_path) for word in argv)]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n"), message in err) == ("", 1, True), err


def test_a_server_that_is_not_there(capsys: pytest.CaptureFixture[str], unused_tcp_port: int) -> None:
    server = f"127.0.0.1:{unused_tcp_port}"
    assert main(["--server", server, "models"]) == 1
    err = capsys.readouterr().err
    assert err.startswith(f"latentserve: no answer from {server}: ")
    assert err.count("\n") == 1


def test_a_call_that_takes_too_long(target: str, capsys: pytest.CaptureFixture[str], faults: list[Any]) -> None:
    faults.append("stall")
    assert main(["--server", target, "--timeout", "0.2", "models"]) == 1
    err = capsys.readouterr().err
    assert err.startswith("latentserve: no answer within the timeout of 0.2 s: the server was reached and is not done")
    assert err.endswith("; --timeout gives a call other than 0.2 s\n")
    assert err.count("\n") == 1


def test_a_server_that_answers_has_answered(target: str, capsys: pytest.CaptureFixture[str], faults: list[Any]) -> None:
    faults.extend([grpc.StatusCode.UNAVAILABLE] * 4)
    assert main(["--server", target, "models"]) == 1
    assert capsys.readouterr().err.startswith("latentserve: told to say UNAVAILABLE [ListModels: UNAVAILABLE")


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "required: COMMAND"),
        (["paint"], "invalid choice: 'paint'"),
        (["sample", "linear"], "required: -o/--output"),
        (["sample", "a b", "-o", "a.png"], "model name 'a b' is not letters"),
        (
            ["sample", "linear", "-o", "a.gif"],
            "output 'a.gif' does not end in .png or .jpg or .jpeg or .webp or .npy or /",
        ),
        (["encode", "linear", "a.png", "-o", "z.png"], "'z.png' does not end in .npy"),
        (["sample", "linear", "--count", "0", "-o", "a.png"], "'0' is not an integer from 1 to"),
        (["sample", "linear", "--seed", "-1", "-o", "a.png"], "'-1' is not an integer from 0 to 18446744073709551615"),
        (["sample", "linear", "--seed", "x", "-o", "a.png"], "'x' is not an integer"),
        (["--server", "http://localhost:50051", "models"], "server 'http://localhost:50051': write host:port, with"),
        (["--timeout", "nan", "models"], "'nan' is not a positive number of seconds"),
        (["--timeout", "soon", "models"], "'soon' is not a positive number of seconds"),
        (
            ["interpolate", "linear", "--from-seed", "1", "--to-seed", "2", "--to-seed", "3", "-o", "a.png"],
            "as many of",
        ),
        (["interpolate", "linear", "--from-seed", "1", "-o", "a.png"], "required: --to-seed"),
        (["traverse", "linear", "--axis", "0:-3:3", "-o", "a.png"], "'0:-3:3' is not DIMENSION:LOW:HIGH:STEPS"),
        (["traverse", "linear", "--axis", "0:a:3:2", "-o", "a.png"], "'a' is not a finite number"),
        (["traverse", "linear", "--axis", "0:0:3:1", "-o", "a.png"], "'1' is not an integer from 2"),
        (["traverse", "linear", *["--axis", "0:0:3:2"] * 3, "-o", "a.png"], "give one --axis or two"),
        (["sample", "linear", "--temperature", "5", "-o", "a.png"], "'5' is not a number from 0 to 4"),
        (["sample", "linear", "-o", "folder"], "'folder' does not end in .png or .jpg or .jpeg or .webp or .npy or /"),
        (["reconstruct", "linear", "a.png", "-o", "folder/"], "'folder/' does not end in .png"),
        (["compare", "linear", "linear", "--threshold", "-1"], "'-1' is not a number of at least 0"),
    ],
)
def test_wrong_usage_ends_with_2(misuse: Misuse, argv: list[str], message: str) -> None:
    assert message in misuse(argv)
