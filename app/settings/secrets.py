"""Secrets, each in the environment or in a file that the environment names."""

from __future__ import annotations

from environs import Env

from app.settings.declaration import ConfigurationError

MAX_SECRET_BYTES = 64 * 1024


def secret(name: str, env: Env | None = None) -> str | None:
    """Return the secret NAME, or the content of the file that NAME_FILE names; None if both are unset or empty.

    Line ends at the end of the file are left out. Raises ConfigurationError, which never repeats the secret.
    """
    env = env or Env()
    value, path = env.str(name, None), env.str(f"{name}_FILE", None)
    if not path:
        return value or None
    if value:
        raise ConfigurationError(f"{name} and {name}_FILE are both set: leave one of them out")
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_SECRET_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "its name is not valid"
        raise ConfigurationError(f"{name}_FILE names {path!r}, which cannot be read: {reason}") from None
    try:
        text = content.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigurationError(f"{name}_FILE names {path!r}, which is not UTF-8 text") from None
    if not text or len(content) > MAX_SECRET_BYTES or any(character in text for character in "\r\n\0"):
        raise ConfigurationError(f"{name}_FILE names {path!r}, which does not hold one line with the secret")
    return text
