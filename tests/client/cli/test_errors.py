"""What the command line says when something is wrong, and how it ends."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from PIL import Image

from latentserve_client.cli.main import main

Misuse = Callable[[list[str]], str]


NO_PICTURE = "not a readable PNG, JPEG, WebP, GIF or BMP file"
PICTURES = ".png, .jpg, .jpeg, .webp, .gif, .bmp"
NOT_THERE = "of that version or alias [GetModel: NOT_FOUND, request ...]; the server has linear (1 @stable, 2)"
FAILED: list[tuple[list[str], str]] = [
    (["model", "nobody"], f"model: there is no 'nobody' {NOT_THERE}"),
    (["sample", "linear:9", "-o", "{}/a.png"], f"model: there is no 'linear' {NOT_THERE}"),
    (["sample", "linear", "-o", "{}/none/a.png"], "{}/none/a.png: there is no directory {}/none"),
    (["encode", "linear", "{}/missing.png", "-o", "{}/z.npy"], "{}/missing.png: No such file or directory"),
    (
        ["encode", "linear", "{}/empty", "-o", "{}/z.npy"],
        f"{{}}/empty: there is no file in this folder that ends in {PICTURES}",
    ),
    (["encode", "linear", "{}/text.png", "-o", "{}/z.npy"], f"{{}}/text.png: {NO_PICTURE}"),
    (["encode", "linear", "{}/cut.png", "-o", "{}/z.npy"], f"{{}}/cut.png: {NO_PICTURE}"),
    (["encode", "linear", "{}/wide.png", "-o", "{}/z.npy"], "{}/wide.png: 4 x 7 pixels; the model takes 4 x 6"),
    (["reconstruct", "linear", "{}/text.png", "-o", "{}/p.png"], f"{{}}/text.png: {NO_PICTURE}"),
    (["decode", "linear", "{}/missing.npy", "-o", "{}/a.png"], "{}/missing.npy: No such file or directory"),
    (["decode", "linear", "{}/text.png", "-o", "{}/a.png"], "{}/text.png: not a .npy file, or a damaged one"),
    (["decode", "linear", "{}/flat.npy", "-o", "{}/a.png"], "{}/flat.npy: float64 [5]; the model takes float32 [n, 5]"),
    (["decode", "linear", "{}/pickle.npy", "-o", "{}/a.png"], "{}/pickle.npy: not a .npy file, or a damaged one"),
]
REFUSED: list[tuple[list[str], str]] = [
    (
        ["sample", "linear", "--count", "2", "--first-index", str(2**48), "-o", "{}/a.png"],
        f"first_index {2**48} is not from 0 to {2**48 - 2}",
    ),
    (
        ["encode", "linear", "{}/good.png", "--first-index", "1", "-o", "{}/z.npy"],
        "first_index is the index of the draws' noise; give draw_seed too",
    ),
    (["sample", "linear", "--bands", "0,3,1", "-o", "{}/a.png"], "--bands 3: the model's images have channels 0 to 2"),
    (
        ["decode", "linear", "{}/flat.npy", "--bands", "0,1,2,0", "-o", "{}/a.jpg"],
        "JPEG has no alpha; name 1 or 3 channels by --bands, or write .png or .webp",
    ),
    (["sample", "linear", "--label", "cat", "-o", "{}/a.png"], "label 'cat': the model has no labels; give none"),
]


@pytest.mark.parametrize(("argv", "message", "code"), [*((*one, 1) for one in FAILED), *((*one, 2) for one in REFUSED)])
def test_an_error_is_one_line(
    target: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, argv: list[str], message: str, code: int
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
    assert main(["--server", target, *(word.format(tmp_path) for word in argv)]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert re.sub("(?<=request ).+(?=])", "...", err) == f"latentserve: {message.replace('{}', str(tmp_path))}\n"
    assert set(tmp_path.iterdir()) == before


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


MISSING, PIPE = "the following arguments are required: ", "; - is a pipe"
ENDINGS = ".png or .jpg or .jpeg or .webp or .npy"
NAMES = (
    "is not letters, digits, '_', '.' and '-', beginning with neither '.' nor '-' "
    "(a model is written name, name:3 or name@alias)"
)
WRONG_USAGE: list[tuple[list[str], str]] = [
    ([], f"{MISSING}COMMAND"),
    (["paint"], "argument COMMAND: invalid choice: 'paint' ..."),
    (["sample", "linear"], f"{MISSING}-o/--output"),
    (["sample", "a b", "-o", "a.png"], f"argument MODEL: model name 'a b' {NAMES}"),
    (["sample", "linear", "-o", "a.gif"], f"output 'a.gif' does not end in {ENDINGS} or /{PIPE}"),
    (["sample", "linear", "-o", "a.tiff"], f"output 'a.tiff' does not end in {ENDINGS} or /{PIPE}"),
    (["sample", "linear", "-o", "folder"], f"output 'folder' does not end in {ENDINGS} or /{PIPE}"),
    (["reconstruct", "linear", "a.png", "-o", "folder/"], f"output 'folder/' does not end in {ENDINGS}{PIPE}"),
    (["score", "linear", "a.png", "--map", "maps/"], f"output 'maps/' does not end in {ENDINGS}{PIPE}"),
    (["encode", "linear", "a.png", "-o", "z.png"], f"output 'z.png' does not end in .npy{PIPE}"),
    (
        ["sample", "linear", "-o", "a.npy", "--bands", "0"],
        "--bands is for pictures; a .npy array has all channels",
    ),
    (
        ["sample", "linear", "-o", "a.png", "--bands", "0,1"],
        "argument --bands: '0,1' is not 1, 3 or 4 channels, such as 2 or 3,2,1",
    ),
    (
        ["sample", "linear", "-o", "a.png", "--format", "jpeg"],
        "output 'a.png' is png by its ending, and --format says jpeg",
    ),
    (
        ["sample", "linear", "-o", "folder/", "--format", "npy"],
        "--format npy is one array; a folder/ has a picture an image",
    ),
    (
        ["sample", "linear", "--count", "0", "-o", "a.png"],
        f"argument --count: '0' is not an integer from 1 to {2**48}",
    ),
    (
        ["sample", "linear", "--seed", "-1", "-o", "a.png"],
        f"argument --seed: '-1' is not an integer from 0 to {2**64 - 1}",
    ),
    (
        ["sample", "linear", "--seed", "x", "-o", "a.png"],
        f"argument --seed: 'x' is not an integer from 0 to {2**64 - 1}",
    ),
    (
        ["--server", "http://localhost:50051", "models"],
        "server 'http://localhost:50051': write host:port, with a port of 1 to 65535, or a URI of gRPC such as "
        "dns:///host:port",
    ),
    (["--timeout", "nan", "models"], "argument --timeout: 'nan' is not a positive number of seconds"),
    (["--timeout", "soon", "models"], "argument --timeout: 'soon' is not a positive number of seconds"),
    (
        ["interpolate", "linear", "--from-seed", "1", "--to-seed", "2", "--to-seed", "3", "-o", "a.png"],
        "--from-seed and --to-seed make pairs: give as many of each",
    ),
    (["interpolate", "linear", "--from-seed", "1", "-o", "a.png"], f"{MISSING}--to-seed"),
    (
        ["traverse", "linear", "--axis", "0:-3:3", "-o", "a.png"],
        "argument --axis: '0:-3:3' is not DIMENSION:LOW:HIGH:STEPS, such as 0:-3:3:9",
    ),
    (["traverse", "linear", "--axis", "0:a:3:2", "-o", "a.png"], "argument --axis: 'a' is not a finite number"),
    (
        ["traverse", "linear", "--axis", "0:0:3:1", "-o", "a.png"],
        f"argument --axis: '1' is not an integer from 2 to {2**32 - 1}",
    ),
    (["traverse", "linear", *["--axis", "0:0:3:2"] * 3, "-o", "a.png"], "give one --axis or two"),
    (
        ["sample", "linear", "--temperature", "5", "-o", "a.png"],
        "argument --temperature: '5' is not a number from 0 to 4",
    ),
    (
        ["compare", "linear", "linear", "--threshold", "-1"],
        "argument --threshold: '-1' is not a number of at least 0",
    ),
    (["admin"], f"{MISSING}ACTION"),
    (["admin", "load", "vae"], "admin load takes NAME:VERSION, not 'vae'"),
    (["admin", "set-alias", "vae@stable", "canary"], "admin set-alias takes NAME:VERSION, not 'vae@stable'"),
    (["admin", "delete-alias", "vae:1"], "admin delete-alias takes NAME@ALIAS, not 'vae:1'"),
]


@pytest.mark.parametrize(("argv", "message"), WRONG_USAGE)
def test_wrong_usage_ends_with_2(misuse: Misuse, argv: list[str], message: str) -> None:
    said = misuse(argv).splitlines()[-1].partition(": error: ")[2]
    assert re.sub(r"\(choose from .+", "...", said) == message  # Python's own words
