"""Refresh the aggregates, and drop old rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True)
class LifeCycle:
    """How long each level is kept (forever if it is missing), and the age at which raw rows go to the columnstore.

    The levels are `raw`, `minute`, `hour` and `day`; a coarser one is never kept shorter than a finer one.
    """

    keep: Mapping[str, timedelta]
    columnstore_after: timedelta


@dataclass(frozen=True)
class Progress:
    """The progress of a refresh: `done` of `total` seconds of history, then `hours_left` invalidated hours."""

    done: float
    total: float
    hours_left: int | None = None


@dataclass(frozen=True)
class Relation:
    """The size of one table or aggregate on disk, in bytes; `ratio` is uncompressed to compressed."""

    name: str
    rows: int | None
    size: int
    chunks: int | None = None
    columnstore_chunks: int | None = None
    ratio: float | None = None
    kept_from: datetime | None = None


@dataclass(frozen=True)
class Job:
    """A job of the database: what it does, how often, and how its last run went."""

    name: str
    relation: str | None
    every: timedelta
    last_run: datetime | None
    last_status: str | None
    next_run: datetime | None
    failures: int


@dataclass(frozen=True)
class Node:
    """A server that holds a part of the tables: how many shards, and their size in bytes; None if it is away."""

    name: str
    shards: int | None
    size: int | None


@dataclass(frozen=True)
class Overview:
    """The life cycle as it is now."""

    engine: str
    watermark: datetime
    hours_pending_repair: int
    relations: Sequence[Relation]
    jobs: Sequence[Job]
    nodes: Sequence[Node] = ()


class Maintenance(Protocol):
    """The maintenance that each storage engine does in its own way."""

    def refresh(self, piece: timedelta) -> Iterator[Progress]:
        """Refresh all levels and invalidated hours, piece by piece; the caller may stop between two pieces."""
        ...

    def apply(self, life_cycle: LifeCycle) -> None:
        """Give these settings to the jobs of the database."""
        ...

    def retain(self, life_cycle: LifeCycle) -> None:
        """Drop rows and buckets that are older than the settings keep them."""
        ...

    def overview(self) -> Overview:
        """Return sizes, chunks, jobs and their last runs."""
        ...
