"""ModelService on the wire: what the repository holds."""

from __future__ import annotations

from typing import Any

import grpc

from latentserve.v1 import generation_pb2, models_pb2_grpc
from latentserve.v1 import models_pb2 as pb
from latentserve_server.errors import InvalidArgument
from latentserve_server.noise import NOISE_SCHEME
from latentserve_server.repository import Entry, Repository, State
from latentserve_server.served_model import ServedModel

Context = grpc.aio.ServicerContext[Any, Any]

_MAX_NAME = 128

_STATES = {
    State.LOADING: pb.MODEL_STATE_LOADING,
    State.READY: pb.MODEL_STATE_READY,
    State.UNAVAILABLE: pb.MODEL_STATE_UNAVAILABLE,
}


def resolve(repository: Repository, ref: generation_pb2.ModelRef) -> ServedModel:
    """The model that a request names.

    Raises:
        InvalidArgument: the reference is malformed. ModelNotFound, ModelNotReady: as the repository says.
    """
    if not ref.name:
        raise InvalidArgument("model.name", "is empty; name a model")
    for field in ("name", "alias"):  # errors repeat them, and a status holds no more than a few kilobytes
        if len(getattr(ref, field)) > _MAX_NAME:
            raise InvalidArgument(f"model.{field}", f"is over {_MAX_NAME} characters long")
    match ref.WhichOneof("selector"):
        case "version":
            if ref.version < 1:
                raise InvalidArgument("model.version", f"{ref.version}; versions are at least 1")
            return repository.get(ref.name, version=ref.version)
        case "alias":
            return repository.get(ref.name, alias=ref.alias)
        case _:
            return repository.get(ref.name)


class ModelServicer(models_pb2_grpc.ModelServiceServicer):
    """Answers ModelService from the repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """Every version of every model."""
        return pb.ListModelsResponse(models=[self._status(entry) for entry in self._repository.entries()])

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> pb.GetModelResponse:
        """One READY version, described."""
        return pb.GetModelResponse(model=_describe(resolve(self._repository, request.model)))

    def _status(self, entry: Entry) -> pb.ModelStatus:
        return pb.ModelStatus(
            name=entry.name,
            version=entry.version,
            state=_STATES[entry.state],
            reason=entry.reason,
            is_default=self._repository.is_default(entry),
            capabilities=entry.model.capabilities if entry.model else (),
        )


def _describe(model: ServedModel) -> pb.Model:
    limits = model.limits
    return pb.Model(
        name=model.identity.name,
        version=model.identity.version,
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
    )
