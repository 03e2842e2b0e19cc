"""The state of the database's schema."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from alembic.script import ScriptDirectory

from app.application.health import SchemaState
from app.infrastructure.database import Database, NotMigrated

MIGRATIONS = Path(__file__).parents[2] / "migrations"
STATE = "SELECT version_num, engine FROM alembic_version, prediction_stats_state"


class Schema:
    """Which migrations have run."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @cached_property
    def _head(self) -> str:
        return ScriptDirectory(str(MIGRATIONS)).get_current_head() or ""

    def state(self) -> SchemaState:
        """Read the revision and the engine; both None where nothing has been migrated yet."""
        try:
            revision, engine = self._database.read(STATE)[0]
        except NotMigrated:
            revision = engine = None
        return SchemaState(revision, self._head, engine)
