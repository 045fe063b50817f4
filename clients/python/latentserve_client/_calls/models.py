"""Requests to list and describe models."""

from __future__ import annotations

from latentserve.v1 import models_pb2
from latentserve_client._calls.exchange import Exchange
from latentserve_client._calls.fields import build_ref, parse_ref
from latentserve_client._calls.model_replies import parse_model, parse_models
from latentserve_client.errors import RequestError
from latentserve_client.models import ModelInfo, ModelLike, ModelRef, ModelStatus


def models(*, timeout: float | None = None, request_id: str | None = None) -> Exchange[list[ModelStatus]]:
    """List every version of every model, served or not, by name, then version.

    Args:
        timeout: seconds that the call may take, retries included; the client's own unless given.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the call; a UUID unless given.

    Raises:
        RequestError: an argument that no server would accept; nothing was sent.
        CallError: the call failed, as the class that fits its status.
        ReplyError: the reply breaks the contract. ClosedError: the client is closed.
    """
    return Exchange("ListModels", models_pb2.ListModelsRequest(), parse_models, timeout, request_id)


def model(
    name: ModelLike,
    version: int | None = None,
    alias: str | None = None,
    *,
    timeout: float | None = None,
    request_id: str | None = None,
) -> Exchange[ModelInfo]:
    """Describe the READY version that `name` stands for, or that `version` or `alias` picks.

    Args:
        name: its name, "name:3" (a version), "name@stable" (an alias) or a ModelRef.
        version: an exact version, where the name says none.
        alias: a movable name for a version, where the name says none.
        timeout: seconds that the call may take, retries included; the client's own unless given.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the call; a UUID unless given.

    Raises:
        RequestError: an argument that no server would accept; nothing was sent.
        NotFoundError: there is no such model, version or alias.
        CallError: the call failed otherwise, as the class that fits its status.
        ReplyError: the reply breaks the contract. ClosedError: the client is closed.
    """
    ref = parse_ref(name)
    if version is not None or alias is not None:
        if ref.version is not None or ref.alias is not None:
            raise RequestError(f"model {str(ref)!r} already says which version; give none besides")
        ref = ModelRef(ref.name, version, alias)
    request = models_pb2.GetModelRequest(model=build_ref(ref))
    return Exchange("GetModel", request, parse_model, timeout, request_id)
