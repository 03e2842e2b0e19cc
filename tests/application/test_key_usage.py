"""Last uses of keys: remembered at each request, written seldom, and by a thread that no request waits for."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone

from app.application.key_usage import EVERY, KeyUsage
from app.domain.errors import StorageUnavailable

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
NEVER = 3600.0


class Storage:
    def __init__(self) -> None:
        self.written: list[dict[int, datetime]] = []
        self.by: list[str] = []
        self.away = False
        self.done = threading.Event()

    def write(self, times: Mapping[int, datetime]) -> None:
        self.by.append(threading.current_thread().name)
        self.written.append(dict(times))
        self.done.set()
        if self.away:
            raise StorageUnavailable("The database is not available.")


def test_many_calls_within_a_minute_are_written_once() -> None:
    storage = Storage()
    usage = KeyUsage(storage.write, NEVER)
    for second in range(59):
        usage.note(1, NOW + timedelta(seconds=second))
        usage.flush()
    assert storage.written == [{1: NOW}]
    usage.note(1, NOW + EVERY)
    usage.flush()
    assert storage.written == [{1: NOW}, {1: NOW + EVERY}]


def test_keys_that_are_used_at_the_same_time_are_written_together() -> None:
    storage = Storage()
    usage = KeyUsage(storage.write, NEVER)
    for id in range(5):
        usage.note(id, NOW)
    usage.flush()
    assert storage.written == [dict.fromkeys(range(5), NOW)]


def test_another_thread_writes_and_the_call_does_not_wait() -> None:
    storage = Storage()
    usage = KeyUsage(storage.write, 0.01)
    usage.note(1, NOW)
    assert storage.done.wait(60)
    assert storage.by != [threading.current_thread().name]


def test_a_database_that_is_away_is_asked_again_a_minute_later() -> None:
    storage = Storage()
    storage.away = True
    usage = KeyUsage(storage.write, NEVER)
    usage.note(1, NOW)
    usage.flush()
    storage.away = False
    usage.note(1, NOW + EVERY)
    usage.flush()
    assert storage.written[-1] == {1: NOW + EVERY}
