"""What the Open Inference Protocol says of what models have run, from the totals that the metrics keep."""

from __future__ import annotations

from collections.abc import Mapping

from latentserve.oip import inference_pb2 as pb
from latentserve_server.metrics import GraphTotals
from latentserve_server.oip_model import InferenceModel

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
