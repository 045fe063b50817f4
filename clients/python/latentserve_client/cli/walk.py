"""Ways through the latent space, drawn: one path a row, or the plane of two dimensions."""

from __future__ import annotations

import argparse
import time

from latentserve_client.cli.labels import read_labels
from latentserve_client.cli.outcome import Outcome, quantity, written
from latentserve_client.client import Client
from latentserve_client.inputs import Seeds
from latentserve_client.models import ModelRef


def interpolate(client: Client, args: argparse.Namespace) -> Outcome:
    """A row of images for each pair of seeds."""
    started = time.perf_counter()
    args.output.check()
    info = client.model(args.model)
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
