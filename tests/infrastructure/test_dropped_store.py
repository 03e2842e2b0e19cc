"""The rollups of what was dropped: equal to a count of the reports whatever happens to these, and kept by retention."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID, uuid4

import pytest
from flask_migrate import upgrade
from sqlalchemy import Engine, create_engine

from app.application.dropped import Counted, Removed
from app.application.retention import LifeCycle
from app.application.statistics import GroupKey, Question, Statistics
from app.domain.dropped import MAX_COUNT, SATURATION, DroppedReport
from app.domain.errors import DroppedBehindRetention
from app.domain.instants import DAY, HOUR, MINUTE, TimeRange, floor
from app.domain.statistics import Selection, Series
from app.infrastructure.citus import is_distributed
from app.infrastructure.dropped_store import PostgresDroppedStore
from app.infrastructure.maintenance.engines import maintenance
from app.infrastructure.postgres.database import Database
from app.infrastructure.segment_memory import segment_memory
from app.infrastructure.statistics_store import PostgresStatisticsStore
from conftest import Server, make_app
from support.capture import statements
from support.days import today
from support.scratch import empty_database

TODAY = floor(datetime.now(timezone.utc), DAY)
MODELS = ("a", "b", "c")
INSERT = """
INSERT INTO prediction_dropped (id, timestamp, model_name, reason, count, reported_at)
VALUES (%(id)s, %(timestamp)s, %(model_name)s, %(reason)s, %(count)s, %(reported_at)s)
"""
COUNT = """
SELECT coalesce(sum(count), 0) FROM prediction_dropped
WHERE  model_name = ANY (%(models)s) AND timestamp >= %(start)s AND timestamp < %(end)s
"""
LEVELS = ("minute", "hour", "day")


class House:
    """A database of its own with reports."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.today = TODAY
        self.database = Database(engine.url.render_as_string(hide_password=False), pool_size=1)
        self.store = PostgresDroppedStore(self.database)
        store = PostgresStatisticsStore(self.database.read, lambda: is_distributed(self.database))
        self.statistics = Statistics(store, segment_memory())

    def run(self, statement: str, **values: Any) -> list[Any]:
        with self.engine.connect() as connection:
            result = connection.exec_driver_sql(statement, values)
            return list(result.fetchall()) if result.returns_rows else []

    def insert(self, model: str, minute: datetime, count: int = 1, reason: str = "expired", **fields: Any) -> None:
        """Put a report into the table, past the service."""
        values = {"id": str(uuid4()), "reported_at": datetime.now(timezone.utc), **fields}
        self.run(INSERT, timestamp=minute, model_name=model, reason=reason, count=count, **values)

    def dropped(self, start: datetime, end: datetime, *models: str) -> int:
        """What the statistics say."""
        return self.statistics.ask(Question(Selection(models), TimeRange(start, end), latency=False)).total.dropped

    def reported(self, start: datetime, end: datetime, *models: str) -> int:
        """The same counted in the reports themselves."""
        ((count,),) = self.run(COUNT, models=list(models or MODELS), start=start, end=end)
        return int(count)

    def cells(self) -> list[int]:
        """How many rows the rollups have, level by level."""
        return [self.run(f"SELECT count(*) FROM prediction_dropped_{level}")[0][0] for level in LEVELS]

    def retain(self, **days: int) -> None:
        settings = LifeCycle({level: n * DAY for level, n in days.items()}, columnstore_after=DAY)
        for _ in maintenance(self.database).refresh(DAY):
            pass
        maintenance(self.database).retain(settings)


@contextmanager
def own_database(server: Server) -> Iterator[House]:
    with empty_database(server) as url:
        with make_app(url, pool_size=1).app_context():
            upgrade()
        house = House(create_engine(url, isolation_level="AUTOCOMMIT", pool_size=1))
        yield house
        house.engine.dispose()
        house.database.engine.dispose()


@pytest.fixture(scope="module")
def shared(server: Server) -> Iterator[House]:
    with own_database(server) as house:
        yield house


@pytest.fixture
def house(shared: House) -> House:
    """A database without reports, of which nothing was ever dropped by retention."""
    shared.run("TRUNCATE prediction_dropped")
    return shared


