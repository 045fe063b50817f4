"""The command `sample`: images drawn from the prior, to files."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Iterator
from typing import Any, get_args

from latentserve.contract import MAX_INDEX, TEMPERATURES, TRUNCATIONS
from latentserve.seed import draw_seed
from latentserve_client._calls.fields import MAX_SEED
from latentserve_client.bulk import max_image_rows
from latentserve_client.cli.output import PICTURES, Output
from latentserve_client.cli.shared import (
    IMAGE_OUTPUT,
    Commands,
    Outcome,
    Progress,
    add_first_index,
    add_labels,
    add_model,
    add_output,
    integer,
    number,
    quantity,
    read_labels,
    written,
)
from latentserve_client.cli.sinks import ArraySink, FolderSink, GridSink, PipedArraySink, Sink
from latentserve_client.client import Client
from latentserve_client.inputs import Prior
from latentserve_client.models import ModelInfo, ModelRef
from latentserve_client.results import Samples


def add_to(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("sample", help="draw images from the prior")
    add_model(parser)
    parser.add_argument("--count", type=integer(1, MAX_INDEX), default=64, help="number of images; default 64")
    parser.add_argument("--seed", type=integer(0, MAX_SEED), help="same seed, same images; default random")
    add_first_index(parser)
    parser.add_argument(
        "--temperature",
        type=number(*TEMPERATURES),
        metavar="T",
        help="times the noise, 0 to 4; default 1",
    )
    parser.add_argument(
        "--truncation",
        type=number(*TRUNCATIONS),
        metavar="T",
        help="cut the noise off at +-T, 0.5 to 8; default nowhere",
    )
    parser.add_argument(
        "--psi",
        type=number(-math.inf, math.inf),
        metavar="P",
        help="the decoder's psi, where it takes one; default the model's own",
    )
    parser.add_argument("--prior", choices=get_args(Prior), help="what to draw from; default the model's own")
    add_labels(parser, "given to the images in turn; default all labels of the model")
    add_output(parser, IMAGE_OUTPUT, *PICTURES, "npy", folders=True)
    parser.set_defaults(run=sample)


def sample(client: Client, args: argparse.Namespace) -> Outcome:
    """A grid, an array or a folder of images. What has arrived when a long job is broken off is kept, and said."""
    started = time.perf_counter()
    args.output.check()
    info = client.model(args.model)
    args.output.check_bands(info.image_shape[0])
    args.labels = read_labels(args.labels, info)
    seed = draw_seed() if args.seed is None else args.seed
    with Progress(args.count) as progress, _open_sink(args, info, seed) as sink:
        try:
            for chunk in _draw(client, info, args, seed, sink):
                sink.write(chunk)
                progress.update(sink.rows - progress.n)
        except BaseException as error:
            _keep(sink, args, info, seed, error)
            raise
    start = f" from index {args.first_index}" if args.first_index else ""
    prior = f", {args.prior.replace('_', ' ')} prior" if args.prior else ""
    return written(args.output, quantity(args.count, "image"), f"seed {seed}{start}{prior}", info, started)


def _open_sink(args: argparse.Namespace, info: ModelInfo, seed: int) -> Sink:
    output: Output = args.output
    if output.form == "npy":
        if output.path is None:
            return PipedArraySink(args.count, info.image_shape)
        return ArraySink(output.path, info.image_shape, seed, args.first_index)
    if output.path is not None and output.is_folder:
        return FolderSink(output.path, output, output.form)
    return GridSink(output)


def _draw(client: Client, info: ModelInfo, args: argparse.Namespace, seed: int, sink: Sink) -> Iterator[Samples]:
    model = ModelRef(info.name, version=info.version)
    how: dict[str, Any] = {
        "seed": seed,
        "first_index": args.first_index,
        "temperature": args.temperature,
        "truncation": args.truncation,
        "psi": args.psi,
        "prior": args.prior,
        "labels": args.labels,
        "format": sink.format,
        "bands": sink.bands,
    }
    if args.count <= max_image_rows(info, "float32"):
        yield client.sample(model, args.count, **how)
        return
    with client.stream_samples(model, args.count, **how) as stream:
        yield from stream


def _keep(sink: Sink, args: argparse.Namespace, info: ModelInfo, seed: int, error: BaseException) -> None:
    """Keep what is of use, and have the error say where it is and how to go on."""
    if sink.rows < args.count and (kept := sink.keep()) is not None:
        error.add_note(
            f"{sink.rows} of {args.count} images are in {kept}; go on with model {info.name}:{info.version} and "
            f"{_rest(args, seed, sink.rows)}"
        )


def _rest(args: argparse.Namespace, seed: int, rows: int) -> str:
    """The options that draw the images missing after `rows` of them."""
    options = {
        "seed": seed,
        "first-index": args.first_index + rows,
        "count": args.count - rows,
        "prior": args.prior,
        "temperature": args.temperature,
        "truncation": args.truncation,
        "psi": args.psi,
        "labels": ",".join(map(str, args.labels)) if args.labels else None,
        "bands": ",".join(map(str, args.bands)) if args.bands else None,
    }
    return " ".join(f"--{name} {value}" for name, value in options.items() if value is not None)
