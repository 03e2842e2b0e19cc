"""Create, rotate and revoke keys, and identify the key of a request."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime, timedelta, timezone
from typing import Protocol

from app.application.key_cache import KeyRing
from app.application.key_usage import KeyUsage
from app.domain import keys
from app.domain.errors import InvalidInput, NotAuthenticated, NotFound
from app.domain.keys import ApiKey, Scope
from app.domain.predictions import MAX_MODEL_NAME_LENGTH, text_problem

FIRST_KEY = "first admin key"


class KeyStore(Protocol):
    """The store of keys."""

    def add(
        self,
        name: str,
        scope: Scope,
        models: frozenset[str] | None,
        key_hash: bytes,
        expires_at: datetime | None = None,
    ) -> ApiKey: ...

    def add_first(self, name: str, scope: Scope, key_hash: bytes) -> ApiKey | None: ...

    def all(self) -> Sequence[ApiKey]: ...

    def revoke(self, key_id: int) -> ApiKey | None: ...

    def rotate(self, key: ApiKey, key_hash: bytes, previous_until: datetime | None) -> ApiKey | None: ...

    def mark_used(self, times: Mapping[int, datetime]) -> None: ...


def utc_now() -> datetime:
    """Return the time of this machine's clock."""
    return datetime.now(timezone.utc)


class Keys:
    """The API keys."""

    def __init__(
        self,
        store: KeyStore,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = utc_now,
    ) -> None:
        self._store = store
        self._ring = KeyRing(store.all, clock)
        self._usage = KeyUsage(store.mark_used)
        self._now = now

    def create(
        self, name: str, scope: Scope, models: Iterable[str] = (), expires_at: datetime | None = None
    ) -> tuple[ApiKey, str]:
        """Create a key for these models (all if none are named) that expires at `expires_at` (never if None).

        Returns the key and its full text, which its holder sends and which is not kept. Raises InvalidInput.
        """
        bound = frozenset(models) or None
        _check("name", name, keys.MAX_NAME_LENGTH)
        for model in bound or ():
            _check("model", model, MAX_MODEL_NAME_LENGTH)
        if bound and scope is Scope.ADMIN:
            raise InvalidInput("model", "A key of scope admin cannot be bound to models.")
        if expires_at is not None and expires_at <= self._now():
            raise InvalidInput("expires", "Must lie in the future.")
        secret = keys.new_secret()
        key = self._store.add(name, scope, bound, keys.hash_of(secret), expires_at)
        return key, keys.full_key(key.id, secret)

    def create_first(self, given: str) -> tuple[ApiKey | None, bool]:
        """Keep an operator's own key as the first admin key, unless a key was ever made.

        Returns the new key, or None, and whether requests with the operator's key are accepted now.
        """
        made = self._store.add_first(FIRST_KEY, Scope.ADMIN, keys.hash_of_given(given))
        if made:
            return made, True
        known, now = self._store.all(), self._now()
        found = _of_given({str(key.id): key for key in known}, given, now)
        return None, found is not None and found.holds(now)

    def all(self) -> Sequence[ApiKey]:
        """Return every key that was ever made, revoked and expired ones included."""
        return self._store.all()

    def revoke(self, key_id: int) -> ApiKey:
        """Revoke a key: within seconds no worker accepts it any more. Raises NotFound."""
        key = self._store.revoke(key_id)
        if key is None:
            raise _no_such_key(key_id)
        return key

    def rotate(self, key_id: int, grace: timedelta) -> tuple[ApiKey, str]:
        """Give a key a new secret; the old secret stays accepted for `grace`.

        Returns the key and its new full text. Without grace every older secret ends at once. Raises NotFound, and
        InvalidInput if the key has ended or if an older secret is still accepted.
        """
        now = self._now()
        key = next((key for key in self._store.all() if key.id == key_id), None)
        if key is None:
            raise _no_such_key(key_id)
        if not key.holds(now):
            raise InvalidInput("id", f"Key {key_id} has ended; make a new one.")
        if grace and key.has_previous(now):
            raise InvalidInput(
                "grace",
                f"Key {key_id} was rotated before, and its older secret is accepted still. "
                "Rotate it when that has ended, or with a grace of 0, which ends both older secrets at once.",
            )
        secret = keys.new_secret()
        renewed = self._store.rotate(key, keys.hash_of(secret), now + grace if grace else None)
        if renewed is None:
            raise InvalidInput("id", f"Key {key_id} was changed by another command at the same time; look at it again.")
        return renewed, keys.full_key(key_id, secret)

    def identify(self, sent: str | None, *, however_old: bool = False) -> ApiKey | None:
        """Return the key that a request sent; None as long as no key was ever made.

        Revoked keys still count: a service without a valid key stays closed. With `however_old` the keys may be those
        from before the database went away. Raises NotAuthenticated and StorageUnavailable.
        """
        known = self._ring.keys(however_old=however_old)
        if not known:
            return None
        if not sent:
            raise NotAuthenticated("A key is needed: send it as `Authorization: Bearer …` or as `X-API-Key: …`.")
        now = self._now()
        key = _of(known, sent, now)
        if key is None or key.revoked_at is not None:
            raise NotAuthenticated("This key is unknown or revoked.")
        if key.has_expired(now):
            raise NotAuthenticated("This key has expired.")
        self._usage.note(key.id, now)
        return key


def _of(known: Mapping[str, ApiKey], sent: str, now: datetime) -> ApiKey | None:
    parts = keys.split_key(sent)
    if parts is None:
        return _of_given(known, sent, now)
    id, secret = parts
    key = known.get(id)
    return key if key and key.accepts(keys.hash_of(secret), now) else None


def _of_given(known: Mapping[str, ApiKey], sent: str, now: datetime) -> ApiKey | None:
    """Find an operator's own key by its hash, because it has no id in it."""
    hash = keys.hash_of_given(sent)
    return next((key for key in known.values() if key.accepts(hash, now)), None)


def _no_such_key(key_id: int) -> NotFound:
    return NotFound(f"There is no key with id {key_id}.")


def _check(field: str, text: str, length: int) -> None:
    if not 1 <= len(text) <= length:
        raise InvalidInput(field, f"Must have 1 to {length} characters.")
    if problem := text_problem(text):
        raise InvalidInput(field, problem)
