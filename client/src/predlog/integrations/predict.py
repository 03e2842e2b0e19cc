"""Anything with `predict` or that can be called: scikit-learn, XGBoost, Keras, a torch module."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from predlog.decorating import track_function

if TYPE_CHECKING:
    from predlog.client import Client

METHODS = (
    "__call__", "predict", "predict_proba", "predict_log_proba", "decision_function", "predict_on_batch", "transform",
    "generate", "encode",
)  # fmt: skip


class Logged:
    """The model, with each call of `methods` logged: `model = Logged(model, log, "apartment_price")`.

    Everything else is the model's own. `rows` in the metadata is the length of the first argument, if it has one.
    It may be pickled if the model may. `model` is the model itself, for what insists on its class.
    """

    def __init__(
        self, model: Any, log: Client, model_name: str, version: object = None, methods: Iterable[str] = METHODS
    ) -> None:
        self.__dict__.update(model=model, _options=(log, model_name, version, tuple(methods)))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model, as torch and Keras do."""
        call = self.__dict__.get("__call__")
        if call is None:
            call = self.__dict__["__call__"] = self._tracked("__call__", _call_of(self.model))
        return call(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for by copy and pickle before there is a model
            raise AttributeError(name)
        value = getattr(self.__dict__["model"], name)
        if callable(value) and name in self._options[3]:
            value = self.__dict__[name] = self._tracked(name, value)  # found there from now on
        return value

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._options[3]:
            self.__dict__.pop(name, None)
        setattr(self.model, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return Logged, (self.model, *self._options)

    def __repr__(self) -> str:
        return f"Logged({self.model!r})"

    def _tracked(self, name: str, function: Any) -> Any:
        log, model_name, version, methods = self._options
        if name not in methods:
            return function
        return track_function(log, model_name, version, _rows)(function)


def _call_of(model: Any) -> Any:
    """What tells the kind of a call: a function or partial itself, and of an object its method.

    The decorator copies what the function has in its __dict__, which of an object would be its weights.
    """
    if isinstance(model, functools.partial) or inspect.isroutine(model) or not callable(model):
        return model
    return model.__call__


def _rows(args: tuple[Any, ...]) -> dict[str, int] | None:
    """The length of the first argument: arrays and data frames have a shape, XGBoost's matrices a method, lists len."""
    try:
        rows = args[0]
        if hasattr(rows, "shape"):
            return {"rows": int(rows.shape[0])}
        return {"rows": int(rows.num_row()) if hasattr(rows, "num_row") else len(rows)}
    except Exception:  # no argument, a number, a lazy dimension
        return None
