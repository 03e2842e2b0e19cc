"""The state of the database's schema."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from alembic.script import ScriptDirectory

from app.application.health import SchemaState
from app.infrastructure import citus
from app.infrastructure.postgres.database import Database, NotMigrated

_APP = Path(__file__).parents[2]
# An installed package holds the migrations; in a checkout they are beside it.
MIGRATIONS = next(
    (folder for folder in (_APP / "migrations", _APP.parent / "migrations") if folder.is_dir()), _APP / "migrations"
)
# Without these nothing can be logged.
NEEDED = {"prediction_log": "INSERT", "prediction_dropped": "INSERT", "api_key": "SELECT"}
STATE = f"""
SELECT version_num, engine, NOT current_setting('transaction_read_only')::boolean,
       ARRAY(SELECT name FROM (VALUES {", ".join(map(str, NEEDED.items()))}) AS needed (name, privilege)
             WHERE  has_table_privilege(to_regclass(name), privilege) IS NOT TRUE)
FROM   alembic_version, prediction_stats_state
"""


class PostgresSchema:
    """The revision of the database."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @cached_property
    def _head(self) -> str:
        return ScriptDirectory(str(MIGRATIONS)).get_current_head() or ""

    def state(self) -> SchemaState:
        """Read the state; revision and engine are None if nothing has been migrated yet.

        The sessions of a server that has become read-only stay so, even if it or another server takes writes again. So
        they are replaced, and the state is read on a new one.
        """
        state = self._read()
        if not state.is_writable:
            self._database.reconnect()
            state = self._read()
        return state

    def _read(self) -> SchemaState:
        try:
            revision, engine, is_writable, missing = self._database.read(STATE)[0]
        except (NotMigrated, IndexError):
            return SchemaState(None, self._head, None)
        away = self._database.read(citus.NODES_AWAY) if engine == citus.NAME else []
        nodes = tuple(node for (node,) in away)
        return SchemaState(revision, self._head, engine, is_writable, tuple(missing), nodes)
