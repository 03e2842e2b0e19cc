"""Which server a question goes to."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from typing import Any, cast

import pytest

from app.application.replica_routing import Reader, Readers, ReplicaStatistics
from app.application.statistics import Part, Question, Reading
from app.domain.cover import Materialized, Segment
from app.domain.errors import InvalidInput, StorageBusy, StorageUnavailable
from app.domain.instants import TimeRange
from app.domain.statistics import Selection
from app.infrastructure.postgres.database import Database
from app.infrastructure.replica import StreamingReplica

PRIMARY, REPLICA = (Reader(**dict.fromkeys(Reader.__dataclass_fields__, cast(Any, name))) for name in "PR")


class State:
    """A replica of which is said what a test wants."""

    def __init__(self, fit: bool = True) -> None:
        self.fit = fit

    def lag_s(self) -> float:
        return 0.0

    def keeps_up(self) -> bool:
        return self.fit

    def distrust(self) -> None:
        self.fit = False


def asked(error: Exception | None = None) -> tuple[list[str], Callable[[Reader], str]]:
    """Return a list and a question that adds its reader to it; the replica fails with `error`."""
    seen: list[str] = []

    def question(reader: Reader) -> str:
        seen.append(str(reader.statistics))
        if error and reader is REPLICA:
            raise error
        return f"told by {seen[-1]}"

    return seen, question


def test_without_a_replica_the_primary_is_asked() -> None:
    assert Readers(PRIMARY).ask(asked()[1]) == "told by P"


@pytest.mark.parametrize(("fit", "answer"), [(True, "told by R"), (False, "told by P")])
def test_the_replica_is_asked_while_it_keeps_up(fit: bool, answer: str) -> None:
    assert Readers(PRIMARY, REPLICA, State(fit)).ask(asked()[1]) == answer


def test_the_primary_answers_what_the_replica_could_not_and_the_next_question_too() -> None:
    readers = Readers(PRIMARY, REPLICA, State())
    seen, question = asked(StorageUnavailable("away"))
    assert [readers.ask(question), readers.ask(question)] == ["told by P", "told by P"]
    assert seen == ["R", "P", "P"]


@pytest.mark.parametrize("error", [StorageBusy("too slow"), InvalidInput("from", "wrong")], ids=type)
def test_what_the_primary_could_not_answer_either_is_not_put_to_it(error: Exception) -> None:
    readers = Readers(PRIMARY, REPLICA, State())
    seen, question = asked(error)
    for _ in range(2):
        with pytest.raises(type(error)):
            readers.ask(question)
    assert seen == ["R", "R"]


class Server:
    """Answers questions about a server's log, and counts them."""

    def __init__(self, *row: Any) -> None:
        self.row: tuple[Any, ...] | Exception = row
        self.reads = 0

    def read(self, statement: str) -> list[tuple[Any, ...]]:
        self.reads += 1
        if isinstance(self.row, Exception):
            raise self.row
        return [self.row]

    def reconnect(self) -> None:
        """There is no connection that could lead elsewhere."""


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def primary() -> Server:
    return Server(1, "predlog", 100)


@pytest.fixture
def replica() -> Server:
    return Server(1, "predlog", 100, True, 86_400.0)


@pytest.fixture
def state(primary: Server, replica: Server, clock: Clock) -> StreamingReplica:
    """Of a replica that may be ten seconds behind."""
    return StreamingReplica(cast(Database, primary), cast(Database, replica), 10.0, clock)


def test_a_replica_that_has_all_there_is_keeps_up_however_old_the_last_commit(state: StreamingReplica) -> None:
    assert state.keeps_up()
    assert state.lag_s() == 0


def test_the_lag_counts_from_the_last_moment_at_which_it_had_everything(
    state: StreamingReplica, primary: Server, clock: Clock
) -> None:
    assert state.keeps_up()
    primary.row = (1, "predlog", 101)
    clock.now += 4
    assert state.keeps_up()
    assert state.lag_s() == 4
    clock.now += 7
    assert not state.keeps_up()


def test_if_it_never_quite_catches_up_the_age_of_the_last_commit_is_its_lag(
    state: StreamingReplica, primary: Server, replica: Server
) -> None:
    primary.row, replica.row = (1, "predlog", 101), (1, "predlog", 100, True, 0.25)
    assert state.keeps_up()
    assert state.lag_s() == 0.25


