"""The commands `encode`, `decode` and `reconstruct`, from files to files."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from latentserve_client._calls.fields import MAX_SEED
from latentserve_client.bulk import BulkClient
from latentserve_client.cli.files import find_images, read_image, read_latents
from latentserve_client.cli.output import PICTURES, draw_pairs
from latentserve_client.cli.shared import (
    GRID,
    IMAGE_OUTPUT,
    Commands,
    Outcome,
    Progress,
    add_first_index,
    add_images,
    add_labels,
    add_model,
    add_output,
    dimensions,
    integer,
    quantity,
    read_labels,
    written,
)
from latentserve_client.client import Client


def add_to(commands: Commands) -> None:
    """Add the commands to the command line."""
    parser = commands.add_parser("encode", help="map images to latents")
    add_model(parser)
    add_images(parser)
    add_labels(parser, "one for all images, or one for each")
    parser.add_argument(
        "--draw-seed", type=integer(0, MAX_SEED), help="draw latents; default their means, or what the encoder gives"
    )
    add_first_index(parser)
    add_output(parser, "a .npy array float32 [n, *latent_shape], or int64 of codes", "npy")
    parser.set_defaults(run=encode)

    parser = commands.add_parser("decode", help="map latents to images")
    add_model(parser)
    forms = "a .npy array float32 [n, *latent_shape] or [n, latent_dim], or of codes"
    parser.add_argument("latents", type=Path, metavar="Z.npy", help=forms)
    add_labels(parser, "one for all latents, or one for each")
    add_output(parser, IMAGE_OUTPUT, *PICTURES, "npy", folders=True)
    parser.set_defaults(run=decode)

    parser = commands.add_parser("reconstruct", help="encode images and decode them again")
    add_model(parser)
    add_images(parser)
    add_labels(parser, "one for all images, or one for each")
    add_output(parser, f"{GRID} of originals above reconstructions, or a .npy array", *PICTURES, "npy")
    parser.set_defaults(run=reconstruct)


def encode(client: Client, args: argparse.Namespace) -> Outcome:
    """Posterior means, draws from the posteriors, latents or codes of image files."""
    started = time.perf_counter()
    args.output.check()
    info = client.model(args.model)
    labels = read_labels(args.labels, info)
    files = [read_image(path, info.manifest.image, resize=args.resize).data for path in find_images(args.images)]
    with Progress(len(files)) as progress:
        latents = BulkClient(client, info, progress.update, labels).encode(
            files, draw_seed=args.draw_seed, first_index=args.first_index, resize=args.resize
        )
    args.output.write_array(latents)
    means = "posterior means" if info.kind == "vae" else "as encoded"
    how = means if args.draw_seed is None else f"drawn with seed {args.draw_seed}"
    what = f"{quantity(len(latents), 'latent')} of {dimensions(info)}"
    return written(args.output, what, how, info, started)


def decode(client: Client, args: argparse.Namespace) -> Outcome:
    """The images of a file of latents."""
    started = time.perf_counter()
    args.output.check()
    info = client.model(args.model)
    args.output.check_bands(info.image_shape[0])
    labels = read_labels(args.labels, info)
    latents = read_latents(args.latents, info.latent_shape, codes=bool(info.codes))
    with Progress(len(latents)) as progress:
        images = BulkClient(client, info, progress.update, labels).decode(latents, format=args.output.format)
    args.output.write_images(images)
    return written(args.output, quantity(len(images), "image"), f"latents of {args.latents}", info, started)


def reconstruct(client: Client, args: argparse.Namespace) -> Outcome:
    """The reconstructions of image files, below their originals."""
    started = time.perf_counter()
    args.output.check()
    info = client.model(args.model)
    args.output.check_bands(info.image_shape[0])
    labels = read_labels(args.labels, info)
    files = [read_image(path, info.manifest.image, resize=args.resize) for path in find_images(args.images)]
    with Progress(len(files)) as progress:
        images, errors, divergences = BulkClient(client, info, progress.update, labels).reconstruct(
            [file.data for file in files], format=args.output.format, resize=args.resize
        )
    if args.output.form == "npy":
        args.output.write_array(images)
    else:
        originals = np.stack([file.pixels for file in files])
        args.output.write_picture(draw_pairs(args.output.shown(originals), args.output.shown(images)))
    costs = [("mean error", errors), ("mean KL", divergences)]
    told = [f"{what} {nats.mean():.1f} nats" for what, nats in costs if nats is not None]
    cost = ", ".join(told) or "no likelihood"
    return written(args.output, quantity(len(files), "reconstruction"), cost, info, started)
