"""As `_exchanges`, for the calls of administration."""

from __future__ import annotations

from latentserve.v1 import models_pb2
from latentserve_client._calls.exchange import Exchange
from latentserve_client._calls.fields import parse_ref
from latentserve_client._calls.replies import parse_status
from latentserve_client.errors import RequestError
from latentserve_client.models import ModelLike, ModelRef, ModelStatus, Rescanned


def load(
    model: ModelLike, *, timeout: float | None = None, request_id: str | None = None
) -> Exchange[models_pb2.LoadRequest, models_pb2.LoadResponse, ModelStatus]:
    """The version that `model` names, READY."""
    name, version = _version_of(model)
    request = models_pb2.LoadRequest(name=name, version=version)
    return Exchange("Load", request, lambda _request, response, _id: parse_status(response.model), timeout, request_id)


def unload(
    model: ModelLike, *, timeout: float | None = None, request_id: str | None = None
) -> Exchange[models_pb2.UnloadRequest, models_pb2.UnloadResponse, None]:
    """Nothing, once the version that `model` names is out of service."""
    name, version = _version_of(model)
    request = models_pb2.UnloadRequest(name=name, version=version)
    return Exchange("Unload", request, lambda _request, _response, _id: None, timeout, request_id)


def set_alias(
    model: ModelLike, alias: str, *, timeout: float | None = None, request_id: str | None = None
) -> Exchange[models_pb2.SetAliasRequest, models_pb2.SetAliasResponse, bool]:
    """Whether it was stored that `alias` names the version that `model` names."""
    name, version = _version_of(model)
    ModelRef(name, alias=alias)  # which says what is wrong with its spelling
    request = models_pb2.SetAliasRequest(name=name, alias=alias, version=version)
    return Exchange("SetAlias", request, lambda _request, response, _id: response.stored, timeout, request_id)


def delete_alias(
    model: ModelLike, *, timeout: float | None = None, request_id: str | None = None
) -> Exchange[models_pb2.DeleteAliasRequest, models_pb2.DeleteAliasResponse, bool]:
    """Whether it was stored that the alias by which `model` is named is gone."""
    ref = parse_ref(model)
    if ref.alias is None:
        raise RequestError(f"model {str(ref)!r} names no alias; write it name@alias")
    request = models_pb2.DeleteAliasRequest(name=ref.name, alias=ref.alias)
    return Exchange("DeleteAlias", request, lambda _request, response, _id: response.stored, timeout, request_id)


def rescan(
    *, timeout: float | None = None, request_id: str | None = None
) -> Exchange[models_pb2.RescanRequest, models_pb2.RescanResponse, Rescanned]:
    """How things stand after the scan."""
    return Exchange("Rescan", models_pb2.RescanRequest(), _parse_rescan, timeout, request_id)


def _parse_rescan(
    _request: models_pb2.RescanRequest, response: models_pb2.RescanResponse, _request_id: str
) -> Rescanned:
    return Rescanned(tuple(parse_status(status) for status in response.models), tuple(response.problems))


def _version_of(model: ModelLike) -> tuple[str, int]:
    ref = parse_ref(model)
    if ref.version is None:
        raise RequestError(f"model {str(ref)!r} names no version; write it name:3")
    return ref.name, ref.version
