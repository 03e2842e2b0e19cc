"""A setting is declared once, as the field of a dataclass: its name, what it may be, its default, and what it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Generic, TypeVar

from environs import Env

T = TypeVar("T")


class ConfigurationError(Exception):
    """The service cannot start with a setting; the text names the setting and says which values it may have."""


@dataclass(frozen=True)
class Kind(Generic[T]):
    """What a value may be.

    `read` takes the name and the default, and raises EnvError or ConfigurationError; `description` completes "It is …".
    """

    read: Callable[[Env, str, T], T]
    description: str
    is_secret: bool = False


@dataclass(frozen=True)
class Setting:
    """A setting as it is declared."""

    name: str
    kind: Kind[Any]
    default: Any
    meaning: str
    example: str

    @property
    def default_text(self) -> str:
        """The default as one writes it; empty if there is none."""
        value = self.default
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, float):
            return f"{value:g}"
        if isinstance(value, tuple):
            return ",".join(value)
        if isinstance(value, timedelta):
            hours = value // timedelta(hours=1)
            number, unit = (hours, "hour") if hours % 24 else (hours // 24, "day")
            return f"{number} {unit}{'' if number == 1 else 's'}"
        return "" if value is None else str(value)


def setting(kind: Kind[T], default: T, meaning: str, *, example: str = "") -> T:
    """The field of a setting that the environment names in capital letters.

    `meaning` is one or more sentences for people; `example` is shown if there is no default.
    """
    declared: T = field(
        default=default,
        repr=not kind.is_secret,
        metadata={"kind": kind, "meaning": meaning, "example": example},
    )
    return declared


def declared(settings: type) -> Iterator[Setting]:
    """The settings of a dataclass, in their order."""
    for each in fields(settings):
        yield Setting(each.name.upper(), default=each.default, **each.metadata)


def read(settings: type, env: Env) -> dict[str, Any]:
    """The values of a dataclass's settings, by the names of its fields. Raises EnvError or ConfigurationError."""
    return {each.name.lower(): each.kind.read(env, each.name, each.default) for each in declared(settings)}
