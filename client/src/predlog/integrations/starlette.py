"""Starlette and FastAPI: `app.add_middleware(Middleware, log=log)`, or only `lifespan(log)`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, Callable

from predlog.integrations import asgi
from predlog.integrations.http import IGNORED, IsSuccess, by_status

if TYPE_CHECKING:
    from predlog.client import Client


class Middleware(asgi.Middleware):
    """Logs each request, and at the end of the lifespan sends what waits.

    routes: see `Requests`; None: every route is a model with the name of its pattern, `/predict/{model}`.
    """

    def __init__(
        self,
        app: Callable[..., Any],
        log: Client,
        routes: Mapping[str, str] | None = None,
        *,
        ignore: Iterable[str] = IGNORED,
        is_success: IsSuccess = by_status,
    ) -> None:
        super().__init__(app, log, routes, ignore=ignore, is_success=is_success)


def lifespan(
    log: Client, inner: Callable[[Any], AbstractAsyncContextManager[Any]] | None = None
) -> Callable[[Any], AbstractAsyncContextManager[Any]]:
    """`FastAPI(lifespan=lifespan(log))` for applications that log by hand: sends waiting records when the server ends.

    inner: a lifespan of your own, which runs inside.
    """

    @asynccontextmanager
    async def around(app: Any) -> AsyncIterator[Any]:
        try:
            if inner is None:
                yield None
            else:
                async with inner(app) as state:
                    yield state
        finally:
            await asgi.flush(log)

    return around
