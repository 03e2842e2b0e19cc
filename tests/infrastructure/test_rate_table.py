"""A small table that all workers share: exact between them, and never larger than it is."""

from __future__ import annotations

import multiprocessing
import threading
from pathlib import Path

import pytest

from app.infrastructure.rate_table import ENTRIES, SETS, SIZE, RateTable


def increment(table: RateTable, caller: str, times: int = 1) -> float:
    seen = 0.0

    def add(number: float) -> float:
        nonlocal seen
        seen = number + 1
        return seen

    for _ in range(times):
        table.update(caller, add)
    return seen


def increment_in_a_process(path: Path, times: int) -> None:
    increment(RateTable(path), "shared", times)


@pytest.fixture(params=["file", "alone"])
def table(request: pytest.FixtureRequest, tmp_path: Path) -> RateTable:
    return RateTable(tmp_path / "rates" if request.param == "file" else None)


def test_each_caller_has_a_number_of_its_own_and_begins_with_0(table: RateTable) -> None:
    assert increment(table, "a") == 1
    assert increment(table, "a") == 2
    assert increment(table, "b") == 1
    assert increment(table, "a") == 3


def test_threads_take_no_step_from_each_other(table: RateTable) -> None:
    threads = [threading.Thread(target=increment, args=(table, "shared", 2000)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert increment(table, "shared") == 8001


def test_neither_do_processes(tmp_path: Path) -> None:
    path = tmp_path / "rates"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=increment_in_a_process, args=(path, 2000)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    assert increment(RateTable(path), "shared") == 6001


def test_any_number_of_callers_takes_no_more_memory(tmp_path: Path) -> None:
    path = tmp_path / "rates"
    table = RateTable(path)
    for caller in range(3 * ENTRIES * SETS):
        increment(table, str(caller))
    assert path.stat().st_size == SIZE


def test_if_there_is_no_room_the_smallest_number_is_forgotten(table: RateTable) -> None:
    table.update("busy", lambda _: 1e9)
    for caller in range(3 * ENTRIES * SETS):
        table.update(str(caller), lambda _: 1.0)
    assert increment(table, "busy") == 1e9 + 1
