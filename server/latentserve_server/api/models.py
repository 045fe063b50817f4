"""ModelService: the list of models, and one of them described."""

from __future__ import annotations

from collections.abc import Sequence

from latentserve.v1 import models_pb2 as pb
from latentserve_server.api.requests import model_named
from latentserve_server.latent.noise import NOISE_SCHEME
from latentserve_server.model.served_model import ServedModel
from latentserve_server.repository.repository import Repository
from latentserve_server.repository.version import ModelVersion, State
from latentserve_server.wire.exchange import Exchange

_STATES = {
    State.LOADING: pb.MODEL_STATE_LOADING,
    State.READY: pb.MODEL_STATE_READY,
    State.UNLOADING: pb.MODEL_STATE_UNLOADING,
    State.UNAVAILABLE: pb.MODEL_STATE_UNAVAILABLE,
}


def list_models(repository: Repository) -> list[pb.ModelStatus]:
    """Every version of every model, ordered by name, then version."""
    return [model_status(repository, entry) for entry in repository.entries()]


def model_status(repository: Repository, entry: ModelVersion) -> pb.ModelStatus:
    """One line of the list of models."""
    return pb.ModelStatus(
        name=entry.name,
        version=entry.version,
        state=_STATES[entry.state],
        reason=entry.reason,
        is_default=repository.is_default(entry),
        aliases=repository.aliases_of(entry.name, entry.version),
        capabilities=entry.model.abilities.capabilities if entry.model else (),
        memory_bytes=entry.model.memory_bytes if entry.model else 0,
        row_bits=_row_bits(entry.model) if entry.model else pb.ROW_BITS_UNSPECIFIED,
        numerics=entry.model.identity.numerics if entry.model else "",
    )


class ModelServicer:
    """Answers ModelService from the repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def ListModels(self, request: pb.ListModelsRequest, context: Exchange) -> pb.ListModelsResponse:
        """Every version of every model that the caller may use."""
        models = [model for model in list_models(self._repository) if context.may_use(model.name)]
        return pb.ListModelsResponse(models=models)

    async def GetModel(self, request: pb.GetModelRequest, context: Exchange) -> pb.GetModelResponse:
        """One READY version, described."""
        model = model_named(self._repository, request.model)
        aliases = self._repository.aliases_of(model.identity.name, model.identity.version)
        return pb.GetModelResponse(model=_describe(model, aliases))


def _row_bits(model: ServedModel) -> pb.RowBits:
    return pb.ROW_BITS_BATCH_INVARIANT if model.identity.numerics else pb.ROW_BITS_BATCH_DEPENDENT


def _describe(model: ServedModel, aliases: Sequence[str]) -> pb.Model:
    limits = model.limits
    return pb.Model(
        name=model.identity.name,
        version=model.identity.version,
        aliases=aliases,
        capabilities=model.abilities.capabilities,
        manifest=model.manifest,
        digest=model.identity.digest,
        device=model.identity.device,
        limits=pb.Limits(
            max_rows_per_request=limits.max_rows_per_request,
            max_batch_rows=limits.max_batch_rows,
            max_queue_rows=limits.max_queue_rows,
            max_message_bytes=limits.max_message_bytes,
        ),
        noise_scheme=NOISE_SCHEME,
        precision=model.identity.precision,
        row_bits=_row_bits(model),
        numerics=model.identity.numerics,
    )
