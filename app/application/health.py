"""Readiness: whether the service may get traffic."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from app.domain.errors import NotReady


@dataclass(frozen=True)
class SchemaState:
    """The revision of the database, the revision that this code needs, and the storage engine.

    `is_writable`: whether the server takes writes; `missing`: tables that do not exist or that the role may not use;
    `nodes_away`: addresses of servers that hold a part of the models and do not answer.
    """

    revision: str | None
    head: str
    engine: str | None
    is_writable: bool = True
    missing: tuple[str, ...] = ()
    nodes_away: tuple[str, ...] = ()


class Schema(Protocol):
    """The questions of the readiness check to the database."""

    def state(self) -> SchemaState: ...


class Readiness:
    """Ready while the database takes writes and is migrated to head, until the process is told to stop."""

    def __init__(self, schema: Schema, is_stopping: Callable[[], bool]) -> None:
        self._schema = schema
        self._is_stopping = is_stopping

    def check(self) -> SchemaState:
        """Return the state, which has an engine. Raises NotReady or StorageUnavailable.

        While some nodes are away the service is ready, because the models on other nodes can be logged.
        """
        if self._is_stopping():
            raise NotReady("The service is shutting down.")
        state = self._schema.state()
        if state.revision != state.head or state.engine is None:
            raise NotReady(f"The database is at revision {state.revision}, this service needs {state.head}.")
        if state.missing:
            raise NotReady(f"The database has no {' and no '.join(state.missing)} that the service may use.")
        if not state.is_writable:
            raise NotReady("The database is read-only.")
        return state
