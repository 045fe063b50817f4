"""The words of the `latentserve` command line, and what each may be."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias

from latentserve_client.errors import RequestError
from latentserve_client.model_ref import ModelRef

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"

_MAX_SEED = 2**64 - 1
_MAX_INDEX = 2**48


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line `argv`, the process's own where None, with the command's name in `command`.

    Raises:
        SystemExit: with code 2 for wrong usage, said on stderr, and 0 where help or the version was asked for.
    """
    parser = argparse.ArgumentParser(prog="latentserve", description="Call a latentserve server.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('latentserve-client')}")
    parser.add_argument("--server", default="127.0.0.1:50051", metavar="HOST:PORT", help="default %(default)s")
    parser.add_argument("--timeout", type=_seconds, default=30.0, help="seconds that one call may take; default 30")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("models", help="list every version of every model")
    for add in (_add_model, _add_sample, _add_encode, _add_decode, _add_reconstruct):
        add(commands)
    return parser.parse_args(argv)


def _add_model(commands: _Commands) -> None:
    parser = commands.add_parser("model", help="describe one model")
    _take_model(parser)


def _add_sample(commands: _Commands) -> None:
    parser = commands.add_parser("sample", help="draw images from the prior")
    _take_model(parser)
    parser.add_argument("--count", type=_integer(1, _MAX_INDEX), default=64, help="number of images; default 64")
    parser.add_argument("--seed", type=_integer(0, _MAX_SEED), help="same seed, same images; default random")
    _take_first_index(parser)
    _take_output(parser, "a .png grid, or a .npy array float32 [n, channels, height, width]", ".png", ".npy")


def _add_encode(commands: _Commands) -> None:
    parser = commands.add_parser("encode", help="map images to latents")
    _take_model(parser)
    _take_images(parser)
    parser.add_argument("--draw-seed", type=_integer(0, _MAX_SEED), help="draw latents; default the posterior means")
    _take_first_index(parser)
    _take_output(parser, "a .npy array float32 [n, latent_dim]", ".npy")


def _add_decode(commands: _Commands) -> None:
    parser = commands.add_parser("decode", help="map latents to images")
    _take_model(parser)
    parser.add_argument("latents", type=Path, metavar="Z.npy", help="a .npy array float32 [n, latent_dim]")
    _take_output(parser, "a .png grid, or a .npy array float32 [n, channels, height, width]", ".png", ".npy")


def _add_reconstruct(commands: _Commands) -> None:
    parser = commands.add_parser("reconstruct", help="encode images and decode them again")
    _take_model(parser)
    _take_images(parser)
    _take_output(parser, "a .png grid of originals above reconstructions, or a .npy array", ".png", ".npy")


def _take_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=_model_ref, metavar="MODEL", help="name, name:3 (version) or name@stable (alias)")


def _take_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("images", type=Path, nargs="+", metavar="IMAGE", help="PNG or JPEG files of the model's size")


def _take_first_index(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--first-index",
        type=_integer(0, _MAX_INDEX),
        default=0,
        help="the first row's place in the sequence; default 0",
    )


def _take_output(parser: argparse.ArgumentParser, text: str, *suffixes: str) -> None:
    def output(value: str) -> Path:
        if Path(value).suffix.lower() not in suffixes:
            raise argparse.ArgumentTypeError(f"{value!r} does not end in {' or '.join(suffixes)}")
        return Path(value)

    parser.add_argument("-o", "--output", type=output, required=True, metavar="FILE", help=text)


def _model_ref(value: str) -> ModelRef:
    try:
        return ModelRef.parse(value)
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _integer(low: int, high: int) -> Callable[[str], int]:
    def integer(value: str) -> int:
        if not value.isdecimal() or not low <= int(value) <= high:
            raise argparse.ArgumentTypeError(f"{value!r} is not an integer from {low} to {high}")
        return int(value)

    return integer


def _seconds(value: str) -> float:
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{value!r} is not a positive number of seconds")
    return seconds
