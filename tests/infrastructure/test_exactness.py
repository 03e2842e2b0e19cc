"""Whatever happens to the log, an answer equals a full scan of it in the same snapshot.

EXACTNESS_SECONDS says how long the random histories run; EXACTNESS_SEED repeats one of them.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from flask_migrate import upgrade
from sqlalchemy import Connection, Engine, create_engine
from sqlalchemy.exc import DBAPIError

from app.application.purge import Purge, PurgeFilters
from app.application.statistics import GroupKey, Question, Statistics
from app.domain.errors import StorageUnavailable
from app.domain.instants import DAY, HOUR, MINUTE, TimeRange, floor
from app.domain.sketch import RELATIVE_ERROR
from app.domain.statistics import Selection, Series, Tally
from app.infrastructure.postgres.database import Database
from app.infrastructure.purge_store import PostgresPurgeStore
from app.infrastructure.segment_memory import segment_memory
from app.infrastructure.statistics_store import PostgresStatisticsStore
from conftest import Server, make_app
from support.scratch import empty_database

SECONDS = float(os.environ.get("EXACTNESS_SECONDS", "6"))
SEED = int(os.environ.get("EXACTNESS_SEED", time.time_ns() % 1_000_000))
CHECKS = 10  # at least, however busy the machine is
# deadlock, serialization failure, lock not available; TimescaleDB's own job has just moved the chunk
TRY_AGAIN = ("40P01", "40001", "55P03", "42710")
START = datetime.now(timezone.utc)
PERCENTILES = (0, 1, 25, 50, 90, 95, 99, 99.9, 100)

INSERT = """
INSERT INTO prediction_log (timestamp, model_name, model_version, duration_ms, was_successful, request_id)
SELECT * FROM unnest(%(timestamp)s::timestamptz[], %(model_name)s::text[], %(model_version)s::text[],
                     %(duration_ms)s::float8[], %(was_successful)s::boolean[], %(request_id)s::uuid[])
ON CONFLICT DO NOTHING
"""

DELETE = """
DELETE FROM prediction_log
WHERE  (id, timestamp) IN (SELECT id, timestamp FROM prediction_log
                           WHERE  model_name = %(model)s ORDER BY random() LIMIT %(limit)s)
"""

NAMES_MISSING = """
SELECT DISTINCT model_name COLLATE "C", model_version COLLATE "C" FROM prediction_log
EXCEPT
SELECT model_name, model_version FROM prediction_model
"""

SCAN = """
SELECT width_bucket(timestamp, %(edges)s::timestamptz[]) - 1 AS point, count(*), count(*) FILTER (WHERE was_successful),
       sum(round(CASE WHEN duration_ms < 9e9 THEN (duration_ms * 1e6)::bigint ELSE duration_ms::numeric * 1000000 END)),
       min(duration_ms), max(duration_ms),
       percentile_cont(%(fractions)s::float8[]) WITHIN GROUP (ORDER BY duration_ms)
