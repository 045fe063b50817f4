"""The command latentserve-export: a run's model, checked and published as a bundle."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from latentserve.v1 import bundle_pb2
from latentserve_training.data import PLACES, READING, Dataset
from latentserve_training.errors import CollapsedError
from latentserve_training.evaluation.results import EvaluationResults
from latentserve_training.export.destination import Destination
from latentserve_training.export.graphs import TorchPlan, plan_graphs
from latentserve_training.export.parity import Trial
from latentserve_training.export.precision import QualityGateError, convert
from latentserve_training.export.precision_data import conversion_data
from latentserve_training.export.publish import (
    CHECK_ROWS,
    Content,
    Written,
    describe_graph,
    describe_model,
    publish,
    tried,
)
from latentserve_training.export.request import ExportRequest
from latentserve_training.export.torch_to_onnx import export_graph
from latentserve_training.image_grid import grid, to_uint8
from latentserve_training.models import GenerativeModel, Vae
from latentserve_training.run.provenance import created_at, software
from latentserve_training.run.trained_model import TrainedModel

_SEED = 0


def export(request: ExportRequest, warn: Callable[[str], None]) -> Path:
    """Write, check and publish the bundle; returns its folder. `warn` hears what is left out or not promised.

    Raises:
        RunError: the run cannot be used.
        CollapsedError: its samples have collapsed, and it is not to be published by force.
        ExportError: a check failed, the version is taken, or with `strict` a precision lost too much. Nothing is left.
    """
    trained = TrainedModel.load(request.run)
    name = request.name if request.name is not None else trained.config.model.family
    destination = Destination.choose(request.repository, name, request.version)
    dataset = trained.dataset(request.data_root)
    collapse = trained.collapse(dataset.validation, _SEED)
    if collapse and not request.force:
        raise CollapsedError(f"{request.run} has collapsed: {collapse}; --force publishes it all the same")
    if collapse:
        warn(f"{request.run} has collapsed: {collapse}")
    images = torch.from_numpy(dataset.validation.images[:CHECK_ROWS]).float() / 255
    results = EvaluationResults.of(trained)
    content = Content(
        manifest=_manifest(trained, results, dataset.label_names, name, request.license),
        plans=plan_graphs(trained.model, _at_least(images, CHECK_ROWS), trained.latents(CHECK_ROWS, _SEED)),
        samples=grid(to_uint8(trained.sample(CHECK_ROWS, _SEED)), columns=8),
        pictures=results.pictures,
        mixture=results.mixture,
        report=results.report,
        collapse=collapse,
    )
    return publish(content, destination, lambda plan, folder: _write(plan, folder, request, trained, dataset, warn))


def _write(
    plan: TorchPlan,
    folder: Path,
    request: ExportRequest,
    trained: TrainedModel,
    dataset: Dataset,
    warn: Callable[[str], None],
) -> list[Written]:
    """The float32 graph, and those in lower precision that are good enough."""
    path = folder / f"{plan.role}.onnx"
    difference, bits = export_graph(plan, path)
    graphs = [tried(describe_graph(plan.role, path, difference), bits, warn)]
    if not request.precisions:
        return graphs
    rows = conversion_data(plan.role, trained, dataset)
    for precision in dict.fromkeys(request.precisions):
        try:
            graph = convert(plan, path, precision, rows)
        except QualityGateError as error:
            if request.strict:
                raise
            warn(str(error))
            continue
        graphs.append(tried(graph, Trial(folder / graph.file.path, plan).row_bits(), warn))
    return graphs


def _at_least(rows: torch.Tensor, count: int) -> torch.Tensor:
    """`rows`, repeated in order until there are `count`."""
    return rows.repeat(-(-count // len(rows)), 1, 1, 1)[:count]


def _manifest(
    trained: TrainedModel, results: EvaluationResults, label_names: Sequence[str], name: str, license_id: str
) -> bundle_pb2.Manifest:
    """The manifest without its files."""
    model = trained.model
    manifest = describe_model(
        name=name,
        kind=bundle_pb2.MODEL_KIND_VAE if isinstance(model, Vae) else bundle_pb2.MODEL_KIND_GAN,
        latent=_latent(model),
        image_shape=model.image_shape,
        reading=READING,
        likelihood=model.likelihood.name if isinstance(model, Vae) else None,
        label_count=model.label_count,
        label_names=label_names,
        provenance=_provenance(trained),
        license_id=license_id,
    )
    manifest.metrics.update(results.metrics)
    if results.mixture is not None:
        manifest.latent.mixture.components = results.mixture.components
    if results.calibration is not None:
        manifest.calibration.CopyFrom(bundle_pb2.Calibration(**asdict(results.calibration)))
    return manifest


def _latent(model: GenerativeModel) -> bundle_pb2.LatentSpec:
    """The latent space; a vector's shape goes without saying."""
    latent = bundle_pb2.LatentSpec(dim=model.latent_dim, prior=bundle_pb2.PRIOR_STANDARD_NORMAL)
    if len(model.latent_shape) > 1:
        latent.shape.extend(model.latent_shape)
    return latent


def _provenance(trained: TrainedModel) -> bundle_pb2.Provenance:
    return bundle_pb2.Provenance(
        created_at=created_at(),
        family=trained.config.model.family,
        dataset=trained.config.data.name,
        dataset_sha256=trained.checkpoint.origin.dataset_sha256,
        config_json=json.dumps(_published(trained.config.to_dict())),
        git_commit=trained.checkpoint.origin.git_commit,
        software=software(),
        training_steps=trained.checkpoint.progress.step,
        checkpoint_sha256=trained.checkpoint_sha256,
    )


def _published(config: dict[str, Any]) -> dict[str, Any]:
    """The configuration without the data's paths on this machine: the digest identifies the data."""
    data = {key: value for key, value in config["data"].items() if key not in PLACES}
    return {**config, "data": data}
