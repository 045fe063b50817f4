"""Arguments of administration to request messages, and replies to results. Pure functions, shared by both clients."""

from __future__ import annotations

from latentserve.v1 import models_pb2
from latentserve_client._fields import parse_ref
from latentserve_client._replies import parse_models, parse_status
from latentserve_client.errors import RequestError
from latentserve_client.model_info import ModelStatus, Rescanned
from latentserve_client.model_ref import ModelLike, ModelRef


def build_load(model: ModelLike) -> models_pb2.LoadRequest:
    """The request that loads a version."""
    name, version = _version_of(model)
    return models_pb2.LoadRequest(name=name, version=version)


def build_unload(model: ModelLike) -> models_pb2.UnloadRequest:
    """The request that unloads a version."""
    name, version = _version_of(model)
    return models_pb2.UnloadRequest(name=name, version=version)


def build_set_alias(model: ModelLike, alias: str) -> models_pb2.SetAliasRequest:
    """The request that lets `alias` name a version."""
    name, version = _version_of(model)
    ModelRef(name, alias=alias)  # which says what is wrong with its spelling
    return models_pb2.SetAliasRequest(name=name, alias=alias, version=version)


def build_delete_alias(model: ModelLike) -> models_pb2.DeleteAliasRequest:
    """The request that deletes the alias by which `model` is named."""
    ref = parse_ref(model)
    if ref.alias is None:
        raise RequestError(f"model {str(ref)!r} names no alias; write it name@alias")
    return models_pb2.DeleteAliasRequest(name=ref.name, alias=ref.alias)


def parse_load(response: models_pb2.LoadResponse) -> ModelStatus:
    """The version, READY."""
    return parse_status(response.model)


def parse_rescan(response: models_pb2.RescanResponse) -> Rescanned:
    """How things stand after the scan."""
    models = parse_models(models_pb2.ListModelsResponse(models=response.models))
    return Rescanned(tuple(models), tuple(response.problems))


def _version_of(model: ModelLike) -> tuple[str, int]:
    ref = parse_ref(model)
    if ref.version is None:
        raise RequestError(f"model {str(ref)!r} names no version; write it name:3")
    return ref.name, ref.version
