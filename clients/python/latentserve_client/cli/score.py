"""The command `score`: how well a model explains images, as a table."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latentserve_client._calls.fields import MAX_SEED, MAX_UINT32
from latentserve_client.bulk import BulkClient
from latentserve_client.cli.files import find_images, read_image
from latentserve_client.cli.output import ALPHA, OPAQUE, PICTURES, Output, draw_pairs
from latentserve_client.cli.shared import (
    Commands,
    Outcome,
    Progress,
    add_images,
    add_labels,
    add_model,
    align,
    check_standard_output,
    integer,
    read_labels,
)
from latentserve_client.client import Client
from latentserve_client.results import Scores


def add_to(commands: Commands) -> None:
    """Add the command to the command line."""
    parser = commands.add_parser("score", help="say how well the model explains images, in nats")
    add_model(parser)
    add_images(parser)
    add_labels(parser, "one for all images, or one for each")
    parser.add_argument("--draws", type=integer(0, MAX_UINT32), default=0, help="latents an image; default its mean")
    parser.add_argument("--seed", type=integer(0, MAX_SEED), default=0, help="of the draws; default 0")
    parser.add_argument("--csv", action="store_true", help="as comma-separated values, in full precision")
    text = "also write where each image costs most: a picture of images above grey maps, or a .npy array in nats"
    parser.add_argument("--map", metavar="FILE", help=f"{text}; - for standard output")
    parser.set_defaults(run=score, check=resolve_map)


def score(client: Client, args: argparse.Namespace) -> Outcome:
    """One line an image, in nats: aligned, with the means below, or as CSV in full precision and without."""
    output: Output | None = args.map
    if output is not None:
        output.check()
    info = client.model(args.model)
    paths = find_images(args.images)
    files = [read_image(path, info.manifest.image, resize=args.resize) for path in paths]
    with Progress(len(files)) as progress:
        scores = BulkClient(client, info, progress.update, read_labels(args.labels, info)).score(
            [file.data for file in files],
            draws=args.draws,
            seed=args.seed,
            resize=args.resize,
            map_format=None if output is None else output.format,
        )
    if output is not None and scores.map is not None:
        _write_map(output, np.stack([file.pixels for file in files]), scores.map.images)
    names = [str(path) for path in paths]
    table = _as_csv(names, scores) if args.csv else _as_table(names, scores)
    return Outcome(table, aside=output is not None and output.path is None)


def resolve_map(args: argparse.Namespace) -> None:
    """Make an Output of the name in `map`, if there is one.

    Raises:
        RequestError: it cannot be written there.
    """
    if args.map is not None:
        args.map = Output.parse(args.map, None, (*PICTURES, "npy"), folders=False)
        check_standard_output(args.map, "--map")


def _write_map(output: Output, originals: NDArray[np.uint8], maps: NDArray[Any]) -> None:
    if output.form == "npy":
        output.write_array(maps)
    else:
        shown = np.repeat(maps, originals.shape[1], axis=1)
        shown[:, ALPHA:] = OPAQUE
        output.write_picture(draw_pairs(originals, shown))


def _as_table(names: Sequence[str], scores: Scores) -> str:
    columns = _columns(scores)
    cells = [[f"{value:.2f}" for value in (*column, column.mean())] for column in columns.values()]
    rows = zip((*names, "mean"), *cells, strict=True)
    return align([("image (nats)", *columns), *rows], numbers=True)


def _as_csv(names: Sequence[str], scores: Scores) -> str:
    columns = _columns(scores)
    table = csv.writer(text := io.StringIO(), lineterminator="\n")
    table.writerow(["image", *columns])
    table.writerows(zip(names, *columns.values(), strict=True))
    return text.getvalue().rstrip("\n")


def _columns(scores: Scores) -> dict[str, NDArray[np.float32]]:
    columns = {
        "reconstruction_error": scores.reconstruction_error,
        "kl": scores.kl,
        "elbo": scores.elbo,
        "importance_bound": scores.importance_bound,
        "anomaly_percentile": scores.anomaly_percentile,
    }
    return {name: column for name, column in columns.items() if column is not None}
