"""Requests that change what a server serves: models, aliases and rescans."""

from __future__ import annotations

from latentserve.v1 import models_pb2
from latentserve_client._calls.exchange import Exchange
from latentserve_client._calls.fields import parse_ref
from latentserve_client._calls.model_replies import parse_load, parse_nothing, parse_rescan, parse_stored
from latentserve_client.errors import RequestError
from latentserve_client.models import ModelLike, ModelRef, ModelStatus, Rescanned


def load(model: ModelLike, *, timeout: float | None = None, request_id: str | None = None) -> Exchange[ModelStatus]:
    """Make a version READY, and keep it whatever the version policy. Returns once it is READY.

    Args:
        model: "name:3" or a ModelRef with a version.
        timeout: seconds that the call may take; the client's own unless given.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the call; a UUID unless given.

    Raises:
        RequestError: an argument that no server would accept; nothing was sent.
        FailedPreconditionError: it cannot be loaded; the message says why, and nothing has changed.
        CallError: the call failed otherwise, as the class that fits its status.
        ReplyError: the reply breaks the contract. ClosedError: the client is closed.
    """
    name, version = _version_of(model)
    request = models_pb2.LoadRequest(name=name, version=version)
    return Exchange("Load", request, parse_load, timeout, request_id)


def unload(model: ModelLike, *, timeout: float | None = None, request_id: str | None = None) -> Exchange[None]:
    """Take a version out of service, whatever the version policy. Returns once its last call is answered.

    Args:
        model: "name:3" or a ModelRef with a version.
        timeout: seconds that the call may take; the client's own unless given.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the call; a UUID unless given.

    Raises:
        RequestError: an argument that no server would accept; nothing was sent.
        FailedPreconditionError: an alias points to the version.
        CallError: the call failed otherwise, as the class that fits its status.
        ReplyError: the reply breaks the contract. ClosedError: the client is closed.
    """
    name, version = _version_of(model)
    request = models_pb2.UnloadRequest(name=name, version=version)
    return Exchange("Unload", request, parse_nothing, timeout, request_id)


def set_alias(
    model: ModelLike, alias: str, *, timeout: float | None = None, request_id: str | None = None
) -> Exchange[bool]:
    """Make an alias for a READY version, or move it there.

    Returns whether that was stored in the repository; where that is read-only, the alias ends with the server.

    Args:
        model: "name:3" or a ModelRef with a version.
        alias: the movable name, spelt as names of models are.
        timeout: seconds that the call may take; the client's own unless given.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the call; a UUID unless given.

    Raises:
        RequestError: an argument that no server would accept; nothing was sent.
        CallError: the call failed, as the class that fits its status.
        ReplyError: the reply breaks the contract. ClosedError: the client is closed.
    """
    name, version = _version_of(model)
    ModelRef(name, alias=alias)  # which says what is wrong with its spelling
    request = models_pb2.SetAliasRequest(name=name, alias=alias, version=version)
    return Exchange("SetAlias", request, parse_stored, timeout, request_id)


def delete_alias(model: ModelLike, *, timeout: float | None = None, request_id: str | None = None) -> Exchange[bool]:
    """Delete an alias; returns whether that was stored in the repository.

    Args:
        model: "name@stable" or a ModelRef with an alias.
        timeout: seconds that the call may take; the client's own unless given.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the call; a UUID unless given.

    Raises:
        RequestError: an argument that no server would accept; nothing was sent.
        CallError: the call failed, as the class that fits its status.
        ReplyError: the reply breaks the contract. ClosedError: the client is closed.
    """
    ref = parse_ref(model)
    if ref.alias is None:
        raise RequestError(f"model {str(ref)!r} names no alias; write it name@alias")
    request = models_pb2.DeleteAliasRequest(name=ref.name, alias=ref.alias)
    return Exchange("DeleteAlias", request, parse_stored, timeout, request_id)


def rescan(*, timeout: float | None = None, request_id: str | None = None) -> Exchange[Rescanned]:
    """Have the server read the repository again and follow it; returns once everything is loaded or has failed.

    Args:
        timeout: seconds that the call may take; the client's own unless given.
        request_id: 1 to 128 visible ASCII characters by which the server's log has the call; a UUID unless given.

    Raises:
        RequestError: an argument that no server would accept; nothing was sent.
        CallError: the call failed, as the class that fits its status.
        ReplyError: the reply breaks the contract. ClosedError: the client is closed.
    """
    return Exchange("Rescan", models_pb2.RescanRequest(), parse_rescan, timeout, request_id)


def _version_of(model: ModelLike) -> tuple[str, int]:
    ref = parse_ref(model)
    if ref.version is None:
        raise RequestError(f"model {str(ref)!r} names no version; write it name:3")
    return ref.name, ref.version
