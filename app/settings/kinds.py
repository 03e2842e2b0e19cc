"""What the value of a setting may be, and how it is read."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

from environs import Env
from marshmallow.validate import Length, OneOf, Range

from app.settings.declaration import ConfigurationError, Kind
from app.settings.secrets import secret
from app.settings.web_names import host_problem, is_web_address, origin_problem

_DURATION = re.compile(r"(\d{1,6}) *(d|days?|h|hours?)", re.IGNORECASE)

Strings = tuple[str, ...]


def whole(low: int, high: int | None = None) -> Kind[int]:
    """A whole number between two bounds."""
    return Kind(
        lambda env, name, default: int(env.int(name, default, validate=Range(min=low, max=high))),
        f"a whole number, {_bounds(low, high)}",
    )


def number(low: float, high: float | None = None) -> Kind[float]:
    """A number between two bounds."""
    return Kind(
        lambda env, name, default: float(env.float(name, default, validate=Range(min=low, max=high))),
        f"a number, {_bounds(low, high)}",
    )


def _bounds(low: float, high: float | None) -> str:
    return f"{low:,} or more" if high is None else f"{low:,} to {high:,}"


def switch() -> Kind[bool]:
    """On or off."""
    return Kind(lambda env, name, default: bool(env.bool(name, default)), "true or false")


def text() -> Kind[str]:
    """Any text."""
    return Kind(lambda env, name, default: str(env.str(name, default, validate=Length(min=1))), "a text")


def optional_text() -> Kind[str | None]:
    """Any text; none if it is empty."""
    return Kind(lambda env, name, default: env.str(name, default) or None, "a text")


def one_of(*choices: str) -> Kind[str]:
    """One of these words."""
    allowed = OneOf(choices, error=f"Must be {' or '.join(choices)}.")
    return Kind(lambda env, name, default: str(env.str(name, default, validate=allowed)), " or ".join(choices))


def path() -> Kind[Path | None]:
    """The path of a file or a folder; none if it is empty."""
    return Kind(lambda env, name, default: Path(given) if (given := env.str(name, "")) else default, "a path")


def password() -> Kind[str | None]:
    """A secret in one line."""
    return Kind(lambda env, name, default: secret(name, env), "a text", is_secret=True)


def database(*, writes: bool) -> Kind[str | None]:
    """The address of a database, written for any PostgreSQL driver, as ours reads it; none if it is empty."""

    def read(env: Env, name: str, default: str | None) -> str | None:
        address = (secret(name, env) or "").strip()
        return canonical(name, address, writes=writes) if address else default

    return Kind(read, "the address of a database", is_secret=True)


def canonical(name: str, address: str | dict[str, str], *, writes: bool) -> str:
    """An address as SQLAlchemy reads it, from another or from its parts; `name` is the setting, for the error."""
    # Here, since settings are read without a driver, too.
    from app.infrastructure.postgres import database_url

    try:
        if isinstance(address, str):
            return database_url.canonical(address, writes=writes)
        return database_url.of_parts(address, writes=writes)
    except database_url.DatabaseUrlError as error:
        # The address may hold a password: the error does not repeat it.
        raise ConfigurationError(f"{name} {error}") from None


def web_address() -> Kind[str | None]:
    """The address of a site, without a slash at its end; none if it is empty."""

    def read(env: Env, name: str, default: str | None) -> str | None:
        address = env.str(name, "").strip().rstrip("/")
        if address and not is_web_address(address):
            raise ConfigurationError(f"{name} must be an address as https://logs.example.org, not {address!r}")
        return address or default

    return Kind(read, "an address")


def origins() -> Kind[Strings]:
    """Origins between commas."""
    return _list("origins between commas", origin_problem)


def hosts() -> Kind[Strings]:
    """Hosts between commas."""
    return _list("hosts between commas", host_problem)


def _list(description: str, problem: Callable[[str], str | None]) -> Kind[Strings]:
    """Values between commas; `problem` says in a sentence why one cannot be taken. `*` stands alone."""

    def read(env: Env, name: str, default: Strings) -> Strings:
        given = env.str(name, "")
        values = tuple(value.strip() for value in given.split(",")) if given.strip() else default
        for value in values:
            if reason := None if values == ("*",) else problem(value):
                raise ConfigurationError(f"{name}: {value!r} {reason}")
        return values

    return Kind(read, description)


def attributes() -> Kind[Strings]:
    """Names between commas, without those that are empty."""

    def read(env: Env, name: str, default: Strings) -> Strings:
        return tuple(filter(None, (part.strip() for part in env.str(name, ",".join(default)).split(","))))

    return Kind(read, "names between commas")


def duration() -> Kind[timedelta]:
    """Days or hours."""
    return Kind(
        lambda env, name, default: default if (given := env.str(name, None)) is None else _duration(name, given),
        'a duration as "90 days" or "36 hours"',
    )


def retention() -> Kind[timedelta | None]:
    """Days or hours; none (for ever) if it is empty."""
    return Kind(
        lambda env, name, default: _duration(name, given) if (given := env.str(name, "")) else default,
        'a duration as "90 days" or "36 hours"; empty: for ever',
    )


def _duration(name: str, given: str) -> timedelta:
    match = _DURATION.fullmatch(given.strip())
    if match is None or int(match[1]) == 0 or int(match[1]) > 100_000:
        raise ConfigurationError(f'{name} must be a duration like "90 days" or "36 hours", not "{given}"')
    return timedelta(**{"days" if match[2].lower().startswith("d") else "hours": int(match[1])})
