"""API keys in PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from app.domain.keys import ApiKey, Scope
from app.infrastructure.postgres.database import Database, Row

COLUMNS = (
    "id, name, scope, hash, created_at, model_names, revoked_at, expires_at, last_used_at, previous_hash, "
    "previous_until"
)
INSERT = f"""
INSERT INTO api_key (name, scope, model_names, hash, expires_at)
VALUES (%(name)s, %(scope)s, %(models)s::text[], %(hash)s, %(expires_at)s)
RETURNING {COLUMNS}
"""
# If two commands run at the same time, the unique index admits one key.
INSERT_FIRST = f"""
INSERT INTO api_key (name, scope, hash)
SELECT %(name)s, %(scope)s, %(hash)s
WHERE  NOT EXISTS (SELECT FROM api_key)
ON CONFLICT (hash) DO NOTHING
RETURNING {COLUMNS}
"""
ALL = f"SELECT {COLUMNS} FROM api_key ORDER BY id"
REVOKE = f"""
UPDATE api_key SET revoked_at = coalesce(revoked_at, now())
WHERE  id = %(id)s
RETURNING {COLUMNS}
"""
ROTATE = f"""
UPDATE api_key
SET    hash = %(new)s, previous_hash = CASE WHEN %(until)s::timestamptz IS NOT NULL THEN hash END,
       previous_until = %(until)s
WHERE  id = %(id)s AND hash = %(old)s AND revoked_at IS NULL
RETURNING {COLUMNS}
"""
# Locked in the order of their ids, so that two workers never deadlock.
MARK_USED = """
WITH used AS (
    SELECT api_key.id, times.at
    FROM   api_key JOIN unnest(%(ids)s::bigint[], %(times)s::timestamptz[]) AS times (id, at) USING (id)
    ORDER  BY api_key.id
    FOR    NO KEY UPDATE OF api_key
)
UPDATE api_key SET last_used_at = greatest(last_used_at, used.at)
FROM   used
WHERE  api_key.id = used.id
"""


class PostgresKeyStore:
    """The table api_key. Rows are never deleted: a key that was given out stays known, and so does its end."""

    def __init__(self, database: Database, owner: Database | None = None) -> None:
        """Read with `database`; write with `owner` if the role that answers requests may not make keys."""
        self._database = database
        self._owner = owner or database

    def add(
        self,
        name: str,
        scope: Scope,
        models: frozenset[str] | None,
        key_hash: bytes,
        expires_at: datetime | None = None,
    ) -> ApiKey:
        """Keep a new key and give it an id. Raises StorageUnavailable."""
        values = {
            "name": name,
            "scope": scope.value,
            "models": models and sorted(models),
            "hash": key_hash,
            "expires_at": expires_at,
        }
        return _key(self._owner.rows(INSERT, values)[0])

    def add_first(self, name: str, scope: Scope, key_hash: bytes) -> ApiKey | None:
        """Keep a new key; return None if a key was ever made before. Raises StorageUnavailable."""
        values = {"name": name, "scope": scope.value, "hash": key_hash}
        return _first(self._owner.rows(INSERT_FIRST, values))

    def all(self) -> Sequence[ApiKey]:
        """Return every key that was ever made. Raises StorageUnavailable."""
        return [_key(row) for row in self._database.read(ALL)]

    def revoke(self, key_id: int) -> ApiKey | None:
        """Revoke a key unless it is revoked already; return None if there is no such key. Raises StorageUnavailable."""
        return _first(self._owner.rows(REVOKE, {"id": key_id}))

    def rotate(self, key: ApiKey, key_hash: bytes, previous_until: datetime | None) -> ApiKey | None:
        """Replace the hash of a key; the old one stays accepted until `previous_until`.

        Returns None if the key has changed since it was read.

        Raises StorageUnavailable.
        """
        values = {"id": key.id, "old": key.hash, "new": key_hash, "until": previous_until}
        return _first(self._owner.rows(ROTATE, values))

    def mark_used(self, times: Mapping[int, datetime]) -> None:
        """Keep the times of the last uses by key id. Raises StorageUnavailable."""
        values = {"ids": list(times), "times": list(times.values())}
        self._database.count(MARK_USED, values)


def _first(rows: Sequence[Row]) -> ApiKey | None:
    return _key(rows[0]) if rows else None


def _key(row: Row) -> ApiKey:
    (
        id,
        name,
        scope,
        hash,
        created_at,
        models,
        revoked_at,
        expires_at,
        last_used_at,
        previous_hash,
        previous_until,
    ) = row
    return ApiKey(
        id=id,
        name=name,
        scope=Scope(scope),
        hash=bytes(hash),
        created_at=created_at,
        models=None if models is None else frozenset(models),
        revoked_at=revoked_at,
        expires_at=expires_at,
        last_used_at=last_used_at,
        previous_hash=None if previous_hash is None else bytes(previous_hash),
        previous_until=previous_until,
    )
