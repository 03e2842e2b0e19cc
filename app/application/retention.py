"""Keep the aggregates up, and old rows out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol


@dataclass(frozen=True)
class LifeCycle:
    """How long each level is kept (forever where it is missing), and after what time raw rows go to the columnstore.

    The levels are `raw`, `minute`, `hour` and `day`; a coarser one is never kept shorter than a finer one.
    """

    keep: Mapping[str, timedelta]
    columnstore_after: timedelta


@dataclass(frozen=True)
class Progress:
    """How far a refresh has come: `done` of `total` seconds of history, then `hours_left` changed hours to repair."""

    done: float
    total: float
    hours_left: int | None = None


@dataclass(frozen=True)
class Relation:
    """What one table or aggregate takes on disk. Sizes in bytes; `ratio` is uncompressed to compressed."""

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
class Overview:
    """The life cycle as it is now."""

    engine: str
    watermark: datetime
    hours_pending_repair: int
    relations: Sequence[Relation]
    jobs: Sequence[Job]


class Maintenance(Protocol):
    """What each storage engine does in its own way."""

    def refresh(self, piece: timedelta) -> Iterator[Progress]:
        """Materialise and repair all there is, piece by piece; it may be interrupted between two of them."""
        ...

    def apply(self, life_cycle: LifeCycle) -> None:
        """Make these settings the database's own."""
        ...

    def retain(self, life_cycle: LifeCycle) -> None:
        """Drop what is older than it is to be kept."""
        ...

    def overview(self) -> Overview:
        """Sizes, chunks, jobs and their last runs."""
        ...