FROM   prediction_log
WHERE  model_name = ANY (%(models)s) AND timestamp >= %(start)s AND timestamp < %(end)s
GROUP  BY point
"""


# Near these many predictions come late and many ranges begin or end, so that what was read once changes often.
SPOTS = [START - age for age in (5 * MINUTE, 50 * MINUTE, 3 * HOUR, 26 * HOUR, 9 * DAY, 200 * DAY)]

# TimescaleDB moves rows into and out of the columnstore outside of snapshots: a snapshot from before a move may find a
# row in neither place, because plans go by what a chunk is now, and it may find a row that was inserted after it. Each
# move writes the chunk's entry anew, though it may say the same as before.
CHUNKS = "SELECT id, xmin::text FROM _timescaledb_catalog.chunk ORDER BY id"


class Snapshot:
    """Reads on the connection that is in a snapshot just now."""

    def __init__(self) -> None:
        self.connection: Connection | None = None

    def run(self, statement: str, values: dict[str, Any]) -> list[Any]:
        assert self.connection is not None
        return list(self.connection.exec_driver_sql(statement, values).fetchall())


class History:
    """Random things that happen to a log."""

    def __init__(self, database: Engine, server: Server, models: list[str], seed: int) -> None:
        self.database, self.server, self.models = database, server, models
        self.random = random.Random(seed)
        self.sent: list[dict[str, Any]] = []
        url = database.url.render_as_string(hide_password=False)
        self.purger = Purge(PostgresPurgeStore(Database(url, pool_size=1), piece=self.random.randint(1, 50)))

    def write(self) -> None:
        """Insert, send again, delete, or purge."""
        action = self.random.choices(
            [self.log_now, self.log_late, self.log_batch, self.log_again, self.delete, self.purge], [5, 3, 2, 1, 2, 1]
        )[0]
        action()

    def log_now(self) -> None:
        self._insert([self._record(timedelta(seconds=self.random.uniform(0, 90)))])

    def log_late(self) -> None:
        self._insert([self._record(self._age())])

    def log_batch(self) -> None:
        """Old and new times in one transaction."""
        self._insert([self._record(self._age()) for _ in range(self.random.randint(2, 200))])

    def log_again(self) -> None:
        if self.sent:
            self._insert(self.random.sample(self.sent, min(len(self.sent), 20)))

    def delete(self) -> None:
        model, limit = self.random.choice(self.models), self.random.choice([1, 1, 1, 30])
        with self.database.connect() as connection:
            connection.exec_driver_sql(DELETE, {"model": model, "limit": limit})

    def purge(self) -> None:
        """Remove many in pieces: a whole version, or a range of times, or one; perhaps not to the end."""
        model, now = self.random.choice(self.models), datetime.now(timezone.utc)
        start, end = sorted([now - self._age(), now - self._age()])
        filters = self.random.choice([
            PurgeFilters(model, self.random.choice(["", "1", "2"])),
            PurgeFilters(model, start=start, end=end),
            PurgeFilters(model, start=self.random.choice(SPOTS)),
            PurgeFilters(request_id=UUID(self.sent[-1]["request_id"]) if self.sent else UUID(int=1)),
        ])  # fmt: skip
        with suppress(StorageUnavailable):  # another session blocked it: the next purge goes on
            for _ in self.purger.run(filters, now):
                if self.random.random() < 0.1:
                    return

    def maintain(self) -> None:
        """Refresh as the job does, or by a foreign hand; move chunks in and out of the columnstore."""
        if self.random.random() < 0.2:
            with self.database.connect() as connection:
                connection.exec_driver_sql("CALL prediction_model_tidy(NULL)")
        if self.server.engine != "timescale":
            return
        with self.database.connect() as connection:
            choice = self.random.random()
            if choice < 0.6:
                connection.exec_driver_sql("CALL prediction_stats_job(0, '{}')")
            elif choice < 0.7:
                view = self.random.choice(["prediction_stats_minute", "prediction_latency_hour"])
                connection.exec_driver_sql(
                    f"CALL refresh_continuous_aggregate('{view}', now() - INTERVAL '3 days', now())"
                )
            else:
                self._compress(connection)

    def _compress(self, connection: Connection) -> None:
        relation = self.random.choice(
            ["prediction_log", "prediction_log", "prediction_stats_minute", "prediction_latency_hour"]
        )
        chunks = connection.exec_driver_sql(f"SELECT show_chunks('{relation}')::text").scalars().all()
        if chunks:
            verb = self.random.choice(["compress_chunk", "compress_chunk", "decompress_chunk"])
            connection.exec_driver_sql(f"SELECT {verb}('{self.random.choice(chunks)}', true)")

    def _age(self) -> timedelta:
        if self.random.random() < 0.5:
            return datetime.now(timezone.utc) - self.random.choice(SPOTS) + self.random.uniform(-1, 1) * MINUTE
        return self.random.choice([3 * MINUTE, 2 * HOUR, 30 * HOUR, 10 * DAY, 300 * DAY]) * self.random.random()

    def _record(self, age: timedelta) -> dict[str, Any]:
        return {
            "timestamp": datetime.now(timezone.utc) - age,
            "model_name": self.random.choice(self.models),
            "model_version": self.random.choice(["", "1", "2"]),
            "duration_ms": self.random.choice(
                [0.0, 7.0, 5e-324, 2e12, self.random.lognormvariate(3, 1), self.random.expovariate(1e-6)]
            ),
            "was_successful": self.random.random() > 0.1,
            "request_id": str(UUID(int=self.random.getrandbits(128))),
        }

    def _insert(self, records: list[dict[str, Any]]) -> None:
        with self.database.connect() as connection:
            connection.exec_driver_sql(INSERT, {key: [record[key] for record in records] for key in records[0]})
        self.sent = [*self.sent[-200:], *records]


class Checker:
    """Asks for random ranges and compares with a scan."""

    def __init__(self, database: Engine, server: Server, models: list[str], seed: int) -> None:
        self.database, self.models = database, models
        self.has_chunks = server.engine == "timescale"
        self.is_distributed = server.engine == "citus"
        self.random = random.Random(seed)
        self.snapshot = Snapshot()
        self.statistics = self._nothing_remembered()
        self.checks = 0
        self.asked: list[tuple[list[str], tuple[datetime, ...]]] = []

    def check(self) -> None:
        """One question, answered and scanned in one snapshot."""
        models = self.random.sample(self.models, self.random.randint(1, len(self.models)))
        # The second answer to a question comes from the cached tallies of its valid parts.
        again = bool(self.asked) and self.random.random() < 0.5
        models, edges = self.random.choice(self.asked[-8:]) if again else (models, self._edges())
        self.asked.append((models, edges))
        while not self._compare(models, edges):
            pass
        self.checks += 1

    def _compare(self, models: list[str], edges: tuple[datetime, ...]) -> bool:
        """False if they differ because a chunk was moved while the snapshot was open.

        What was remembered in such a snapshot is forgotten: the service never asks in one.
        """
        question = Question(
            Selection(tuple(models)), TimeRange(edges[0], edges[-1]), series=Series(edges) if len(edges) > 2 else None
        )
        values = {
            "edges": list(edges), "models": models, "start": edges[0], "end": edges[-1],
            "fractions": [percentile / 100 for percentile in PERCENTILES],
        }  # fmt: skip
        with self.database.connect() as connection:
            connection = connection.execution_options(isolation_level="REPEATABLE READ")
            with connection.begin():
                self.snapshot.connection = connection
                chunks = self._chunks(connection)
                answer = self.statistics.ask(question)
                names_missing = connection.exec_driver_sql(NAMES_MISSING).fetchall()
                truth = {row[0]: row[1:] for row in connection.exec_driver_sql(SCAN, values)}
        with self.database.connect() as connection:
            is_whole = chunks == self._chunks(connection)
        if not is_whole:
            self.statistics = self._nothing_remembered()
        try:
            assert names_missing == []
            assert answer.range == question.range
            assert {key.point for key in answer.tallies} == set(truth), question
            for point, row in truth.items():
                agree(answer.tallies[GroupKey(point)], *row)
        except AssertionError:
            if is_whole:
                raise
            return False
        return True

    def _nothing_remembered(self) -> Statistics:
        return Statistics(PostgresStatisticsStore(self.snapshot.run, lambda: self.is_distributed), segment_memory())

    def _chunks(self, connection: Connection) -> list[Any]:
        return list(connection.exec_driver_sql(CHUNKS).fetchall()) if self.has_chunks else []

    def _edges(self) -> tuple[datetime, ...]:
        now = datetime.now(timezone.utc)
        instants = {self._instant(now) for _ in range(self.random.choice([2, 2, 5]))}
        width = self.random.choice([None, MINUTE, HOUR, DAY])
        return tuple(sorted({floor(instant, width) if width else instant for instant in instants} | {now + 6 * MINUTE}))

    def _instant(self, now: datetime) -> datetime:
        if self.random.random() < 0.5:
            return self.random.choice(SPOTS)
        ages = [MINUTE, HOUR, 5 * HOUR, 3 * DAY, 40 * DAY, 310 * DAY]
        return now - self.random.choice(ages) * self.random.random()


def agree(
    tally: Tally, predictions: int, successful: int, total_ns: int, low: float, high: float, quantiles: Any
) -> None:
    """Counts, sums and extremes are the same, quantiles within their bound."""
    assert (tally.total, tally.successful) == (predictions, successful)
    assert (tally.duration_ms_min, tally.duration_ms_max) == (low, high)
    assert tally.duration_ns_sum == total_ns
    assert sum(count for _, count in tally.sketch.counts) == predictions
    for estimate, quantile in zip(tally.percentiles(PERCENTILES), quantiles):
        assert estimate is not None
        assert abs(estimate - quantile) <= RELATIVE_ERROR * quantile * (1 + 1e-9)


def unless_in_the_way(step: Callable[[], None]) -> None:
    """Run the step, or skip it if another session, such as TimescaleDB's own job, blocks it."""
    try:
        step()
    except DBAPIError as error:
        if getattr(error.orig, "pgcode", None) not in TRY_AGAIN:
            raise