@pytest.fixture
def old(server: Server) -> Iterator[House]:
    """A database of thirty days for retention to work on: the report of n days ago was of n predictions at noon."""
    with own_database(server) as house:
        house.today = today()
        for day in range(1, 31):
            noon = house.today - day * DAY + 12 * HOUR
            house.insert("a", noon, day, reported_at=noon)
            house.run("INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful)"
                      " VALUES (%(at)s, 'a', 1, true)", at=noon)  # fmt: skip
        yield house


def report(model: str, minute: datetime, count: int = 1, report_id: UUID | None = None) -> DroppedReport:
    return DroppedReport(report_id or uuid4(), model, minute, "expired", count)


def test_every_range_is_answered_as_the_reports_say_whatever_happens_to_them(house: House) -> None:
    dice = random.Random(7)

    def minute() -> datetime:
        return TODAY - dice.choice([5 * MINUTE, 3 * HOUR, 30 * HOUR, 9 * DAY]) * dice.random() // MINUTE * MINUTE

    def floored() -> datetime:
        return floor(minute(), MINUTE)

    # Citus reckons with no times in an UPDATE.
    moved = "" if house.database.storage_engine == "citus" else ", timestamp = timestamp - INTERVAL '7 minutes'"
    for _ in range(40):
        action = dice.choice(["add", "add", "add", "delete", "update", "remove"])
        if action == "add":
            house.store.add([report(dice.choice(MODELS), floored(), dice.randint(1, 9)) for _ in range(20)])
        elif action == "delete":
            house.run("DELETE FROM prediction_dropped WHERE id IN (SELECT id FROM prediction_dropped LIMIT 7)")
        elif action == "update":
            house.run(f"UPDATE prediction_dropped SET count = count + 1{moved}"
                      " WHERE id IN (SELECT id FROM prediction_dropped LIMIT 7)")  # fmt: skip
        else:
            start = floored()
            house.store.remove([dice.choice(MODELS)], start, start + dice.choice([MINUTE, HOUR, DAY]))
        start, end = sorted((floored(), floored()))
        cut = timedelta(seconds=dice.choice([0, 0, 1, 59]))
        for models in ((), ("a",), ("b", "c")):
            assert house.dropped(start + cut, end + cut, *models) == house.reported(start + cut, end + cut, *models)
    house.run("DELETE FROM prediction_dropped")
    assert house.cells() == [0, 0, 0]


def test_writers_and_removals_at_once_leave_rollups_that_agree_with_the_reports(house: House, server: Server) -> None:
    if not server.concurrent:
        pytest.skip("all clients of this TimescaleDB share one session")
    url = house.engine.url.render_as_string(hide_password=False)

    def work(seed: int) -> None:
        dice, database = random.Random(seed), Database(url, pool_size=1)
        store = PostgresDroppedStore(database)
        for _ in range(25):
            minutes = [TODAY - dice.randint(0, 90) * MINUTE for _ in range(10)]
            store.add([report(dice.choice(MODELS), minute, dice.randint(1, 9)) for minute in minutes])
            if dice.random() < 0.3:
                store.remove([dice.choice(MODELS)], minutes[0], minutes[0] + 20 * MINUTE)
            elif dice.random() < 0.3:
                database.count("DELETE FROM prediction_dropped WHERE count = %(count)s", {"count": dice.randint(1, 9)})
        database.engine.dispose()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    expected = house.reported(TODAY - DAY, TODAY + DAY)
    assert expected > 0
    for level in LEVELS:
        assert house.run(f"SELECT sum(dropped) FROM prediction_dropped_{level}") == [(expected,)]


def test_points_and_groups_get_what_was_reported_of_them(house: House) -> None:
    for hour in range(30):
        house.insert("a" if hour % 2 else "b", TODAY - 2 * DAY + hour * HOUR + 7 * MINUTE, 10**hour % 97 + 1)
    for width in (7 * MINUTE, HOUR, 5 * HOUR, DAY):
        edges = tuple(TODAY - 2 * DAY + n * width for n in range(8))
        question = Question(Selection(), TimeRange(edges[0], edges[-1]), ("model_name",), Series(edges), latency=False)
        found = {key: tally.dropped for key, tally in house.statistics.ask(question).tallies.items()}
        expected = {
            GroupKey(point, model, None): house.reported(edges[point], edges[point + 1], model)
            for point in range(7) for model in ("a", "b")
        }  # fmt: skip
        assert found == {key: count for key, count in expected.items() if count}


