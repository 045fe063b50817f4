"""The model that a request's reference names, leased or looked up."""

from __future__ import annotations

from contextlib import AbstractContextManager

from latentserve.contract import MAX_NAME_CHARACTERS
from latentserve.v1 import generation_pb2
from latentserve_server.errors import InvalidArgument
from latentserve_server.model.served_model import ServedModel
from latentserve_server.repository.repository import Repository


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


def _selector(ref: generation_pb2.ModelRef) -> tuple[int | None, str | None]:
    """The version and the alias that a reference, which is well formed, selects by."""
    name = ref.name
    if not name:
        raise InvalidArgument("model.name", "is empty; name a model")
    _check_length("name", name)
    match ref.WhichOneof("selector"):
        case None:
            return None, None
        case "version":
            if ref.version < 1:
                raise InvalidArgument("model.version", f"{ref.version}; versions are at least 1")
            return ref.version, None
        case _:
            _check_length("alias", ref.alias)
            return None, ref.alias


def _check_length(field: str, value: str) -> None:
    if len(value) > MAX_NAME_CHARACTERS:  # errors repeat it, and a status holds no more than a few kilobytes
        raise InvalidArgument(f"model.{field}", f"is over {MAX_NAME_CHARACTERS} characters long")
