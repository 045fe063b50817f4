"""How well a model explains images, as a table."""

from __future__ import annotations

import argparse
import csv
import io
import sys
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from latentserve_client.bulk import BulkClient
from latentserve_client.cli.files import find_images, read_image
from latentserve_client.cli.labels import read_labels
from latentserve_client.cli.models import align
from latentserve_client.cli.outcome import Outcome
from latentserve_client.cli.progress import Progress
from latentserve_client.client import Client
from latentserve_client.results import Scores


def score(client: Client, args: argparse.Namespace) -> Outcome:
    """One line an image, in nats: aligned, with the means below, or as CSV in full precision and without."""
    info = client.model(args.model)
    paths = find_images(args.images)
    files = [read_image(path, info.manifest.image, resize=args.resize).data for path in paths]
    with Progress(sys.stderr, len(files)) as progress:
        scores = BulkClient(client, info, progress.advance, read_labels(args.labels, info)).score(
            files, draws=args.draws, seed=args.seed, resize=args.resize
        )
    names = [str(path) for path in paths]
    return Outcome(_as_csv(names, scores) if args.csv else _as_table(names, scores))


def _as_table(names: Sequence[str], scores: Scores) -> str:
    columns = _columns(scores)
    cells = [[f"{value:.2f}" for value in (*column, column.mean())] for column in columns.values()]
    widths = [max(len(name), *map(len, column)) for name, column in zip(columns, cells, strict=True)]
    numbers = [
        [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        for row in zip(*([name, *column] for name, column in zip(columns, cells, strict=True)), strict=True)
    ]
    return align([[name, *row] for name, row in zip(("image (nats)", *names, "mean"), numbers, strict=True)])


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