@pytest.fixture
def database(server: Server) -> Iterator[Engine]:
    """A database of its own: what a history leaves to be repaired would keep other tests waiting."""
    with empty_database(server) as url:
        with make_app(url, pool_size=1).app_context():
            upgrade()
        engine = create_engine(url, isolation_level="AUTOCOMMIT", pool_size=5 if server.concurrent else 1)
        yield engine
        engine.dispose()


@pytest.fixture
def models(model: str) -> list[str]:
    return [f"{model}-{i}" for i in range(3)]


def test_answers_equal_a_scan_after_every_step_of_a_random_history(
    database: Engine, server: Server, models: list[str]
) -> None:
    history, checker = History(database, server, models, SEED), Checker(database, server, models, SEED)
    until = time.monotonic() + SECONDS
    while time.monotonic() < until or checker.checks < CHECKS:
        history.write()
        checker.check()
        if history.random.random() < 0.15:
            unless_in_the_way(history.maintain)
            checker.check()


def test_answers_equal_a_scan_while_several_connections_write_refresh_and_compress(
    database: Engine, server: Server, models: list[str]
) -> None:
    if not server.concurrent:
        pytest.skip("all clients of this TimescaleDB share one session")
    checkers = [Checker(database, server, models, SEED + i) for i in range(2)]
    histories = [History(database, server, models, SEED + i) for i in range(4)]
    until = time.monotonic() + SECONDS
    failures: list[BaseException] = []

    def repeat(step: Callable[[], None]) -> None:
        try:
            while not failures and (time.monotonic() < until or any(c.checks < CHECKS for c in checkers)):
                unless_in_the_way(step)
        except BaseException as failure:
            failures.append(failure)

    steps = [c.check for c in checkers] + [h.write for h in histories[:3]] + [histories[3].maintain]
    threads = [threading.Thread(target=repeat, args=(step,)) for step in steps]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, f"seed {SEED}: {failures[0]!r}"
