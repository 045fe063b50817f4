"""Metadata, configurations, statistics and the index of models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from latentserve.dtypes import GRAPH_TYPES
from latentserve.oip import inference_pb2 as pb
from latentserve_server.api.oip.models import InferenceModel, parts_of
from latentserve_server.api.oip.tensors import OPTIONAL, datatype_of
from latentserve_server.engine import Device, TensorSpec
from latentserve_server.model.requests import FLOAT32_PIXELS
from latentserve_server.repository.version import ModelVersion, State
from latentserve_server.telemetry.metrics import GraphTotals

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"

PRIORITY_LEVELS = 2
"""Interactive and bulk."""

_KINDS = {Device.CPU: pb.ModelInstanceGroup.KIND_CPU, Device.CUDA: pb.ModelInstanceGroup.KIND_GPU}

_DATA_TYPES = {kind.dtype: f"TYPE_{kind.oip}" for kind in GRAPH_TYPES.values()}


def metadata_of(model: InferenceModel, entries: Iterable[ModelVersion]) -> pb.ModelMetadataResponse:
    """The model's tensors, and its versions among the repository's entries."""
    return pb.ModelMetadataResponse(
        name=model.name,
        versions=[
            str(entry.version)
            for entry in entries
            if entry.name == model.served.identity.name and entry.model and model.part in parts_of(entry.model)
        ],
        platform=PLATFORM,
        inputs=[_describe(spec) for spec in model.inputs],
        outputs=[_describe(spec) for spec in model.outputs],
    )


def config_of(model: InferenceModel) -> pb.ModelConfig:
    """The model's configuration."""
    limits, identity = model.served.limits, model.served.identity
    device, numerics = identity.device, identity.numerics
    return pb.ModelConfig(
        name=model.name,
        platform=PLATFORM,
        backend=BACKEND,
        max_batch_size=limits.max_rows_per_request,
        parameters={"numerics": pb.ModelParameter(string_value=numerics)} if numerics else {},
        input=[
            pb.ModelInput(
                name=spec.name,
                data_type=_DATA_TYPES[spec.dtype],
                format=pb.ModelInput.FORMAT_NCHW if spec.name == FLOAT32_PIXELS else pb.ModelInput.FORMAT_NONE,
                dims=spec.shape,
                optional=spec.name in OPTIONAL,
            )
            for spec in model.inputs
        ],
        output=[
            pb.ModelOutput(name=spec.name, data_type=_DATA_TYPES[spec.dtype], dims=spec.shape) for spec in model.outputs
        ],
        instance_group=[pb.ModelInstanceGroup(name=device, kind=_KINDS[device], count=1)],
        dynamic_batching=pb.ModelDynamicBatching(
            preferred_batch_size=[limits.max_batch_rows], priority_levels=PRIORITY_LEVELS, default_priority_level=1
        ),
    )


def index_of(entries: Iterable[ModelVersion], *, ready: bool) -> pb.RepositoryIndexResponse:
    """Every part of every READY version, and unless only those are wanted, every other version."""
    return pb.RepositoryIndexResponse(models=[line for entry in entries for line in _lines(entry, ready=ready)])


def _lines(entry: ModelVersion, *, ready: bool) -> Iterator[pb.RepositoryIndexResponse.ModelIndex]:
    if ready and entry.state is not State.READY:
        return
    suffixes = [part.value for part in parts_of(entry.model)] if entry.model else [""]
    for suffix in suffixes:
        yield pb.RepositoryIndexResponse.ModelIndex(
            name=entry.name + suffix, version=str(entry.version), state=entry.state.name, reason=entry.reason
        )


def _describe(spec: TensorSpec) -> pb.ModelMetadataResponse.TensorMetadata:
    return pb.ModelMetadataResponse.TensorMetadata(name=spec.name, datatype=datatype_of(spec), shape=(-1, *spec.shape))


Totals = Mapping[tuple[str, str, str], GraphTotals]
"""By model, version and graph."""


def statistics_of(model: InferenceModel, totals: Totals) -> pb.ModelStatistics:
    """What the model has run since its version was opened."""
    identity = model.served.identity
    version = str(identity.version)
    graph = totals.get((identity.name, version, model.part.graph), GraphTotals())
    return pb.ModelStatistics(
        name=model.name,
        version=version,
        inference_count=graph.rows,
        execution_count=graph.runs,
        inference_stats=pb.InferStatistics(
            success=pb.StatisticDuration(count=graph.calls),
            queue=pb.StatisticDuration(count=graph.calls, ns=round(graph.queue_seconds * 1e9)),
            compute_infer=pb.StatisticDuration(count=graph.runs, ns=round(graph.compute_seconds * 1e9)),
        ),
    )
