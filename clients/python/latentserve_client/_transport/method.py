"""Methods of clients, made from the functions that describe their calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import update_wrapper
from typing import Any, Concatenate, ParamSpec, TypeVar, get_args, get_type_hints

from latentserve_client._calls.exchange import Exchange, ResultT
from latentserve_client._calls.resumption import Resumption
from latentserve_client._transport.connection import AsyncConnection, BlockingConnection

ParametersT = ParamSpec("ParametersT")
ConnectionT = TypeVar("ConnectionT")
StreamT = TypeVar("StreamT")
MethodT = TypeVar("MethodT", bound=Callable[..., Any])


def blocking(
    describe: Callable[ParametersT, Exchange[ResultT]],
) -> Callable[Concatenate[BlockingConnection, ParametersT], ResultT]:
    """A method that makes the call which `describe` describes, with the same arguments, and returns its result."""

    def call(self: BlockingConnection, /, *args: ParametersT.args, **kwargs: ParametersT.kwargs) -> ResultT:
        return self._run(describe(*args, **kwargs))

    return _documented(call, describe, _result_of(describe))


def awaited(
    describe: Callable[ParametersT, Exchange[ResultT]],
) -> Callable[Concatenate[AsyncConnection, ParametersT], Coroutine[Any, Any, ResultT]]:
    """As `blocking`, for asyncio."""

    async def call(self: AsyncConnection, /, *args: ParametersT.args, **kwargs: ParametersT.kwargs) -> ResultT:
        return await self._run(describe(*args, **kwargs))

    return _documented(call, describe, _result_of(describe))


def opening(
    stream: Callable[[ConnectionT, Resumption], StreamT], describe: Callable[ParametersT, Resumption]
) -> Callable[Concatenate[ConnectionT, ParametersT], StreamT]:
    """A method that opens the stream which `describe` describes, with the same arguments; `stream` is its class."""

    def call(self: ConnectionT, /, *args: ParametersT.args, **kwargs: ParametersT.kwargs) -> StreamT:
        return stream(self, describe(*args, **kwargs))

    return _documented(call, describe, stream)


def _documented(method: MethodT, describe: Callable[..., Any], result: object) -> MethodT:
    """`method` with the name, the description and the parameters of `describe`, and its own result, for help()."""
    update_wrapper(method, describe)
    del method.__wrapped__  # type: ignore[attr-defined]
    signature = inspect.signature(describe)
    parameters = [inspect.Parameter("self", inspect.Parameter.POSITIONAL_OR_KEYWORD), *signature.parameters.values()]
    shown = signature.replace(parameters=parameters, return_annotation=result)
    method.__signature__ = shown  # type: ignore[attr-defined]
    method.__annotations__ = {**describe.__annotations__, "return": result}
    return method


def _result_of(describe: Callable[..., Exchange[Any]]) -> object:
    """The type of the result, which the exchange is of."""
    (result,) = get_args(get_type_hints(describe)["return"])
    return None if result is type(None) else result
