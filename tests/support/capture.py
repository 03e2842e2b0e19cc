"""The statements that the service sends, and what their plans would read."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Engine, event

CHUNKS = "SELECT chunk_name FROM timescaledb_information.chunks WHERE hypertable_name = 'prediction_log'"
CONDITIONS = ("Index Cond", "Recheck Cond", "Filter", "Vectorized Filter")


@dataclass(frozen=True)
class Statement:
    """A statement as it was sent, and the pool that it was sent through."""

    text: str
    parameters: Any
    engine: Engine

    def scans_of_the_log(self, *settings: str) -> list[Scan]:
        """Which parts of prediction_log its plan reads; `settings` are those of the session for this once."""
        with self.engine.connect() as connection:
            for setting in settings:
                connection.exec_driver_sql(f"SET {setting}")
            explain = f"EXPLAIN (VERBOSE, FORMAT JSON) {self.text}"
            plan = connection.exec_driver_sql(explain, self.parameters).scalar_one()
            for setting in settings:
                connection.exec_driver_sql(f"RESET {setting.split('=')[0]}")
            parts = _parts_of_the_log(connection)
        return [
            Scan(node["Relation Name"], node["Node Type"], " ".join(node.get(name, "") for name in CONDITIONS))
            for node in _nodes(plan[0]["Plan"])
            if node.get("Relation Name") in parts
            and node["Node Type"] != "ModifyTable"
            and node.get("Custom Plan Provider") != "ChunkAppend"
        ]


@dataclass(frozen=True)
class Scan:
    """A node of a plan that reads rows of the log: the table or a chunk of it, how, and under which conditions."""

    relation: str
    kind: str
    conditions: str


@contextmanager
def statements() -> Iterator[list[Statement]]:
    """Note every statement that is sent to a database meanwhile.

    Not those of timers: that of an earlier test's service may write just now which keys were used.
    """
    sent: list[Statement] = []

    def note(connection: Any, cursor: Any, text: str, parameters: Any, *_: Any) -> None:
        if not isinstance(threading.current_thread(), threading.Timer):
            sent.append(Statement(text, parameters, connection.engine))

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield sent
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def _parts_of_the_log(connection: Connection) -> set[str]:
    has_chunks = connection.exec_driver_sql("SELECT to_regclass('timescaledb_information.chunks') IS NOT NULL").scalar()
    return {"prediction_log", *(connection.exec_driver_sql(CHUNKS).scalars() if has_chunks else ())}


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for child in node.get("Plans", ()):
        yield from _nodes(child)
