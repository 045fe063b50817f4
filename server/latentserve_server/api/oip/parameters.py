"""Request parameters that are known here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from latentserve.oip import inference_pb2 as pb
from latentserve_server.errors import InvalidArgument

_MICROSECONDS = 1e-6
_FIRST_BULK_PRIORITY = 2


@dataclass(frozen=True, slots=True)
class RequestParameters:
    """How a request is to be treated."""

    timeout: float = float("inf")
    """Time that the request may wait for the engine, in seconds."""
    bulk: bool = False
    """Whether interactive requests go first."""
    raw: bool = True
    """Whether the response is to hold raw bytes."""


def read_parameters(parameters: Mapping[str, pb.InferParameter]) -> RequestParameters:
    """The parameters of a request.

    Raises:
        InvalidArgument: a known parameter has a value of another type, or a negative one.
    """
    timeout = _read_integer(parameters, "timeout")
    priority = _read_integer(parameters, "priority")
    return RequestParameters(
        timeout=timeout * _MICROSECONDS if timeout else float("inf"),
        bulk=priority >= _FIRST_BULK_PRIORITY,
        raw=_read_truth(parameters, "binary_data_output", default=True),
    )


def check_input_parameters(field: str, parameters: Mapping[str, pb.InferParameter]) -> None:
    """Refuse an input that is to be taken from elsewhere.

    Raises:
        InvalidArgument: it lies in shared memory.
    """
    _refuse(field, parameters, ("shared_memory_region",))


def check_output_parameters(field: str, parameters: Mapping[str, pb.InferParameter]) -> None:
    """Refuse an output that is to be given in another form.

    Raises:
        InvalidArgument: it is to go to shared memory, or to be classified.
    """
    _refuse(field, parameters, ("shared_memory_region", "classification"))


def _refuse(field: str, parameters: Mapping[str, pb.InferParameter], names: tuple[str, ...]) -> None:
    # To ignore these as others are ignored would be to answer something else than was asked.
    for name in names:
        if name in parameters:
            raise InvalidArgument(f"{field}.parameters.{name}", "is not supported; send and take the elements")


def _read_integer(parameters: Mapping[str, pb.InferParameter], name: str) -> int:
    if name not in parameters:
        return 0
    choice = parameters[name].WhichOneof("parameter_choice")
    if choice not in ("int64_param", "uint64_param"):
        raise InvalidArgument(f"parameters.{name}", f"{choice or 'nothing'} is set where int64_param is wanted")
    value = int(getattr(parameters[name], choice))
    if value < 0:
        raise InvalidArgument(f"parameters.{name}", f"{value}; must not be negative")
    return value


def _read_truth(parameters: Mapping[str, pb.InferParameter], name: str, *, default: bool) -> bool:
    if name not in parameters:
        return default
    choice = parameters[name].WhichOneof("parameter_choice")
    if choice != "bool_param":
        raise InvalidArgument(f"parameters.{name}", f"{choice or 'nothing'} is set where bool_param is wanted")
    return parameters[name].bool_param