def test_no_statistics_read_single_reports(house: House) -> None:
    with statements() as told:
        house.dropped(TODAY - 9 * DAY + timedelta(seconds=1), TODAY + timedelta(seconds=1))
        house.dropped(TODAY - 9 * DAY, TODAY, "a")
    assert told
    single_reports = re.compile(r"\bprediction_dropped\b")
    assert not any(single_reports.search(statement.text) for statement in told)


def test_sums_beyond_the_largest_number_are_kept_and_taken_back(house: House) -> None:
    for _ in range(3):
        house.insert("a", TODAY)
    house.run("UPDATE prediction_dropped SET count = %(count)s", count=SATURATION)
    house.insert("a", TODAY, 5, reason="rejected")
    assert house.dropped(TODAY, TODAY + DAY) == SATURATION
    house.run("DELETE FROM prediction_dropped WHERE count = %(count)s", count=SATURATION)
    assert house.dropped(TODAY, TODAY + DAY) == 5


def test_truncated_reports_are_counted_no_more(house: House) -> None:
    house.insert("a", TODAY)
    house.run("TRUNCATE prediction_dropped")
    assert house.cells() == [0, 0, 0]


def test_rollups_are_kept_as_long_as_the_aggregates_of_their_level(old: House) -> None:
    old.retain(raw=5, minute=10, hour=20, day=25)
    assert old.cells() == [10, 20, 25]
    assert old.dropped(old.today - 25 * DAY, old.today) == sum(range(1, 26))
    assert old.dropped(old.today - 15 * DAY + 12 * HOUR, old.today - 15 * DAY + 13 * HOUR) == 15


def test_a_single_report_is_kept_while_it_may_be_sent_again_and_then_goes_with_the_raw_rows(old: House) -> None:
    sent = report("a", old.today - 8 * DAY)
    long_ago = old.today - 40 * DAY
    old.store.add([sent])
    old.insert("a", long_ago, 9, reported_at=long_ago)
    old.insert("a", old.today - 2 * DAY, reported_at=long_ago)
    before = old.dropped(old.today - 50 * DAY, old.today)
    old.retain(raw=5)
    assert old.store.add([sent]) == Counted(0, 0)
    assert old.run("SELECT count(*) FROM prediction_dropped WHERE reported_at = %(at)s", at=long_ago) == [(1,)]
    assert old.dropped(old.today - 50 * DAY, old.today) == before


def test_without_retention_all_is_kept(house: House) -> None:
    house.insert("a", TODAY - 900 * DAY, reported_at=TODAY - 900 * DAY)
    house.retain()
    assert house.reported(TODAY - 900 * DAY, TODAY) == house.dropped(TODAY - 900 * DAY, TODAY) == 1


def test_a_late_report_is_counted_in_the_levels_that_are_left(old: House) -> None:
    old.retain(raw=5, minute=10, hour=20, day=25)
    day = old.today - 15 * DAY
    assert old.store.add([report("a", day + 12 * HOUR + MINUTE, 100)]) == Counted(1, 0)
    assert old.dropped(day, day + DAY) == 115
    assert old.cells() == [10, 20, 25]


def test_a_report_behind_all_levels_is_refused_and_none_of_its_request_is_counted(old: House) -> None:
    old.retain(raw=5, minute=10, hour=20, day=25)
    before = old.dropped(old.today - 25 * DAY, old.today)
    with pytest.raises(DroppedBehindRetention):
        old.store.add([report("a", old.today - 26 * DAY), report("a", old.today - DAY)])
    assert old.dropped(old.today - 25 * DAY, old.today) == before


