"""The keys as a worker knows them, with a clock and a database of the test's own."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from datetime import datetime, timezone

import pytest

from app.application import key_cache
from app.application.key_cache import FRESH_S, KNOWN_S, TIMEOUT_S, KeyRing
from app.domain.errors import StorageUnavailable
from app.domain.keys import ApiKey, Scope, hash_of


def key(key_id: int) -> ApiKey:
    return ApiKey(key_id, "shop", Scope.WRITE, hash_of("secret"), datetime.now(timezone.utc))


class Storage:
    """A database that can be away, or take its time."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.keys = [key(1)]
        self.reads = 0
        self.away = False
        self.asked = threading.Event()
        self.answers = threading.Event()
        self.answers.set()

    def read(self) -> Sequence[ApiKey]:
        self.reads += 1
        self.asked.set()
        assert self.answers.wait(60)
        if self.away:
            raise StorageUnavailable("The database is not available.")
        return list(self.keys)

    def hang(self) -> None:
        self.answers.clear()
        self.asked.clear()


@pytest.fixture
def storage() -> Storage:
    return Storage()


@pytest.fixture
def ring(storage: Storage) -> KeyRing:
    return KeyRing(storage.read, lambda: storage.now)


@pytest.fixture
def threads(storage: Storage) -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as threads:
        yield threads
        storage.answers.set()


def test_many_calls_read_the_keys_once(ring: KeyRing, storage: Storage) -> None:
    for _ in range(100):
        assert list(ring.keys()) == ["1"]
    assert storage.reads == 1


def test_a_change_is_seen_after_seconds(ring: KeyRing, storage: Storage) -> None:
    ring.keys()
    storage.keys = [key(1), key(2)]
    storage.now += FRESH_S
    assert list(ring.keys()) == ["1", "2"]


def test_known_keys_go_on_working_for_a_while_without_the_database(ring: KeyRing, storage: Storage) -> None:
    ring.keys()
    storage.away = True
    storage.now += KNOWN_S
    assert list(ring.keys()) == ["1"]
    storage.now += 1
    with pytest.raises(StorageUnavailable, match="not available"):
        ring.keys()


def test_nothing_is_known_before_the_database_has_answered_once(ring: KeyRing, storage: Storage) -> None:
    storage.away = True
    with pytest.raises(StorageUnavailable):
        ring.keys()
    storage.away = False
    storage.now += FRESH_S
    assert list(ring.keys()) == ["1"]


def test_a_database_that_is_away_is_not_asked_for_every_call(ring: KeyRing, storage: Storage) -> None:
    ring.keys()
    storage.away = True
    storage.now += 2 * FRESH_S
    for _ in range(100):
        ring.keys()
    assert storage.reads == 2


def test_while_one_call_reads_the_others_go_on_with_what_they_know(
    ring: KeyRing, storage: Storage, threads: ThreadPoolExecutor
) -> None:
    ring.keys()
    storage.now += FRESH_S
    storage.hang()
    reader = threads.submit(ring.keys)
    assert storage.asked.wait(60)
    for _ in range(100):
        assert list(ring.keys()) == ["1"]
    assert not reader.done()
    assert storage.reads == 2


def test_after_a_pause_a_call_waits_for_the_keys_that_another_one_reads(
    ring: KeyRing, storage: Storage, threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_cache, "TIMEOUT_S", 60.0)  # for busy machines
    ring.keys()
    storage.now += KNOWN_S / 2
    storage.hang()
    reader = threads.submit(ring.keys)
    assert storage.asked.wait(60)
    storage.keys = [key(1), key(2)]
    others = [threads.submit(ring.keys) for _ in range(4)]
    storage.answers.set()
    assert {tuple(call.result(60)) for call in (reader, *others)} == {("1", "2")}


def test_a_call_that_comes_just_as_another_one_begins_to_read_waits_for_it(
    ring: KeyRing, threads: ThreadPoolExecutor
) -> None:
    class Reading:
        """A lock that lets another call come between its being taken and what its owner does next."""

        def __init__(self) -> None:
            self._lock = threading.Lock()
            self.other: Future[Mapping[str, ApiKey]] | None = None

        def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
            is_taken = self._lock.acquire(blocking, timeout)
            if self.other is None:
                self.other = threads.submit(ring.keys)
                wait([self.other], 0.5)  # it fails in much less, or does not end before this call
            return is_taken

        def release(self) -> None:
            self._lock.release()

    reading = Reading()
    vars(ring)["_reading"] = reading
    assert list(ring.keys()) == ["1"]
    assert reading.other is not None
    assert list(reading.other.result(60)) == ["1"]


def test_while_the_database_hangs_only_the_calls_of_the_first_seconds_wait(
    ring: KeyRing, storage: Storage, threads: ThreadPoolExecutor
) -> None:
    ring.keys()
    storage.now += FRESH_S
    storage.hang()
    reader = threads.submit(ring.keys)
    assert storage.asked.wait(60)
    storage.now += TIMEOUT_S
    for _ in range(20):  # each would take TIMEOUT_S, if it waited
        assert list(ring.keys()) == ["1"]
    storage.now += KNOWN_S
    with pytest.raises(StorageUnavailable):
        ring.keys()
    assert not reader.done()
