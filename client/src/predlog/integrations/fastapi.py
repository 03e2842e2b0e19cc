"""FastAPI is Starlette here: `app.add_middleware(Middleware, log=log)`, or `FastAPI(lifespan=lifespan(log))`."""

from __future__ import annotations

from predlog.integrations.starlette import Middleware, lifespan

__all__ = ["Middleware", "lifespan"]