def test_what_retention_has_left_of_old_reports_can_be_removed(old: House) -> None:
    old.retain(raw=5, minute=10, hour=20, day=25)
    for statement in (
        "BEGIN",
        "SET LOCAL citus.propagate_set_commands = 'local'",  # means nothing on the other engines
        "SET LOCAL predlog.retention = 'on'",
        "DELETE FROM prediction_dropped",
        "COMMIT",
    ):
        old.run(statement)
    old.insert("b", old.today - 15 * DAY, 4)
    start = old.today - 22 * DAY - 12 * HOUR
    assert old.store.remove(["a"], start, old.today) == Removed(0, sum(range(1, 23)))
    assert old.dropped(old.today - 25 * DAY, old.today) == 23 + 24 + 25 + 4
    assert old.store.remove([], None, None) == Removed(1, 23 + 24 + 25 + 4)
    assert old.cells() == [0, 0, 0]


@pytest.mark.parametrize(("days", "after"), [(15, 35 * MINUTE), (22, 3 * HOUR)])
def test_reports_are_removed_once_from_levels_that_retention_has_not_come_to_yet(
    old: House, days: int, after: timedelta
) -> None:
    day = old.today - days * DAY
    noon = day + 12 * HOUR
    old.insert("a", noon + after, 50)
    edges = "UPDATE prediction_stats_state SET raw_from = %(raw)s, minute_from = %(minute)s, hour_from = %(hour)s"
    old.run(edges, raw=old.today - 5 * DAY, minute=old.today - 10 * DAY, hour=old.today - 20 * DAY)
    assert old.store.remove(["a"], noon, noon + 30 * MINUTE) == Removed(1, days)
    assert old.dropped(day, day + DAY) == 50


def test_a_report_that_is_sent_twice_in_one_request_is_counted_once(house: House) -> None:
    sent = report("a", TODAY, 3)
    assert house.store.add([sent, sent]) == Counted(1, 0)
    assert house.dropped(TODAY, TODAY + DAY) == 3


def test_a_minute_counts_no_more_than_it_can_hold_however_many_requests_report_it(house: House) -> None:
    sent = report("a", TODAY, MAX_COUNT - 10)
    others = [report("a", TODAY, 7), report("b", TODAY, 7), report("a", TODAY, 7), report("a", TODAY + MINUTE, 7)]
    assert house.store.add([sent]) == Counted(1, 0)
    assert house.store.add(others) == Counted(4, 4)
    assert house.store.add([report("a", TODAY, 9)]) == Counted(1, 9)
    assert house.store.add([sent, *others]) == Counted(0, 0)
    for span, model, expected in (
        (MINUTE, "a", MAX_COUNT), (HOUR, "a", MAX_COUNT + 7), (DAY, "a", MAX_COUNT + 7), (DAY, "b", 7)
    ):  # fmt: skip
        assert house.dropped(TODAY, TODAY + span, model) == house.reported(TODAY, TODAY + span, model) == expected


def test_each_reason_has_a_bound_of_its_own(house: House) -> None:
    for reason in ("expired", "rejected"):
        house.insert("a", TODAY, 2 * MAX_COUNT, reason)
    assert house.dropped(TODAY, TODAY + DAY) == 2 * MAX_COUNT


def test_removed_reports_make_room_again(house: House) -> None:
    house.store.add([report("a", TODAY, MAX_COUNT)])
    house.store.remove(["a"], TODAY, TODAY + MINUTE)
    assert house.store.add([report("a", TODAY, 5)]) == Counted(1, 0)


def test_an_hour_whose_minutes_are_gone_is_bounded_as_a_whole(old: House) -> None:
    old.retain(raw=5, minute=10, hour=20, day=25)
    hour = old.today - 15 * DAY + HOUR
    assert old.store.add([report("a", hour, 60 * MAX_COUNT - 3), report("a", hour + MINUTE, 5)]) == Counted(2, 2)
    assert old.dropped(hour, hour + HOUR) == 60 * MAX_COUNT


def test_reporters_at_once_do_not_share_the_same_room(house: House, server: Server) -> None:
    if not server.concurrent:
        pytest.skip("all clients of this TimescaleDB share one session")
    url = house.engine.url.render_as_string(hide_password=False)

    def work(_: int) -> None:
        database = Database(url, pool_size=1)
        for _ in range(10):
            PostgresDroppedStore(database).add([report("a", TODAY, MAX_COUNT // 15)])
        database.engine.dispose()

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(work, range(4)))
    assert house.dropped(TODAY, TODAY + DAY) == house.reported(TODAY, TODAY + DAY) == MAX_COUNT
