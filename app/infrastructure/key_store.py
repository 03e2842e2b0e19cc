"""API keys in PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from sqlalchemy.exc import ProgrammingError

from app.domain.errors import NotReady
from app.domain.keys import Key, Scope
from app.infrastructure.database import Database, Row

T = TypeVar("T")

COLUMNS = "id, name, scope, hash, created_at, model_names, revoked_at"
INSERT = f"""
INSERT INTO api_key (name, scope, model_names, hash)
VALUES (%(name)s, %(scope)s, %(models)s::text[], %(hash)s)
RETURNING {COLUMNS}
"""
ALL = f"SELECT {COLUMNS} FROM api_key ORDER BY id"
REVOKE = f"""
UPDATE api_key SET revoked_at = coalesce(revoked_at, now())
WHERE  id = %(id)s
RETURNING {COLUMNS}
"""
UNDEFINED_TABLE = "42P01"


class KeyStore:
    """The table api_key. Rows are never deleted: a key that was given out stays known, and so does its end."""

    def __init__(self, database: Database, owner: Database | None = None) -> None:
        """Read with `database`; write with `owner`, where the role that answers requests may not make keys."""
        self._database = database
        self._owner = owner or database

    def add(self, name: str, scope: Scope, models: frozenset[str] | None, hash: bytes) -> Key:
        """Keep a new key and give it an id. Raises NotReady, StorageUnavailable."""
        values = {"name": name, "scope": scope.value, "models": models and sorted(models), "hash": hash}
        return _key(_migrated(lambda: self._owner.rows(INSERT, values))[0])

    def all(self) -> Sequence[Key]:
        """Every key there ever was. Raises NotReady, StorageUnavailable."""
        return [_key(row) for row in _migrated(lambda: self._database.read(ALL))]

    def revoke(self, id: int) -> Key | None:
        """End a key, now unless it has ended before; None where there is none. Raises NotReady, StorageUnavailable."""
        found = _migrated(lambda: self._owner.rows(REVOKE, {"id": id}))
        return _key(found[0]) if found else None


def _migrated(ask: Callable[[], T]) -> T:
    try:
        return ask()
    except ProgrammingError as error:
        if getattr(error.orig, "pgcode", None) != UNDEFINED_TABLE:
            raise
        raise NotReady("The database is not migrated: run `flask --app wsgi db upgrade`.") from None


def _key(row: Row) -> Key:
    id, name, scope, hash, created_at, models, revoked_at = row
    return Key(
        id=id,
        name=name,
        scope=Scope(scope),
        hash=bytes(hash),
        created_at=created_at,
        models=None if models is None else frozenset(models),
        revoked_at=revoked_at,
    )
