"""ASGI middleware: each request to a model's route is a prediction; the end of the lifespan sends what waits."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Callable

from predlog.integrations.http import IGNORED, IsSuccess, Request, Requests, by_status
from predlog.integrations.patterns import pattern_of

if TYPE_CHECKING:
    from predlog.client import Client

CALL = "predlog.call"  # the key of the call in the scope


class Middleware:
    """`app = Middleware(app, log, {"/predict/{model}": "{model}"})`; see `Requests` for the options.

    The application may set metadata, version, error and model_name of `scope["predlog.call"]`.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        log: Client,
        routes: Mapping[str, str] | None,
        *,
        ignore: Iterable[str] = IGNORED,
        is_success: IsSuccess = by_status,
    ) -> None:
        self._app = app
        self._requests = Requests(log, routes, ignore, is_success)

    async def __call__(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Answer the request, or go through the server's life."""
        if scope["type"] == "lifespan":
            await Lifespan(self._app, self._requests.log).run(scope, receive, send)
            return
        request = self._requests.begin(_path(scope)) if scope["type"] == "http" else None
        if request is None:
            await self._app(scope, receive, send)
            return
        scope[CALL] = request.call
        answer = Answer(request, send, lambda: self._end(scope, request, None))
        try:
            await self._app(scope, receive, answer.send)
        except BaseException as error:
            self._end(scope, request, None if answer.was_left(error) else error)
            raise
        self._end(scope, request, None)

    def _end(self, scope: dict[str, Any], request: Request, raised: BaseException | None) -> None:
        request.call.model_name = request.call.model_name or self.model_of(scope)
        request.end(raised)

    def model_of(self, scope: dict[str, Any]) -> str:
        """The name of the model, if no entry of `routes` gave one."""
        return pattern_of(scope)


class Answer:
    """What the application sends; `whole` is called after its last part."""

    def __init__(self, request: Request, send: Callable[..., Any], whole: Callable[[], None]) -> None:
        self._request = request
        self._send = send
        self._whole = whole
        self._begun = False
        self._gone = False

    async def send(self, message: dict[str, Any]) -> None:
        """Pass a message on to the server."""
        if message["type"] == "http.response.start":
            self._request.status = message["status"]
        try:
            await self._send(message)
        except OSError:  # since ASGI 2.4 a server says so that the client has left
            self._gone = True
            raise
        if message["type"] == "http.response.body":
            self._begun = True
            if not message.get("more_body"):
                self._whole()

    def was_left(self, error: BaseException) -> bool:
        """Whether it ended because the client did not stay for all of it."""
        return self._gone or (self._begun and isinstance(error, asyncio.CancelledError))


class Lifespan:
    """An application's lifespan, or one in its place if it has none; at its end what waits is sent."""

    def __init__(self, app: Callable[..., Any], log: Client) -> None:
        self._app = app
        self._log = log
        self._answered = False
        self._received: list[dict[str, Any]] = []

    async def run(self, scope: dict[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """From the server's start to its end."""

        async def note() -> dict[str, Any]:
            message: dict[str, Any] = await receive()
            self._received.append(message)
            return message

        async def pass_on(message: dict[str, Any]) -> None:
            self._answered = True
            if message["type"].startswith("lifespan.shutdown."):
                await flush(self._log)
            await send(message)

        try:
            await self._app(scope, note, pass_on)
        except Exception:
            if self._answered:
                raise
        if not self._answered:  # the application knows no lifespan, and by ASGI it may raise or return
            await self._replace(receive, pass_on)

    async def _replace(self, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        kind = ""
        while kind != "lifespan.shutdown":
            kind = (self._received.pop(0) if self._received else await receive())["type"]
            await send({"type": f"{kind}.complete"})


async def flush(log: Client) -> None:
    """Send what waits, within the client's exit_timeout, and let the event loop go on meanwhile."""
    seconds = log._settings.exit_timeout
    try:
        await log.aflush(seconds)
    except RuntimeError:  # another loop, trio's say: the server is ending anyway
        log.flush(seconds)


def _path(scope: dict[str, Any]) -> str:
    path: str = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    return path[len(root) :] if root and path.startswith(f"{root}/") else path
