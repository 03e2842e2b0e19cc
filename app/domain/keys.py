"""API keys: who holds one may log, or read, or everything."""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

NAME_LENGTH = 200
SECRET_BYTES = 32
_MARK = "predlog"


class Scope(str, Enum):
    """What a key is for."""

    WRITE = "write"
    READ = "read"
    ADMIN = "admin"

    def allows(self, needed: Scope) -> bool:
        """Writing does not include reading, nor reading writing; `admin` includes both, and may delete."""
        return self is needed or self is Scope.ADMIN


@dataclass(frozen=True)
class Key:
    """A key as it is kept: never with its secret, only with the secret's hash.

    `models` are the names that a key of scope `write` may log; None stands for any.
    """

    id: int
    name: str
    scope: Scope
    hash: bytes = field(repr=False)
    created_at: datetime
    models: frozenset[str] | None = None
    revoked_at: datetime | None = None

    def fits(self, secret: str) -> bool:
        """Whether this is the key's secret, found out in a time that says nothing about it."""
        return hmac.compare_digest(hash_of(secret), self.hash)


def new_secret() -> str:
    """256 random bits, as 43 characters that need no escaping."""
    return secrets.token_urlsafe(SECRET_BYTES)


def hash_of(secret: str) -> bytes:
    """What is kept of a secret. One round of SHA-256 is enough: nobody can try 2^256 secrets, however fast."""
    return hashlib.sha256(secret.encode()).digest()


def full_key(id: int, secret: str) -> str:
    """The key as its holder sends it; the id in it says which key a stray one is, and which to revoke."""
    return f"{_MARK}_{id}_{secret}"


def split_key(key: str) -> tuple[str, str] | None:
    """The id and the secret of a key as it is sent, or None for what cannot be one."""
    mark, _, rest = key.partition("_")
    id, _, secret = rest.partition("_")
    return (id, secret) if mark == _MARK and id and secret else None
