"""Timing a call: a `with` block, and the decorator for every kind of function."""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, Generator, Mapping
from time import perf_counter, time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, TypeVar

from predlog.text import ERROR_CHARACTERS, describe
from predlog.uuid7 import RANDOM_BITS, draw, spell

if TYPE_CHECKING:
    from predlog.client import Client

Function = TypeVar("Function", bound=Callable[..., Any])


class Call:
    """One call being timed. What is set on it inside the block is logged with it.

    error: set it to log a failure that is not raised. version: the model's, where it is known only inside.
    """

    __slots__ = ("_bits", "_client", "_metadata", "_started", "_time_ns", "error", "model_name", "version")

    def __init__(
        self, client: Client, model_name: str, version: str | None, metadata: Mapping[str, Any] | None
    ) -> None:
        self._client = client
        self._metadata = metadata.copy() if metadata is not None and type(metadata) is dict else metadata
        self.model_name = model_name
        self.version = version
        self.error: str | BaseException | None = None

    @property
    def metadata(self) -> dict[str, Any]:
        """A dict of the call's own, up to 4096 bytes of JSON, logged as it is when the block ends."""
        if type(self._metadata) is not dict:
            self._metadata = dict(self._metadata) if isinstance(self._metadata, Mapping) else {}
        return self._metadata

    @property
    def request_id(self) -> str:
        """The identifier that the record will have, to hand to the caller of the model."""
        return spell(self._time_ns, self._bits)

    def __enter__(self) -> Call:
        self._time_ns = time_ns()
        self._bits = draw(RANDOM_BITS)
        self._started = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        duration_ms = (perf_counter() - self._started) * 1000
        error: str | BaseException | None = self.error
        # A consumer that closes a generator early has had what it wanted. Everything else that is raised, also
        # KeyboardInterrupt and asyncio's CancelledError, means that there was no answer: a failure.
        if raised is not None and not isinstance(raised, GeneratorExit):
            error = raised
        if error is not None:
            error = error[:ERROR_CHARACTERS] if type(error) is str else describe(error)
        metadata = self._metadata
        if metadata is not None and type(metadata) is dict:
            metadata = metadata.copy()
        self._client._put(
            (
                self._time_ns,
                self._bits,
                self.model_name,
                duration_ms,
                error is None,
                self.version,
                error,
                metadata,
                None,
                None,
            )
        )


def track_function(client: Client, model_name: str, version: str | None) -> Callable[[Function], Function]:
    """The decorator of `Client.tracked`."""

    def decorate(function: Any) -> Any:
        def track() -> Call:
            return Call(client, model_name, version, None)

        call = function if inspect.isroutine(function) or not callable(function) else function.__call__
        if inspect.isasyncgenfunction(function) or inspect.isasyncgenfunction(call):
            wrapper: Any = _async_generator(function, track)
        elif inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(call):
            wrapper = _coroutine(function, track)
        elif inspect.isgeneratorfunction(function) or inspect.isgeneratorfunction(call):
            wrapper = _generator(function, track)
        else:
            wrapper = _plain(function, track)
        return functools.update_wrapper(wrapper, function)

    return decorate


def _plain(function: Callable[..., Any], track: Callable[[], Call]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        with track():
            return function(*args, **kwargs)

    return wrapper


def _coroutine(function: Callable[..., Any], track: Callable[[], Call]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        with track():
            return await function(*args, **kwargs)

    return wrapper


def _generator(function: Callable[..., Any], track: Callable[[], Call]) -> Callable[..., Any]:
    def wrapper(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        with track():
            return (yield from function(*args, **kwargs))

    return wrapper


def _async_generator(function: Callable[..., Any], track: Callable[[], Call]) -> Callable[..., Any]:
    async def wrapper(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        with track():
            inner = function(*args, **kwargs)
            try:
                step = inner.__anext__()
                while True:
                    try:
                        value = await step
                    except StopAsyncIteration:
                        return
                    try:
                        sent = yield value
                    except GeneratorExit:
                        raise
                    except BaseException as error:
                        step = inner.athrow(error)
                    else:
                        step = inner.asend(sent)
            finally:
                await inner.aclose()

    return wrapper
