"""WSGI middleware: each request to a model's route is a prediction, timed to the end of its answer."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Callable

from predlog.integrations.http import IGNORED, IsSuccess, Request, Requests, by_status

if TYPE_CHECKING:
    from predlog.client import Client

CALL = "predlog.call"  # the key of the call in the environ
REQUEST = "predlog.request"  # the same for integrations that know more of the answer


class Middleware:
    """`app = Middleware(app, log, {"/predict/{model}": "{model}"})`; see `Requests` for the options.

    The application may set metadata, version, error and model_name of `environ["predlog.call"]`.
    """

    def __init__(
        self,
        app: Callable[..., Iterable[bytes]],
        log: Client,
        routes: Mapping[str, str] | None,
        *,
        ignore: Iterable[str] = IGNORED,
        is_success: IsSuccess = by_status,
    ) -> None:
        self._app = app
        self._requests = Requests(log, routes, ignore, is_success)

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer the request."""
        request = self._requests.begin(environ.get("PATH_INFO") or "/")
        if request is None:
            return self._app(environ, start_response)
        environ[CALL], environ[REQUEST] = request.call, request

        def started(status: str, *arguments: Any, **options: Any) -> Any:
            request.status = int(status[:3])
            return start_response(status, *arguments, **options)

        try:
            answer = self._app(environ, started)
        except BaseException as error:
            request.end(error)
            raise
        if type(answer) in (list, tuple):  # it is whole, and servers make more of a list
            request.end()
            return answer
        return Answer(answer, request)


class Answer:
    """An answer that is made while it is sent: it ends when it is exhausted, closed, or raises."""

    def __init__(self, chunks: Iterable[bytes], request: Request) -> None:
        self._chunks = chunks
        self._request = request

    def __iter__(self) -> Iterator[bytes]:
        request = self._request
        try:
            yield from self._chunks
        except GeneratorExit:  # the client has left
            raise
        except BaseException as error:
            request.end(error)
            raise
        request.end()

    def close(self) -> None:
        """The server is done with it, or the client has left."""
        try:
            close = getattr(self._chunks, "close", None)
            if close is not None:
                close()
        except BaseException as error:
            self._request.end(error)
            raise
        self._request.end()
