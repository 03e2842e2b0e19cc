"""Make keys, end them, and find out whose key a call brings."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from app.application.key_ring import KeyRing
from app.domain import keys
from app.domain.errors import InvalidInput, NotAuthenticated, NotFound
from app.domain.keys import Key, Scope
from app.domain.predictions import MODEL_NAME_LENGTH, text_problem


class KeyStore(Protocol):
    """Where keys are kept."""

    def add(self, name: str, scope: Scope, models: frozenset[str] | None, hash: bytes) -> Key: ...

    def all(self) -> Sequence[Key]: ...

    def revoke(self, id: int) -> Key | None: ...


class Keys:
    """The API keys."""

    def __init__(self, store: KeyStore, clock: Callable[[], float] = time.monotonic) -> None:
        self._store = store
        self._ring = KeyRing(store.all, clock)

    def create(self, name: str, scope: Scope, models: Iterable[str] = ()) -> tuple[Key, str]:
        """Make a key, for these models or for all, and return it with what its holder sends, which nobody can
        find out later. Raises InvalidInput.
        """
        bound = frozenset(models) or None
        _check("name", name, keys.NAME_LENGTH)
        for model in bound or ():
            _check("model", model, MODEL_NAME_LENGTH)
        if bound and scope is not Scope.WRITE:
            raise InvalidInput("model", "Only a key of scope write can be bound to models.")
        secret = keys.new_secret()
        key = self._store.add(name, scope, bound, keys.hash_of(secret))
        return key, keys.full_key(key.id, secret)

    def all(self) -> Sequence[Key]:
        """Every key there ever was."""
        return self._store.all()

    def revoke(self, id: int) -> Key:
        """End a key: within seconds no worker takes it any more. Raises NotFound."""
        key = self._store.revoke(id)
        if key is None:
            raise NotFound(f"There is no key with id {id}.")
        return key

    def identify(self, sent: str | None, *, however_old: bool = False) -> Key | None:
        """The key that a call brings; None while no key was ever made. Raises NotAuthenticated, StorageUnavailable.

        Keys that are all revoked still count: to revoke the last one opens nothing. With `however_old` the keys may be
        those from before the database went away.
        """
        known = self._ring.keys(however_old=however_old)
        if not known:
            return None
        if not sent:
            raise NotAuthenticated("A key is needed: send it as `Authorization: Bearer …` or as `X-API-Key: …`.")
        id, secret = keys.split_key(sent) or ("", "")
        key = known.get(id)
        if key is None or not key.fits(secret) or key.revoked_at is not None:
            raise NotAuthenticated("This key is unknown or revoked.")
        return key


def _check(field: str, text: str, length: int) -> None:
    if not 1 <= len(text) <= length:
        raise InvalidInput(field, f"Must have 1 to {length} characters.")
    if problem := text_problem(text):
        raise InvalidInput(field, problem)
