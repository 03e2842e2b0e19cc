"""Choose the server that answers a question: a replica of the database if one keeps up, else the primary.

A whole answer comes from one server. Each server has its own plans and its own segment cache, because a replica and its
primary are at different moments of the same history.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from app.application.catalogue import Catalogue
from app.application.comparison import Comparisons
from app.application.error_groups import ErrorGroups
from app.application.export import PredictionExport
from app.application.model_statistics import ModelStatistics
from app.application.prediction_list import PredictionList
from app.application.segment_cache import Memory
from app.application.statistics import Answer, GroupKey, Part, Question, Statistics, StatisticsStore
from app.domain.errors import StorageBusy, StorageUnavailable

T = TypeVar("T")


@dataclass(frozen=True)
class Reader:
    """The use cases that only read, on one server."""

    prediction_list: PredictionList
    statistics: Statistics
    comparisons: Comparisons
    catalogue: Catalogue
    export: PredictionExport
    model_statistics: ModelStatistics
    error_groups: ErrorGroups


class Replica(Protocol):
    """The state of a replica of the database."""

    def lag_s(self) -> float: ...

    def keeps_up(self) -> bool: ...

    def distrust(self) -> None: ...


class ReplicaStatistics(Statistics):
    """Statistics of a replica: each answer says how far behind the primary it may be."""

    def __init__(
        self,
        store: StatisticsStore,
        memory: Memory[Part, GroupKey],
        replica: Replica,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(store, memory, monotonic)
        self._replica = replica

    def ask(self, question: Question) -> Answer:
        # Measured before the snapshot is taken: another request may find that the replica has caught up meanwhile.
        asked_at, lag_s = self._monotonic(), self._replica.lag_s()
        answer = super().ask(question)
        lag_s += self._monotonic() - asked_at
        if math.isinf(max(lag_s, self._replica.lag_s())):  # another request found it failing meanwhile
            raise StorageUnavailable("The replica is not available.")
        return replace(answer, freshness=replace(answer.freshness, replica_lag_s=lag_s))


class Readers:
    """The primary, and in front of it a replica if there is one."""

    def __init__(self, primary: Reader, replica: Reader | None = None, state: Replica | None = None) -> None:
        self._primary = primary
        self._replica = replica
        self._state = state

    def ask(self, question: Callable[[Reader], T]) -> T:
        """Put a question to the replica, and to the primary if the replica cannot answer."""
        if self._replica and self._state and self._state.keeps_up():
            try:
                return question(self._replica)
            except StorageBusy:
                raise
            except StorageUnavailable:
                self._state.distrust()
        return question(self._primary)
