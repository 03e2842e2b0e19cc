"""Django: "predlog.integrations.django.Middleware" first in MIDDLEWARE, and the options in the setting PREDLOG."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, Any, Callable

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings

from predlog.integrations.http import Request, Requests, from_settings
from predlog.integrations.sigterm import flush_at_sigterm
from predlog.integrations.wsgi import Answer

if TYPE_CHECKING:
    from predlog.client import Client


LOGGED = "predlog_request"  # the attribute of a request that holds what process_exception needs


@functools.cache
def requests() -> Requests:
    """What the setting PREDLOG asks for: a dict of the client's options and those of `Requests`, in capitals."""
    log, options = from_settings(getattr(settings, "PREDLOG", {}))
    flush_at_sigterm(log)
    return Requests(log, **options)


def client() -> Client:
    """The client that the middleware logs with."""
    return requests().log


class Middleware:
    """Logs each request to a view; sync and async. `request.predlog` is the call, to set metadata and so on of.

    Without `ROUTES` every route is a model with the name of its pattern.
    """

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self._get_response = get_response
        self._requests = requests()
        if iscoroutinefunction(get_response):
            markcoroutinefunction(self)

    def __call__(self, request: Any) -> Any:
        """Answer the request."""
        logged = self._requests.begin(request.path_info)
        if iscoroutinefunction(self):
            return self._answer_later(request, logged)
        return self._get_response(request) if logged is None else self._answer(request, logged)

    def process_exception(self, request: Any, exception: BaseException) -> None:
        """Django tells the exception here, and makes an answer of it: 500, or 404 of Http404."""
        logged = getattr(request, LOGGED, None)
        if logged is not None:
            logged.raised = exception

    def _answer(self, request: Any, logged: Request) -> Any:
        _attach(request, logged)
        try:
            response = self._get_response(request)
        except BaseException as error:
            logged.end(error)
            raise
        return _finished(request, response, logged)

    async def _answer_later(self, request: Any, logged: Request | None) -> Any:
        if logged is None:
            return await self._get_response(request)
        _attach(request, logged)
        try:
            response = await self._get_response(request)
        except BaseException as error:
            logged.end(error)
            raise
        return _finished(request, response, logged)


def _attach(request: Any, logged: Request) -> None:
    request.predlog = logged.call
    setattr(request, LOGGED, logged)


def _finished(request: Any, response: Any, logged: Request) -> Any:
    match = request.resolver_match
    logged.status = response.status_code
    if logged.status < 500:  # Http404 and its like say that the request was wrong: the status judges them
        logged.raised = None
    if match is not None and not logged.call.model_name:
        logged.call.model_name = f"/{match.route.lstrip('/')}"
    if not response.streaming:
        logged.end()
    elif response.is_async:
        response.streaming_content = AnswerLater(response.streaming_content, logged)
    else:
        response.streaming_content = Answer(response.streaming_content, logged)
    return response


class AnswerLater:
    """As `Answer` for a stream that is async: it ends when it is exhausted, left, closed, or raises."""

    def __init__(self, chunks: AsyncIterable[bytes], request: Request) -> None:
        self._chunks = chunks
        self._request = request

    async def __aiter__(self) -> AsyncIterator[bytes]:
        from asyncio import CancelledError

        request = self._request
        try:
            async for chunk in self._chunks:
                yield chunk
        except (GeneratorExit, CancelledError):  # the client has left
            raise
        except BaseException as error:
            request.end(error)
            raise
        finally:
            request.end()

    def close(self) -> None:
        """The host is done with it; if it was never begun, nothing above runs."""
        self._request.end()
