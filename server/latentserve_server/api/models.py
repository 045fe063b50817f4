"""ModelService: the list of models, and one of them described."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Any

import grpc

from latentserve.contract import MAX_NAME_CHARACTERS
from latentserve.v1 import generation_pb2, models_pb2_grpc
from latentserve.v1 import models_pb2 as pb
from latentserve_server.errors import InvalidArgument
from latentserve_server.latent.noise import NOISE_SCHEME
from latentserve_server.model.served_model import ServedModel
from latentserve_server.repository.repository import Repository
from latentserve_server.repository.version import ModelVersion, State

Context = grpc.aio.ServicerContext[Any, Any]

_STATES = {
    State.LOADING: pb.MODEL_STATE_LOADING,
    State.READY: pb.MODEL_STATE_READY,
    State.UNLOADING: pb.MODEL_STATE_UNLOADING,
    State.UNAVAILABLE: pb.MODEL_STATE_UNAVAILABLE,
}


def lease(repository: Repository, ref: generation_pb2.ModelRef) -> AbstractContextManager[ServedModel]:
    """The model that a request names, for as long as the block that answers it: the model stays open that long.

    Raises:
        InvalidArgument: the reference is malformed. ModelNotFound, ModelNotReady: as the repository says, on entry.
    """
    version, alias = _selector(ref)
    return repository.lease(ref.name, version, alias)


def resolve(repository: Repository, ref: generation_pb2.ModelRef) -> ServedModel:
    """The model that a request names, to be described; a call that it is to answer takes a `lease`.

    Raises:
        InvalidArgument: the reference is malformed. ModelNotFound, ModelNotReady: as the repository says.
    """
    version, alias = _selector(ref)
    return repository.get(ref.name, version, alias)


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
        capabilities=entry.model.capabilities if entry.model else (),
        memory_bytes=entry.model.memory_bytes if entry.model else 0,
        row_bits=_row_bits(entry.model) if entry.model else pb.ROW_BITS_UNSPECIFIED,
        numerics=entry.model.identity.numerics if entry.model else "",
    )


class ModelServicer(models_pb2_grpc.ModelServiceServicer):
    """Answers ModelService from the repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """Every version of every model."""
        return pb.ListModelsResponse(models=list_models(self._repository))

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """One READY version, described."""
        model = resolve(self._repository, request.model)
        aliases = self._repository.aliases_of(model.identity.name, model.identity.version)
        return pb.GetModelResponse(model=_describe(model, aliases))


def _selector(ref: generation_pb2.ModelRef) -> tuple[int | None, str | None]:
    """The version and the alias that a reference, which is well formed, selects by."""
    if not ref.name:
        raise InvalidArgument("model.name", "is empty; name a model")
    for field in ("name", "alias"):  # errors repeat them, and a status holds no more than a few kilobytes
        if len(getattr(ref, field)) > MAX_NAME_CHARACTERS:
            raise InvalidArgument(f"model.{field}", f"is over {MAX_NAME_CHARACTERS} characters long")
    match ref.WhichOneof("selector"):
        case "version":
            if ref.version < 1:
                raise InvalidArgument("model.version", f"{ref.version}; versions are at least 1")
            return ref.version, None
        case "alias":
            return None, ref.alias
        case _:
            return None, None


def _row_bits(model: ServedModel) -> pb.RowBits:
    return pb.ROW_BITS_BATCH_INVARIANT if model.identity.numerics else pb.ROW_BITS_BATCH_DEPENDENT


def _describe(model: ServedModel, aliases: Sequence[str]) -> pb.Model:
    limits = model.limits
    return pb.Model(
        name=model.identity.name,
        version=model.identity.version,
        aliases=aliases,
        capabilities=model.capabilities,
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
