"""The commands `interpolate` and `traverse`: ways through the latent space, drawn."""

from __future__ import annotations

import argparse
import math
import time

from latentserve_client._calls.fields import MAX_SEED, MAX_UINT32
from latentserve_client.cli.output import PICTURES
from latentserve_client.cli.shared import (
    GRID,
    Commands,
    Outcome,
    add_labels,
    add_model,
    add_output,
    integer,
    number,
    quantity,
    read_labels,
    resolve_output,
    written,
)
from latentserve_client.client import Client
from latentserve_client.errors import RequestError
from latentserve_client.inputs import Axis, Seeds
from latentserve_client.models import ModelRef


def add_to(commands: Commands) -> None:
    """Add the commands to the command line."""
    seed = integer(0, MAX_SEED)
    parser = commands.add_parser("interpolate", help="draw the ways between pairs of latents")
    add_model(parser)
    for name, text in (("--from-seed", "where a way begins"), ("--to-seed", "where it ends")):
        parser.add_argument(name, type=seed, action="append", required=True, metavar="SEED", help=f"{text}; repeatable")
    parser.add_argument("--steps", type=integer(2, MAX_UINT32), default=10, help="images on a way; default 10")
    add_labels(parser, "one for all ways, or one for each")
    parser.add_argument("--spherical", action="store_true", help="turn at constant speed instead of going straight")
    add_output(parser, f"{GRID} of one row a way, or a .npy array", *PICTURES, "npy")
    parser.set_defaults(run=interpolate, check=_check_pairs)

    parser = commands.add_parser("traverse", help="draw what one or two latent dimensions do")
    add_model(parser)
    parser.add_argument(
        "--axis",
        type=_axis,
        action="append",
        required=True,
        metavar="DIMENSION:LOW:HIGH:STEPS",
        help="such as 0:-3:3:9; one, or two for a plane",
    )
    add_labels(parser, "one for all images")
    parser.add_argument("--origin-seed", type=seed, metavar="SEED", help="default the prior's mean, 0")
    add_output(parser, f"{GRID} of one row a value of the first of two axes, or a .npy array", *PICTURES, "npy")
    parser.set_defaults(run=traverse, check=_check_axes)


def interpolate(client: Client, args: argparse.Namespace) -> Outcome:
    """A row of images for each pair of seeds."""
    started = time.perf_counter()
    args.output.check()
    info = client.model(args.model)
    args.output.check_bands(info.image_shape[0])
    walk = client.interpolate(
        ModelRef(info.name, version=info.version),
        Seeds(args.from_seed),
        Seeds(args.to_seed),
        args.steps,
        spherical=args.spherical,
        labels=read_labels(args.labels, info),
        format=args.output.format,
    )
    args.output.write_images(walk.images, columns=args.steps)
    pairs = ", ".join(f"{start} to {end}" for start, end in zip(args.from_seed, args.to_seed, strict=True))
    how = f"{'spherical' if args.spherical else 'linear'}, seeds {pairs}"
    return written(args.output, quantity(len(walk.images), "image"), how, info, started)


def traverse(client: Client, args: argparse.Namespace) -> Outcome:
    """A row of images for one dimension; for two, a row for each value of the first."""
    started = time.perf_counter()
    args.output.check()
    info = client.model(args.model)
    args.output.check_bands(info.image_shape[0])
    origin = None if args.origin_seed is None else Seeds([args.origin_seed])
    walk = client.traverse(
        ModelRef(info.name, version=info.version),
        args.axis,
        origin=origin,
        labels=read_labels(args.labels, info),
        format=args.output.format,
    )
    args.output.write_images(walk.images, columns=args.axis[-1].steps)
    axes = " by ".join(f"dimension {axis.dimension} from {axis.low:g} to {axis.high:g}" for axis in args.axis)
    return written(args.output, quantity(len(walk.images), "image"), axes, info, started)


def _check_pairs(args: argparse.Namespace) -> None:
    resolve_output(args)
    if len(args.from_seed) != len(args.to_seed):
        raise RequestError("--from-seed and --to-seed make pairs: give as many of each")


def _check_axes(args: argparse.Namespace) -> None:
    resolve_output(args)
    if len(args.axis) > 2:
        raise RequestError("give one --axis or two")


def _axis(value: str) -> Axis:
    """A latent dimension and its values."""
    words = value.split(":")
    if len(words) != 4:
        raise argparse.ArgumentTypeError(f"{value!r} is not DIMENSION:LOW:HIGH:STEPS, such as 0:-3:3:9")
    finite = number(-math.inf, math.inf)
    dimension, steps = integer(0, MAX_UINT32)(words[0]), integer(2, MAX_UINT32)(words[3])
    return Axis(dimension, finite(words[1]), finite(words[2]), steps)
