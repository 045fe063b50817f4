"""The words of the `latentserve` command line, and what each may be."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TypeAlias, get_args

from latentserve_client._calls.channel import check_address
from latentserve_client._calls.fields import MAX_INDEX, MAX_SEED, MAX_UINT32
from latentserve_client.cli.output import PICTURES, Form, Output
from latentserve_client.errors import RequestError
from latentserve_client.inputs import Axis, Prior
from latentserve_client.models import ModelRef

SERVER = "127.0.0.1:50051"
ADMIN_SERVER = "127.0.0.1:50052"

SERVER_VARIABLE = "LATENTSERVE_SERVER"
ADMIN_SERVER_VARIABLE = "LATENTSERVE_ADMIN_SERVER"

_GRID = "a grid in .png, .jpg or .webp"

_Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def parse_arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line `argv`, the process's own where None, with the command's name in `command`.

    Raises:
        SystemExit: with code 2 for wrong usage, said on stderr, and 0 where help or the version was asked for.
    """
    parser = argparse.ArgumentParser(prog="latentserve", description="Call a latentserve server.")
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('latentserve-client')}")
    parser.add_argument(
        "--server",
        metavar="HOST:PORT",
        help=f"default ${SERVER_VARIABLE}, else {SERVER}; for admin ${ADMIN_SERVER_VARIABLE}, else {ADMIN_SERVER}",
    )
    parser.add_argument("--timeout", type=seconds, default=30.0, help="seconds that one call may take; default 30")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("models", help="list every version of every model")
    for add in (_add_model, _add_sample, _add_encode, _add_decode, _add_reconstruct):
        add(commands)
    for add in (_add_interpolate, _add_traverse, _add_score, _add_compare, _add_admin):
        add(commands)
    args = parser.parse_args(argv)
    try:
        args.server = check_address(args.server or _default_server(args.command))
        if "output" in args:
            args.output = _output(args)
    except RequestError as error:
        parser.error(str(error))
    if args.command == "interpolate" and len(args.from_seed) != len(args.to_seed):
        parser.error("--from-seed and --to-seed make pairs: give as many of each")
    if args.command == "traverse" and len(args.axis) > 2:
        parser.error("give one --axis or two")
    if args.command == "admin" and (problem := _misnamed(args)):
        parser.error(problem)
    return args


def _default_server(command: str) -> str:
    """The server of a command line that names none."""
    variable, address = (ADMIN_SERVER_VARIABLE, ADMIN_SERVER) if command == "admin" else (SERVER_VARIABLE, SERVER)
    return os.environ.get(variable) or address


def _add_model(commands: _Commands) -> None:
    parser = commands.add_parser("model", help="describe one model")
    _take_model(parser)


def _add_sample(commands: _Commands) -> None:
    parser = commands.add_parser("sample", help="draw images from the prior")
    _take_model(parser)
    parser.add_argument("--count", type=integer(1, MAX_INDEX), default=64, help="number of images; default 64")
    parser.add_argument("--seed", type=integer(0, MAX_SEED), help="same seed, same images; default random")
    _take_first_index(parser)
    parser.add_argument("--temperature", type=number(0, 4), metavar="T", help="times the noise, 0 to 4; default 1")
    parser.add_argument(
        "--truncation", type=number(0.5, 8), metavar="T", help="cut the noise off at +-T, 0.5 to 8; default nowhere"
    )
    parser.add_argument("--prior", choices=get_args(Prior), help="what to draw from; default the model's own")
    _take_labels(parser, "given to the images in turn; default all labels of the model")
    _take_output(
        parser,
        f"{_GRID}, a .npy array float32 [n, channels, height, width], or a folder/ for a file an image",
        *PICTURES,
        "npy",
        folders=True,
    )


def _add_encode(commands: _Commands) -> None:
    parser = commands.add_parser("encode", help="map images to latents")
    _take_model(parser)
    _take_images(parser)
    _take_labels(parser, "one for all images, or one for each")
    parser.add_argument("--draw-seed", type=integer(0, MAX_SEED), help="draw latents; default the posterior means")
    _take_first_index(parser)
    _take_output(parser, "a .npy array float32 [n, latent_dim]", "npy")


