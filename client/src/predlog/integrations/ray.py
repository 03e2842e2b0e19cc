"""Ray Serve: `@logged(log, "apartment_price")` between `@serve.deployment` and the class logs each call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Callable, TypeVar

if TYPE_CHECKING:
    from predlog.client import Client

Deployment = TypeVar("Deployment", bound=type)


def logged(
    log: Client, model_name: str, version: object = None, methods: Iterable[str] = ("__call__",)
) -> Callable[[Deployment], Deployment]:
    """Decorate a class: a call of one of the methods is a prediction, and a replica that stops sends what waits.

    Ray stops a replica by its `__del__` and then kills the process, so nothing else would run.
    """

    def decorate(deployment: Deployment) -> Deployment:
        for name in methods:
            setattr(deployment, name, log.tracked(model_name, version)(getattr(deployment, name)))
        before = getattr(deployment, "__del__", None)

        def end(self: Any) -> None:
            try:
                if before is not None:
                    before(self)
            finally:
                log.flush(log._settings.exit_timeout)

        deployment.__del__ = end  # type: ignore[attr-defined]
        return deployment

    return decorate
