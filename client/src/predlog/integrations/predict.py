"""Anything with `predict` or that can be called: scikit-learn, XGBoost, Keras, a torch module."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from inspect import isasyncgenfunction, iscoroutinefunction, isgeneratorfunction
from typing import TYPE_CHECKING, Any

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
        return self._tracked("__call__", self.model)(*args, **kwargs)

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
        if any(kind(function) for kind in (iscoroutinefunction, isgeneratorfunction, isasyncgenfunction)):
            return log.tracked(model_name, version)(function)

        @functools.wraps(function)
        def logged(*args: Any, **kwargs: Any) -> Any:
            with log.track(model_name, version) as call:
                rows = _rows(args)
                if rows is not None:
                    call.metadata["rows"] = rows
                return function(*args, **kwargs)

        return logged


def _rows(args: tuple[Any, ...]) -> int | None:
    """The length of the first argument: arrays and data frames have a shape, XGBoost's matrices a method, lists len."""
    try:
        rows = args[0]
        if hasattr(rows, "shape"):
            return int(rows.shape[0])
        return int(rows.num_row()) if hasattr(rows, "num_row") else len(rows)
    except Exception:  # no argument, a number, a lazy dimension
        return None
