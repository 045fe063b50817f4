"""What every method demands of its callers, where the server knows callers.

A method that is not here is refused to all of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from latentserve_server.access.caller import Caller, Scope
from latentserve_server.errors import NotPermitted

FORBIDDEN = "the caller's token does not permit this"
"""What is said of every method and of every model, be there one or not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Demand:
    """What a caller must have."""

    scopes: frozenset[Scope] = frozenset()
    """Of which it has one; none: a call needs no token."""
    model: str = ""
    """The field of a request that names the model which the caller must be allowed to use; empty: there is none, and
    the reply tells of the caller's models alone."""
    in_band: bool = False
    """Whether the servicer itself has each request of a stream checked, and answers those that are refused."""
    every_model: bool = False
    """Whether the caller must be allowed to use every model: the call concerns all."""

    @property
    def is_open(self) -> bool:
        """Whether a call needs no token."""
        return not self.scopes


_OPEN = Demand()
_GENERATE = frozenset({Scope.GENERATE})
_READ = frozenset({Scope.READ, Scope.GENERATE})
_ADMIN = frozenset({Scope.ADMIN})

_OF_A_MODEL = Demand(scopes=_GENERATE, model="model.name")
_INFER = "/inference.GRPCInferenceService/"
_GENERATION = "/latentserve.v1.GenerationService/"
_MODELS = "/latentserve.v1.ModelService/"
_MODEL_ADMIN = "/latentserve.v1.ModelAdminService/"

DEMANDS: Mapping[str, Demand] = {
    f"{_GENERATION}Sample": _OF_A_MODEL,
    f"{_GENERATION}StreamSamples": _OF_A_MODEL,
    f"{_GENERATION}Encode": _OF_A_MODEL,
    f"{_GENERATION}Decode": _OF_A_MODEL,
    f"{_GENERATION}Reconstruct": _OF_A_MODEL,
    f"{_GENERATION}Interpolate": _OF_A_MODEL,
    f"{_GENERATION}Traverse": _OF_A_MODEL,
    f"{_GENERATION}Score": _OF_A_MODEL,
    f"{_MODELS}ListModels": Demand(scopes=_READ),
    f"{_MODELS}GetModel": Demand(scopes=_READ, model="model.name"),
    f"{_MODEL_ADMIN}Load": Demand(scopes=_ADMIN, model="name"),
    f"{_MODEL_ADMIN}Unload": Demand(scopes=_ADMIN, model="name"),
    f"{_MODEL_ADMIN}SetAlias": Demand(scopes=_ADMIN, model="name"),
    f"{_MODEL_ADMIN}DeleteAlias": Demand(scopes=_ADMIN, model="name"),
    f"{_MODEL_ADMIN}Rescan": Demand(scopes=_ADMIN, every_model=True),
    f"{_INFER}ServerLive": _OPEN,
    f"{_INFER}ServerReady": _OPEN,
    f"{_INFER}ServerMetadata": Demand(scopes=_READ),
    f"{_INFER}ModelReady": Demand(scopes=_READ, model="name"),
    f"{_INFER}ModelMetadata": Demand(scopes=_READ, model="name"),
    f"{_INFER}ModelConfig": Demand(scopes=_READ, model="name"),
    f"{_INFER}ModelStatistics": Demand(scopes=_READ, model="name"),
    f"{_INFER}RepositoryIndex": Demand(scopes=_READ),
    f"{_INFER}ModelInfer": Demand(scopes=_GENERATE, model="model_name"),
    f"{_INFER}ModelStreamInfer": Demand(scopes=_GENERATE, model="model_name", in_band=True),
    f"{_INFER}RepositoryModelLoad": Demand(scopes=_ADMIN, model="model_name"),
    f"{_INFER}RepositoryModelUnload": Demand(scopes=_ADMIN, model="model_name"),
    "/grpc.health.v1.Health/Check": _OPEN,
    "/grpc.health.v1.Health/List": _OPEN,
    "/grpc.health.v1.Health/Watch": _OPEN,
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo": _OPEN,
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo": _OPEN,
}
"""By the path of the method."""


def check_scope(caller: Caller, demand: Demand | None) -> None:
    """Hold a caller to what a method demands; None where nobody has said what that is.

    Raises:
        NotPermitted: the caller has not what is demanded.
    """
    if demand is None or caller.scopes.isdisjoint(demand.scopes):
        raise NotPermitted(FORBIDDEN, reason="scope")
    if demand.every_model and not caller.may_use_every_model:
        raise NotPermitted(FORBIDDEN, reason="model")
