"""Metadata as JSON that the service stores: a value that JSON cannot say costs that value alone."""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import re
from collections.abc import Iterable, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from pathlib import PurePath
from typing import Any
from uuid import UUID

from predlog.text import REPLACEMENT, text_of

MAX_BYTES = 4096
MAX_DEPTH = 100  # levels of objects and arrays, the metadata itself included
MAX_ARRAY_ITEMS = 1000
MAX_NODES = MAX_BYTES  # more values than bytes can never fit

_ESCAPED_NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
_LONG_NUMBER = re.compile(r"[0-9]{300}")  # may be beyond the largest double, which the service refuses
_LARGEST = 10**300


def snapshot(value: Any) -> Any:
    """In the caller's thread: the metadata as a dict of its own, one level deep; never raises."""
    try:
        return _fields(value)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a value's own method may raise even SystemExit
        return {"predlog_left_out": f"not readable ({type(error).__name__})"}


def metadata_json(metadata: Any, odd: list[str]) -> bytes:
    """Metadata as compact UTF-8 JSON of at most 4096 bytes; what does not fit gives way to a note, not to an error.

    What could not be said in JSON is named in `odd`, by its place and type.
    """
    fields = metadata if isinstance(metadata, dict) else snapshot(metadata)
    try:
        text = _encode(fields)
    except KeyboardInterrupt:
        raise
    except BaseException:  # a value's own method may raise even SystemExit; tidy() finds which
        text = ""
    if not text or text.count("{") + text.count("[") > MAX_DEPTH or _LONG_NUMBER.search(text):
        try:
            text = _encode(_Tidy(odd).tidy(fields, "metadata", 1))
        except Exception as error:
            odd.append(f"metadata ({type(error).__name__})")
            return _left_out(f"not JSON ({type(error).__name__})")
    data = _ESCAPED_NUL.sub(r"\1" + REPLACEMENT, text).encode("utf-8", "replace")
    if len(data) > MAX_BYTES:
        return _left_out(f"{len(data)} bytes of JSON, more than {MAX_BYTES}")
    return data


def _fields(value: Any) -> dict[Any, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    if not isinstance(value, type):
        if dataclasses.is_dataclass(value):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        if hasattr(type(value), "model_fields") or hasattr(type(value), "__fields__"):  # pydantic
            return dict(value)
        if hasattr(value, "__attrs_attrs__"):
            return {field.name: getattr(value, field.name) for field in value.__attrs_attrs__}
        if hasattr(value, "_asdict"):  # namedtuple
            return dict(value._asdict())
    return {"value": list(value) if isinstance(value, (list, tuple, set, frozenset)) else value}


def _left_out(why: str) -> bytes:
    return _encode({"predlog_left_out": why}).encode()


def _plain(value: Any) -> Any:
    """What JSON has no word for, but a good one close by; raises TypeError for all else."""
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, (date, time)):  # a datetime is a date
        return value.isoformat()
    if isinstance(value, (Decimal, UUID, PurePath, timedelta, complex)):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    if isinstance(value, (bytes, bytearray)):
        return value.decode("utf-8", "replace")
    if not isinstance(value, type):
        if hasattr(value, "tolist"):  # NumPy's scalars and arrays, pandas' series, tensors
            return value.tolist() if _size(value) <= MAX_ARRAY_ITEMS else text_of(value)
        if dataclasses.is_dataclass(value) or hasattr(type(value), "model_fields"):
            return _fields(value)
    raise TypeError


def _size(value: Any) -> int:
    """How many items an array has: a tensor's `size` is a method, but it counts them in numel()."""
    size = getattr(value, "size", 1)
    return int(value.numel() if callable(size) else size)


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plain).encode


class _Tidy:
    """Makes a copy that JSON can say: string keys, null for NaN and the infinities, notes for what there is no word."""

    def __init__(self, odd: list[str]) -> None:
        self._odd = odd
        self._nodes = 0

    def tidy(self, value: Any, path: str, depth: int) -> Any:
        """The value; never raises for its sake."""
        try:
            return self._tidy(value, path, depth)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # whatever a value's own methods raise
            return self._note(value, path, type(error).__name__)

    def _tidy(self, value: Any, path: str, depth: int) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            return None  # it is too long for certain, and is left out as a whole
        kind = type(value)
        if value is None or kind is bool or isinstance(value, str):
            return value
        if isinstance(value, int):
            return value if -_LARGEST < value < _LARGEST else self._note(value, path, "too large a number")
        if isinstance(value, float):
            return value if math.isfinite(value) else None
        if isinstance(value, (Mapping, list, tuple)):
            if depth > MAX_DEPTH:
                return self._note(value, path, f"deeper than {MAX_DEPTH} levels")
            return self._members(value, path, depth)
        if depth > MAX_DEPTH + 1:  # its plain form is another such value, and so on
            return self._note(value, path, "not JSON")
        try:
            plain = _plain(value)
        except TypeError:
            self._odd.append(f"{path} ({kind.__name__})")
            return text_of(value)
        return self.tidy(plain, path, depth if isinstance(plain, (Mapping, list)) else depth + 1)

    def _members(self, value: Mapping[Any, Any] | Iterable[Any], path: str, depth: int) -> Any:
        if not isinstance(value, Mapping):
            return [self.tidy(item, f"{path}[{index}]", depth + 1) for index, item in self._few(enumerate(value))]
        members = {}
        for key, item in self._few(value.items()):
            name = text_of(key)
            members[name] = self.tidy(item, f"{path}.{name}", depth + 1)
        return members

    def _few(self, items: Iterable[Any]) -> Iterable[Any]:
        for item in items:
            if self._nodes > MAX_NODES:
                return
            yield item

    def _note(self, value: Any, path: str, why: str) -> str:
        self._odd.append(f"{path} ({type(value).__name__})")
        return f"predlog_left_out: {why}"
