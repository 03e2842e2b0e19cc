"""API keys: the holder of a key may log, or read, or do everything."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

MAX_NAME_LENGTH = 200
SECRET_BYTES = 32
# A key that an operator makes up: 32 random characters are 128 bits and more.
MIN_GIVEN_KEY_LENGTH, MAX_GIVEN_KEY_LENGTH = 32, 200
_MARK = "predlog"
_GIVEN_KEY = re.compile(rf"[!-~]{{{MIN_GIVEN_KEY_LENGTH},{MAX_GIVEN_KEY_LENGTH}}}", re.ASCII)
_DIFFERENT_CHARACTERS = 8


class Scope(str, Enum):
    """What the holder of a key may do."""

    WRITE = "write"
    READ = "read"
    ADMIN = "admin"

    def allows(self, needed: Scope) -> bool:
        """Writing does not include reading, nor reading writing; `admin` includes both, and may delete."""
        return self is needed or self is Scope.ADMIN


@dataclass(frozen=True)
class ApiKey:
    """A key as it is kept: never with its secret, only with the secret's hash.

    `models` are the names that a key of scope `write` may log, or a key of scope `read` may read; None stands for any.
    After a rotation the old secret, whose hash is `previous_hash`, is accepted until `previous_until`.
    `last_used_at` is right to about a minute; None if the key was never used.
    """

    id: int
    name: str
    scope: Scope
    hash: bytes = field(repr=False)
    created_at: datetime
    models: frozenset[str] | None = None
    revoked_at: datetime | None = None
    expires_at: datetime | None = None
    last_used_at: datetime | None = None
    previous_hash: bytes | None = field(default=None, repr=False)
    previous_until: datetime | None = None

    def accepts(self, key_hash: bytes, now: datetime) -> bool:
        """Return whether this is the hash of the key's secret, or of its old secret while that is still accepted."""
        fits_now = hmac.compare_digest(key_hash, self.hash)
        fits_before = self.previous_hash is not None and hmac.compare_digest(key_hash, self.previous_hash)
        return fits_now or (fits_before and self.has_previous(now))

    def has_previous(self, now: datetime) -> bool:
        """Return whether the secret before the last rotation is still accepted."""
        return self.previous_until is not None and now < self.previous_until

    def has_expired(self, now: datetime) -> bool:
        """Return whether the key has expired."""
        return self.expires_at is not None and self.expires_at <= now

    def holds(self, now: datetime) -> bool:
        """Whether the key is neither revoked nor expired."""
        return self.revoked_at is None and not self.has_expired(now)


def new_secret() -> str:
    """256 random bits, as 43 characters that need no escaping."""
    return secrets.token_urlsafe(SECRET_BYTES)


def hash_of(secret: str) -> bytes:
    """Return the hash that is kept of a secret. One round of SHA-256 is enough: no attacker can try 2^256 secrets."""
    return hashlib.sha256(secret.encode()).digest()


def hash_of_given(key: str) -> bytes:
    """Return the hash that is kept of an operator's own key; it never equals the hash of a secret made by Predlog."""
    return hashlib.sha256(b"given\0" + key.encode()).digest()


def given_key_problem(key: str) -> str | None:
    """Return a sentence, without the key in it, that says why an operator's own key is refused; None if it is not."""
    if key.startswith(f"{_MARK}_"):
        return f"must not begin with {_MARK}_, as the keys do that Predlog makes itself"
    if not _GIVEN_KEY.fullmatch(key) or len(set(key)) < _DIFFERENT_CHARACTERS:
        return (
            f"must be {MIN_GIVEN_KEY_LENGTH} to {MAX_GIVEN_KEY_LENGTH} random ASCII characters without spaces: "
            "take the output of `openssl rand -hex 32`"
        )
    return None


def full_key(key_id: int, secret: str) -> str:
    """Return the key as its holder sends it. The id in it tells an operator which key to revoke if it has leaked."""
    return f"{_MARK}_{key_id}_{secret}"


def split_key(key: str) -> tuple[str, str] | None:
    """Return the id and the secret of a key as its holder sends it; None for a text that Predlog has not made."""
    mark, _, rest = key.partition("_")
    id, _, secret = rest.partition("_")
    return (id, secret) if mark == _MARK and id and secret else None
