"""The command latentserve-import: a foreign model, checked and published as a bundle."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from latentserve.v1 import bundle_pb2
from latentserve_training.errors import ExportError
from latentserve_training.evaluation.mixture import Mixture
from latentserve_training.export.destination import Destination
from latentserve_training.export.digest import Digest
from latentserve_training.export.parity import PARITY_BATCHES, RowBits
from latentserve_training.export.publish import (
    CHECK_ROWS,
    Content,
    Written,
    describe_model,
    publish,
    tried,
)
from latentserve_training.foreign.check_rows import rows_to_check
from latentserve_training.foreign.decoder import ForeignDecoderPlan, plan_decoder
from latentserve_training.foreign.description import ForeignModel
from latentserve_training.foreign.encoder import plan_encoder
from latentserve_training.foreign.latents import Latents
from latentserve_training.foreign.mixture_file import read_mixture
from latentserve_training.foreign.plan import ForeignPlan, write_graph
from latentserve_training.foreign.prior import doubt, lack
from latentserve_training.foreign.prior_description import ForeignPrior
from latentserve_training.foreign.prior_graph import ForeignPriorPlan, plan_prior
from latentserve_training.foreign.reference import Reference
from latentserve_training.foreign.request import ImportRequest
from latentserve_training.image_grid import grid, shown
from latentserve_training.run.provenance import created_at, software

_SEED = 0
_KINDS = {
    "vae": bundle_pb2.MODEL_KIND_VAE,
    "gan": bundle_pb2.MODEL_KIND_GAN,
    "autoencoder": bundle_pb2.MODEL_KIND_AUTOENCODER,
    "vq": bundle_pb2.MODEL_KIND_VQ,
}

Plan = TypeVar("Plan", bound=ForeignPlan)


def import_model(request: ImportRequest, warn: Callable[[str], None], note: Callable[[str], None]) -> Path:
    """Adapt, check and publish the described graphs; returns the bundle's folder.

    `warn` hears what is not promised, `note` what was understood and measured.

    Raises:
        ExportError: a graph does not fit it, a check failed, or the version is taken. Nothing is left behind.
    """
    destination = Destination.choose(request.repository, request.name, request.version)
    mixture = _mixture(request.description, request.folder)
    plans = _plans(request.description, mixture, request.folder, CHECK_ROWS, _SEED)
    *_, decoder = plans
    for plan in plans:
        if plan.graph.change:
            warn(f"{plan.role}: {plan.graph.change}")
    drawn = decoder.drawn["image_uint8"].astype(np.uint8)
    doubted, noted = doubt(request.description), _noted(plans, decoder, request)
    differences: list[str] = []
    content = Content(
        manifest=_manifest(plans, mixture, request),
        plans=plans,
        samples=grid(shown(drawn), columns=8) if request.description.has_prior else None,
        mixture=mixture,
        remarks=[*filter(None, [doubted]), *noted, *(plan.cast for plan in plans if plan.cast)],
    )
    folder = publish(content, destination, lambda plan, path: _write(plan, path, differences.append, warn))
    for line in filter(None, [doubted]):
        warn(line)
    for line in [*noted, *differences]:
        note(line)
    return folder


def _noted(plans: Sequence[ForeignPlan], decoder: ForeignDecoderPlan, request: ImportRequest) -> list[str]:
    """What was understood of the files, and measured before anything is written.

    Raises:
        ExportError: they do not draw what the reference says.
    """
    noted = [lack(request.description), *(plan.guess for plan in plans), *map(_told_of_few, plans)]
    noted.append(decoder.clipped(decoder.example))
    if request.reference is not None:
        noted += Reference.read(request.reference, request.reference_tolerance).differences(plans)
    return [line for line in noted if line]


def _told_of_few(plan: ForeignPlan) -> str:
    """That a plan is checked with few rows, for a person; empty where it is not."""
    few = f"checked with {plan.row_count} rows in the place of {CHECK_ROWS}"
    return f"{plan.role}: a row of the model takes long, so it is {few}" * (plan.row_count < CHECK_ROWS)


def _mixture(description: ForeignModel, folder: Path) -> Mixture | None:
    """The described mixture, if any.

    Raises:
        ExportError: its file does not hold one.
    """
    if not isinstance(description.prior, ForeignPrior) or description.prior.mixture is None:
        return None
    return read_mixture(folder / description.prior.mixture, Latents.of(description))


def _plans(
    description: ForeignModel, mixture: Mixture | None, folder: Path, rows: int, seed: int
) -> tuple[*tuple[ForeignPlan, ...], ForeignDecoderPlan]:
    """The plans of the described graphs, whose files lie in `folder`.

    They are checked with `rows` latents drawn with `seed` from the prior, fewer where a row takes long, a conditional
    model's with its labels in turn, and the encoder with the images that these give. Without a prior latents are of
    N(0, I), and codes any.

    Raises:
        ExportError: a graph does not fit the description.
    """
    latents, random = Latents.of(description), np.random.default_rng(seed)
    priors: tuple[ForeignPriorPlan, ...] = ()
    if description.prior_graph is not None:
        priors = (_affordable(plan_prior(description, description.prior_graph, folder, rows, seed)),)
        drawn = priors[0].expected[latents.name]
    else:
        drawn = latents.draw(random, rows) if mixture is None else mixture.sample(rows, seed)
    decoder = _affordable(plan_decoder(description, folder, drawn, random))
    if description.encoder is None:
        return (*priors, decoder)
    images = {"image": decoder.expected["image"]}
    labels = {name: rows for name, rows in decoder.example.items() if name == "label"}
    encoder = plan_encoder(description, description.encoder, folder, decoder.pixels, images | labels)
    others: tuple[ForeignPlan, ...] = (_affordable(encoder), *priors)
    return (*others, decoder)


def _affordable(plan: Plan) -> Plan:
    """The plan with as many rows of its example as can be checked in about half a minute."""

    def run(rows: int) -> float:
        began = time.perf_counter()
        with suppress(ExportError):  # which is raised again where it is waited for, with what all rows show
            plan.compute(plan.rows(0, rows))
        return time.perf_counter() - began

    return replace(plan, example=plan.rows(0, rows_to_check(run, plan.row_count)))


def _write(plan: ForeignPlan, folder: Path, tell: Callable[[str], None], warn: Callable[[str], None]) -> list[Written]:
    path = folder / f"{plan.role}.onnx"
    graph, bits = write_graph(plan, path)
    if plan.cast:
        tell(f"{plan.cast}; the largest difference from the file is {graph.parity_max_abs_error:.1e}")
    written = tried(graph, bits, warn)
    few = _told_of_few_bits(plan, bits)
    if few:
        tell(few)
    return [written._replace(remark=few)]


def _told_of_few_bits(plan: ForeignPlan, bits: RowBits) -> str:
    """That the bits of fewer rows were compared than are checked, for a person; empty where it is not so."""
    if bits.rows == plan.row_count:
        return ""
    *sizes, largest = map(str, plan.sizes(PARITY_BATCHES))
    compared = f"{bits.rows} rows in the place of {plan.row_count}" if bits.rows else "the first rows"
    tried = f"a row takes long, so only {compared} were compared bit by bit"
    return f"{plan.role}: {tried}" + f", in batches of {', '.join(sizes)} and {largest}" * (not bits.rows)


def _manifest(
    plans: tuple[*tuple[ForeignPlan, ...], ForeignDecoderPlan], mixture: Mixture | None, request: ImportRequest
) -> bundle_pb2.Manifest:
    """The manifest without its files."""
    *_, decoder = plans
    description = request.description
    manifest = describe_model(
        name=request.name,
        kind=_KINDS[description.kind],
        latent=_latent(plans, mixture, description),
        image_shape=decoder.pixels.shape,
        reading=description.reading.message(),
        likelihood=description.likelihood,
        label_count=description.label_count,
        label_names=description.label_names,
        provenance=bundle_pb2.Provenance(
            created_at=created_at(),
            family=description.family,
            dataset=description.dataset,
            config_json=json.dumps(_origin(plans, request)),
            software=software(),
        ),
        license_id=request.license,
    )
    manifest.noises.extend(bundle_pb2.NoiseInput(name=one.tensor, shape=one.shape) for one in decoder.runner.noises)
    if (psi := description.psi) is not None:
        manifest.psi.CopyFrom(bundle_pb2.Psi(default_value=psi.default, min_value=psi.min, max_value=psi.max))
    return manifest


def _latent(plans: Sequence[ForeignPlan], mixture: Mixture | None, description: ForeignModel) -> bundle_pb2.LatentSpec:
    """The latent space, without its mixture's file."""
    graphs = [plan for plan in plans if isinstance(plan, ForeignPriorPlan)]
    normal = bundle_pb2.PRIOR_STANDARD_NORMAL if description.has_prior else bundle_pb2.PRIOR_UNSPECIFIED
    learned = bundle_pb2.PRIOR_GRAPH if graphs else bundle_pb2.PRIOR_MIXTURE
    return bundle_pb2.LatentSpec(
        dim=description.latent_size,
        shape=description.latent_shape,
        codes=description.codes,
        prior=learned if graphs or mixture is not None else normal,
        noise_dim=graphs[0].noise_dim if graphs else 0,
        mixture=None if mixture is None else bundle_pb2.Mixture(components=mixture.components),
    )


def _origin(plans: Sequence[ForeignPlan], request: ImportRequest) -> dict[str, Any]:
    """The description, with each file's digest instead of its path."""
    described = request.description
    origin = {key: _told(value) for key, value in asdict(described).items() if value is not None}
    for plan in plans:
        digests = {"file_sha256": plan.graph.source.digest.hexadecimal()}
        if plan.runner.label is not None and plan.runner.label.embeddings_sha256:
            digests["label_embeddings_sha256"] = plan.runner.label.embeddings_sha256
        origin[plan.role] = {**digests, **origin[plan.role]}
    if isinstance(described.prior, ForeignPrior) and described.prior.mixture is not None:
        mixture = Digest([request.folder / described.prior.mixture])
        origin["prior"] = {"mixture_sha256": mixture.hexadecimal()}
    return origin


def _told(value: Any) -> Any:
    """The value without options that are not set, and without paths, which mean nothing elsewhere."""
    if not isinstance(value, dict):
        return value
    return {key: one for key, one in value.items() if one is not None and not isinstance(one, Path)}
