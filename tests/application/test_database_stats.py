"""The database is asked seldom, and nobody waits for it for long."""

from __future__ import annotations

import threading
from collections.abc import Callable

from app.application.database_stats import FRESH_S, Condition, Watch
from app.domain.errors import StorageUnavailable

CONDITION = Condition("plain", 1.5, 2, 3)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Database:
    def __init__(self) -> None:
        self.asked = 0
        self.answer: Callable[[], Condition] = lambda: CONDITION

    def read(self) -> Condition:
        self.asked += 1
        return self.answer()


def away() -> Condition:
    raise StorageUnavailable("The database is not available.")


def test_it_is_read_once_for_all_callers_within_some_seconds() -> None:
    clock, database = Clock(), Database()
    watch = Watch(database.read, clock)
    assert [watch.condition() for _ in range(5)] == [CONDITION] * 5
    assert database.asked == 1
    clock.now += FRESH_S
    assert watch.condition() == CONDITION
    assert database.asked == 2


def test_a_database_that_is_away_is_asked_just_as_seldom() -> None:
    clock, database = Clock(), Database()
    database.answer = away
    watch = Watch(database.read, clock)
    assert [watch.condition() for _ in range(5)] == [None] * 5
    assert database.asked == 1


def test_an_old_condition_is_not_returned_as_the_present_one() -> None:
    clock, database = Clock(), Database()
    watch = Watch(database.read, clock)
    assert watch.condition() == CONDITION
    clock.now += FRESH_S
    database.answer = away
    assert watch.condition() is None
    clock.now += FRESH_S
    database.answer = lambda: CONDITION
    assert watch.condition() == CONDITION


def test_while_it_hangs_one_thread_waits_and_then_all_is_well_again() -> None:
    clock, database, answered = Clock(), Database(), threading.Event()

    def hang() -> Condition:
        assert answered.wait(60)
        return CONDITION

    database.answer = hang
    watch = Watch(database.read, clock)
    assert watch.condition() is None
    clock.now += 10 * FRESH_S
    assert watch.condition() is None
    assert database.asked == 1
    answered.set()
    database.answer = lambda: CONDITION
    for thread in threading.enumerate():
        if thread.name == "watch-database":
            thread.join(60)
    assert watch.condition() == CONDITION
