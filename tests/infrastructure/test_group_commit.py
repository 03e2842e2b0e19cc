"""Items that arrive at the same time are written together, and each caller gets the result of its own."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from sqlalchemy.exc import DBAPIError

from app.infrastructure.group_commit import GroupCommit

SOON_S = 60


class SlowWriter:
    """Writes numbers, and says so; each write waits until it is let go."""

    def __init__(self) -> None:
        self.written: list[Sequence[int]] = []
        self.started = threading.Semaphore(0)
        self.may_go = threading.Semaphore(0)

    def __call__(self, numbers: Sequence[int]) -> Sequence[str | BaseException]:
        self.written.append(numbers)
        self.started.release()
        assert self.may_go.acquire(timeout=SOON_S)
        return [ValueError(number) if number < 0 else str(number) for number in numbers]


@pytest.fixture
def threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(20)


def wait_until_gathered(commits: GroupCommit[int, str], number: int) -> None:
    for _ in range(SOON_S * 1000):
        if len(commits._waiting) == number:
            return
        threading.Event().wait(0.001)
    raise AssertionError(f"{len(commits._waiting)} wait, not {number}")


def hold(commits: GroupCommit[int, str], writer: SlowWriter, threads: ThreadPoolExecutor) -> Future[str]:
    """Begin a write that lasts until it is let go."""
    held = threads.submit(commits.write, 0)
    assert writer.started.acquire(timeout=SOON_S)
    return held


def test_a_single_item_is_written_alone_and_at_once() -> None:
    writer = SlowWriter()
    writer.may_go.release(2)
    commits = GroupCommit(writer)
    assert (commits.write(1), commits.write(2)) == ("1", "2")
    assert writer.written == [[1], [2]]


def test_items_that_come_during_a_write_go_together_with_the_next(threads: ThreadPoolExecutor) -> None:
    writer = SlowWriter()
    commits = GroupCommit(writer)
    held = hold(commits, writer, threads)
    others = {number: threads.submit(commits.write, number) for number in range(1, 10)}
    wait_until_gathered(commits, 9)
    writer.may_go.release(2)
    assert held.result(SOON_S) == "0"
    assert {number: other.result(SOON_S) for number, other in others.items()} == {n: str(n) for n in others}
    assert [sorted(numbers) for numbers in writer.written] == [[0], list(others)]


def test_the_error_of_one_item_is_raised_for_its_caller_alone(threads: ThreadPoolExecutor) -> None:
    writer = SlowWriter()
    commits = GroupCommit(writer)
    held = hold(commits, writer, threads)
    bad, good = threads.submit(commits.write, -1), threads.submit(commits.write, 1)
    wait_until_gathered(commits, 2)
    writer.may_go.release(2)
    assert held.result(SOON_S) == "0"
    assert good.result(SOON_S) == "1"
    with pytest.raises(ValueError, match="-1"):
        bad.result(SOON_S)


def test_a_write_that_fails_fails_for_all_of_its_group_and_the_next_one_goes_on(threads: ThreadPoolExecutor) -> None:
    failing = threading.Event()
    writer = SlowWriter()

    def write(numbers: Sequence[int]) -> Sequence[str | BaseException]:
        written = writer(numbers)
        if failing.is_set():
            failing.clear()
            raise DBAPIError("INSERT", {}, Exception("away"))
        return written

    commits = GroupCommit(write)
    held = hold(commits, writer, threads)
    group = [threads.submit(commits.write, number) for number in (1, 2)]
    wait_until_gathered(commits, 2)
    writer.may_go.release()
    assert held.result(SOON_S) == "0"
    assert writer.started.acquire(timeout=SOON_S)
    failing.set()
    after = threads.submit(commits.write, 3)
    wait_until_gathered(commits, 1)
    writer.may_go.release(2)
    for future in group:
        with pytest.raises(DBAPIError):
            future.result(SOON_S)
    assert after.result(SOON_S) == "3"


def test_thousands_of_writes_from_many_threads_are_each_written_once(threads: ThreadPoolExecutor) -> None:
    written: list[int] = []

    def write(numbers: Sequence[int]) -> Sequence[int]:
        written.extend(numbers)
        return [2 * number for number in numbers]

    commits = GroupCommit(write)
    assert list(threads.map(commits.write, range(5000))) == [2 * number for number in range(5000)]
    assert sorted(written) == list(range(5000))
