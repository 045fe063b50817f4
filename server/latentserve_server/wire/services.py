"""Methods of services, from their protobuf descriptors."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from latentserve_server.access.demands import DEMANDS, Demand


@dataclass(frozen=True, slots=True)
class Method:
    """How calls of one method are answered."""

    name: str
    """Without its service."""
    request: type[Message]
    descriptor: Descriptor
    """The request's."""
    behaviour: Callable[..., Any]
    """The servicer's: a coroutine function of a request, or of an iterator of them, and a Context; or one that makes an
    asynchronous iterator of the replies, where they are a stream."""
    takes_stream: bool
    gives_stream: bool
    is_driven: bool
    """Whether a Driver runs it, and not a task."""
    model_of: Callable[[Any], str]
    """The model that a request is for, as the metrics call it; empty where it is for none of the repository's."""
    is_own: bool
    """False for gRPC's own services, health and reflection."""
    demand: Demand | None
    """What its callers must have, where the server knows callers; None where nobody may call it then."""
    named: Callable[[Any], str] | None
    """The model of the repository that a request names, be there one or not; None where the demand names no field."""


def methods_of(
    service: ServiceDescriptor,
    servicer: object,
    *,
    name: str = "",
    is_own: bool = True,
    driven: Collection[str] = (),
    model_of: Callable[[Any], str] = lambda _: "",
    repository_name: Callable[[str], str] = str,
) -> Mapping[str, Method]:
    """The methods of a service by their paths; `name` takes the place of the service's own.

    `driven` are the names of the methods that a Driver runs. `repository_name` makes of a name in a request that of the
    repository.
    """
    methods = {}
    for method in service.methods:
        path = f"/{name or service.full_name}/{method.name}"
        demand = DEMANDS.get(path)
        methods[path] = Method(
            name=method.name,
            request=GetMessageClass(method.input_type),
            descriptor=method.input_type,
            behaviour=getattr(servicer, method.name),
            takes_stream=method.client_streaming,
            gives_stream=method.server_streaming,
            is_driven=method.name in driven,
            model_of=model_of,
            is_own=is_own,
            demand=demand,
            named=_named(demand.model, repository_name) if demand is not None and demand.model else None,
        )
    return methods


def _named(field: str, repository_name: Callable[[str], str]) -> Callable[[Any], str]:
    value = attrgetter(field)
    return lambda request: repository_name(value(request))
