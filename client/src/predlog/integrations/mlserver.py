"""MLServer: `@logged(log)` above a runtime, or `Price = logged(log)(SKLearnModel)`, logs each inference."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Callable, TypeVar

if TYPE_CHECKING:
    from predlog.client import Client

Runtime = TypeVar("Runtime", bound=type)


def logged(log: Client, model_name: str | None = None) -> Callable[[Runtime], Runtime]:
    """Decorate a runtime, a subclass of `mlserver.MLModel`: a call of `predict` is a prediction.

    model_name: default: the one of the model's settings; the version is theirs, too.
    """

    def decorate(runtime: Runtime) -> Runtime:
        # A class whose base is known at runtime alone, which mypy cannot follow.
        class Logged(runtime):  # type: ignore[valid-type,misc]
            async def predict(self, payload: Any) -> Any:
                with log.track(model_name or self.name, self.version):
                    return await super().predict(payload)

        functools.update_wrapper(Logged, runtime, updated=())
        # MLServer reads the types of predict's arguments.
        functools.update_wrapper(Logged.predict, runtime.predict)  # type: ignore[attr-defined]
        return Logged  # type: ignore[return-value]

    return decorate