@pytest.mark.parametrize("age", [None, 86_400.0])
def test_a_replica_of_which_nothing_is_known_is_not_asked(
    state: StreamingReplica, primary: Server, replica: Server, age: float | None
) -> None:
    primary.row, replica.row = (1, "predlog", 101), (1, "predlog", 100, True, age)
    assert not state.keeps_up()


@pytest.mark.parametrize(
    "row", [(1, "predlog", 100, False, 0.0), (2, "predlog", 100, True, 0.0), (1, "other", 100, True, 0.0)]
)
def test_a_server_of_its_own_is_no_replica(state: StreamingReplica, replica: Server, row: tuple[Any, ...]) -> None:
    replica.row = row
    assert not state.keeps_up()


def test_it_is_looked_at_once_a_second(state: StreamingReplica, primary: Server, replica: Server, clock: Clock) -> None:
    for _ in range(100):
        assert state.keeps_up()
        clock.now += 0.1
    assert primary.reads == replica.reads
    assert 5 <= replica.reads <= 11


def test_a_replica_that_is_away_is_tried_once_in_five_seconds(
    state: StreamingReplica, replica: Server, clock: Clock
) -> None:
    replica.row = StorageUnavailable("away")
    for _ in range(100):
        assert not state.keeps_up()
        clock.now += 0.1
    assert replica.reads == 2


def test_while_the_primary_is_away_the_replica_is_asked_until_its_lag_is_too_much(
    state: StreamingReplica, primary: Server, clock: Clock
) -> None:
    assert state.keeps_up()
    primary.row = StorageUnavailable("away")
    clock.now += 9
    assert state.keeps_up()
    clock.now += 2
    assert not state.keeps_up()


def test_a_replica_that_failed_is_looked_at_before_it_is_asked_again(state: StreamingReplica, replica: Server) -> None:
    assert state.keeps_up()
    state.distrust()
    assert math.isinf(state.lag_s())
    assert state.keeps_up()
    assert replica.reads == 2


class SlowStore:
    """A store of the replica: while its statement runs, time passes, and another request checks the replica."""

    def __init__(self, state: StreamingReplica, clock: Clock, statement_s: float) -> None:
        self._replica, self._clock, self._statement_s = state, clock, statement_s
        self._aggregates = Materialized(datetime(2026, 6, 1, tzinfo=timezone.utc))

    def state(self, time_range: TimeRange) -> Materialized:
        return self._aggregates

    def read(self, question: Question, time_range: TimeRange, parts: Sequence[Part]) -> Reading:
        self._clock.now += self._statement_s
        self._replica.keeps_up()
        return Reading([{}] * len(parts), {}, self._aggregates)

    def count_groups(self, question: Question, segments: Sequence[Segment] | None, limit: int) -> int:
        raise AssertionError("only a question with a limit counts its groups")


DAY_BEFORE = Question(Selection(), TimeRange(*(datetime(2026, 5, day, tzinfo=timezone.utc) for day in (30, 31))))


def test_the_lag_of_an_answer_is_that_of_its_snapshot_though_the_replica_catches_up_meanwhile(
    state: StreamingReplica, clock: Clock
) -> None:
    assert state.keeps_up()
    clock.now += 8
    answer = ReplicaStatistics(SlowStore(state, clock, 3.0), {}, state, clock).ask(DAY_BEFORE)
    assert state.lag_s() == 0
    assert answer.freshness.replica_lag_s == 11


def test_an_answer_of_a_replica_that_was_found_failing_meanwhile_is_not_given(
    state: StreamingReplica, replica: Server, clock: Clock
) -> None:
    assert state.keeps_up()
    replica.row = StorageUnavailable("away")
    with pytest.raises(StorageUnavailable):
        ReplicaStatistics(SlowStore(state, clock, 3.0), {}, state, clock).ask(DAY_BEFORE)


def test_a_replica_that_is_busy_is_still_there(state: StreamingReplica, replica: Server, clock: Clock) -> None:
    assert state.keeps_up()
    replica.row = StorageBusy("all connections are in use")
    clock.now += 2
    assert state.keeps_up()
    assert state.lag_s() == 2