def _add_decode(commands: _Commands) -> None:
    parser = commands.add_parser("decode", help="map latents to images")
    _take_model(parser)
    parser.add_argument("latents", type=Path, metavar="Z.npy", help="a .npy array float32 [n, latent_dim]")
    _take_labels(parser, "one for all latents, or one for each")
    _take_output(
        parser,
        f"{_GRID}, a .npy array float32 [n, channels, height, width], or a folder/ for a file an image",
        *PICTURES,
        "npy",
        folders=True,
    )


def _add_reconstruct(commands: _Commands) -> None:
    parser = commands.add_parser("reconstruct", help="encode images and decode them again")
    _take_model(parser)
    _take_images(parser)
    _take_labels(parser, "one for all images, or one for each")
    _take_output(parser, f"{_GRID} of originals above reconstructions, or a .npy array", *PICTURES, "npy")


def _add_interpolate(commands: _Commands) -> None:
    parser = commands.add_parser("interpolate", help="draw the ways between pairs of latents")
    _take_model(parser)
    for name, text in (("--from-seed", "where a way begins"), ("--to-seed", "where it ends")):
        parser.add_argument(
            name, type=integer(0, MAX_SEED), action="append", required=True, metavar="SEED", help=f"{text}; repeatable"
        )
    parser.add_argument("--steps", type=integer(2, MAX_UINT32), default=10, help="images on a way; default 10")
    _take_labels(parser, "one for all ways, or one for each")
    parser.add_argument("--spherical", action="store_true", help="turn at constant speed instead of going straight")
    _take_output(parser, f"{_GRID} of one row a way, or a .npy array", *PICTURES, "npy")


def _add_traverse(commands: _Commands) -> None:
    parser = commands.add_parser("traverse", help="draw what one or two latent dimensions do")
    _take_model(parser)
    parser.add_argument(
        "--axis",
        type=axis,
        action="append",
        required=True,
        metavar="DIMENSION:LOW:HIGH:STEPS",
        help="such as 0:-3:3:9; one, or two for a plane",
    )
    _take_labels(parser, "one for all images")
    parser.add_argument("--origin-seed", type=integer(0, MAX_SEED), metavar="SEED", help="default the prior's mean, 0")
    _take_output(parser, f"{_GRID} of one row a value of the first of two axes, or a .npy array", *PICTURES, "npy")


def _add_score(commands: _Commands) -> None:
    parser = commands.add_parser("score", help="say how well the model explains images, in nats")
    _take_model(parser)
    _take_images(parser)
    _take_labels(parser, "one for all images, or one for each")
    parser.add_argument("--draws", type=integer(0, MAX_UINT32), default=0, help="latents an image; default its mean")
    parser.add_argument("--seed", type=integer(0, MAX_SEED), default=0, help="of the draws; default 0")
    parser.add_argument("--csv", action="store_true", help="as comma-separated values, in full precision")


def _add_compare(commands: _Commands) -> None:
    parser = commands.add_parser("compare", help="run the same noise through two versions")
    _take_model(parser)
    parser.add_argument("other", type=model_ref, metavar="OTHER", help="the version to compare with it")
    parser.add_argument("--count", type=integer(1, MAX_INDEX), default=1000, help="number of images; default 1000")
    parser.add_argument("--seed", type=integer(0, MAX_SEED), default=0, help="of the images; default 0")
    parser.add_argument(
        "--threshold",
        type=number(0, math.inf),
        metavar="X",
        help="exit with 3 where the mean absolute difference of pixel values is larger",
    )


def _add_admin(commands: _Commands) -> None:
    parser = commands.add_parser("admin", help="change what is served, on the server's admin listener")
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    for action, form, text in (
        ("load", "NAME:VERSION", "make a version ready, and keep it"),
        ("unload", "NAME:VERSION", "take a version out of service"),
        ("set-alias", "NAME:VERSION", "make an alias for a version, or move it there"),
        ("delete-alias", "NAME@ALIAS", "delete an alias"),
    ):
        command = actions.add_parser(action, help=text)
        command.add_argument("model", type=model_ref, metavar=form, help="such as digits:3 or digits@stable")
        if action == "set-alias":
            command.add_argument("alias", metavar="ALIAS", help="the movable name, such as stable")
    actions.add_parser("rescan", help="read the repository again and follow it")


def _misnamed(args: argparse.Namespace) -> str | None:
    """Why the model is not of the form that the admin action takes."""
    if args.action == "rescan":
        return None
    if args.action == "delete-alias":
        return None if args.model.alias else f"admin delete-alias takes NAME@ALIAS, not {str(args.model)!r}"
    return None if args.model.version else f"admin {args.action} takes NAME:VERSION, not {str(args.model)!r}"


def _take_model(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=model_ref, metavar="MODEL", help="name, name:3 (version) or name@stable (alias)")


def _take_images(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "images", type=Path, nargs="+", metavar="IMAGE", help="PNG, JPEG, WebP, GIF or BMP files, or folders of them"
    )
    parser.add_argument("--resize", action="store_true", help="bring images of other sizes to the model's")


def _take_labels(parser: argparse.ArgumentParser, text: str) -> None:
    names = ("--labels", "--label")
    parser.add_argument(*names, metavar="L,L,...", help=f"of a conditional model, by number or name: {text}")


def _take_first_index(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--first-index",
        type=integer(0, MAX_INDEX),
        default=0,
        help="the first row's place in the sequence; default 0",
    )


def _take_output(parser: argparse.ArgumentParser, text: str, *forms: Form, folders: bool = False) -> None:
    parser.add_argument("-o", "--output", required=True, metavar="FILE", help=f"{text}; - for standard output")
    if len(forms) > 1:
        where = "of standard output and of the files in a folder/" if folders else "of standard output"
        parser.add_argument("--format", choices=forms, help=f"{where}; default {forms[0]}")
    parser.set_defaults(format=None, forms=forms, folders=folders)


def _output(args: argparse.Namespace) -> Output:
    """Where the command is to put what it makes."""
    output = Output.parse(args.output, args.format, args.forms, folders=args.folders)
    if output.is_folder and output.form == "npy":
        raise RequestError("--format npy is one array; a folder/ has a picture an image")
    if output.path is None and (sys.stdout is None or sys.stdout.isatty()):
        raise RequestError("-o - is for a file or a pipe on standard output, not for a terminal")
    return output


def model_ref(value: str) -> ModelRef:
    """A model, as ModelRef.parse reads it."""
    try:
        return ModelRef.parse(value)
    except RequestError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def integer(low: int, high: int) -> Callable[[str], int]:
    """Reads an integer from low to high."""

    def read(value: str) -> int:
        if not value.isdecimal() or not low <= int(value) <= high:
            raise argparse.ArgumentTypeError(f"{value!r} is not an integer from {low} to {high}")
        return int(value)

    return read


def number(low: float, high: float) -> Callable[[str], float]:
    """Reads a finite number from low to high."""
    allowed = f"number from {low:g} to {high:g}" if math.isfinite(high) else f"number of at least {low:g}"

    def read(value: str) -> float:
        result = _float(value)
        if not (low <= result <= high and math.isfinite(result)):
            raise argparse.ArgumentTypeError(f"{value!r} is not a {allowed if math.isfinite(low) else 'finite number'}")
        return result

    return read


def axis(value: str) -> Axis:
    """A latent dimension and its values."""
    words = value.split(":")
    if len(words) != 4:
        raise argparse.ArgumentTypeError(f"{value!r} is not DIMENSION:LOW:HIGH:STEPS, such as 0:-3:3:9")
    finite = number(-math.inf, math.inf)
    dimension, steps = integer(0, MAX_UINT32)(words[0]), integer(2, MAX_UINT32)(words[3])
    return Axis(dimension, finite(words[1]), finite(words[2]), steps)


def seconds(value: str) -> float:
    """A positive number of seconds."""
    seconds = _float(value)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{value!r} is not a positive number of seconds")
    return seconds


def _float(value: str) -> float:
    try:
        return float(value)
    except ValueError:
        return math.nan
