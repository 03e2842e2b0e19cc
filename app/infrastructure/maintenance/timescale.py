"""Maintenance of the timescale engine; its procedures are in the migrations."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from sqlalchemy import Connection

from app.application.retention import Job, LifeCycle, Overview, Progress, Relation
from app.infrastructure.dropped_store import RETAIN as RETAIN_DROPPED
from app.infrastructure.maintenance.relations import REPORTED, ordinary
from app.infrastructure.postgres.database import Database
from app.infrastructure.summary_rows import RETAIN as RETAIN_SUMMARIES

HOLD = "SELECT prediction_stats_hold()"
RELEASE = "SELECT prediction_stats_release()"
LOOK_AGAIN_AFTER_S = 0.2
BEGINNING = """
SELECT extract(epoch FROM greatest(watermark, (SELECT min(timestamp) FROM prediction_log))),
       extract(epoch FROM invalidation_threshold)
FROM   prediction_stats_state
"""

IS_LEFT = """
SELECT EXISTS (SELECT FROM prediction_invalidation WHERE id <= %(newest)s AND invalid_to <= watermark)
FROM   prediction_stats_state
"""

JOB = "prediction_stats_job"
JOB_CONFIG = """
SELECT alter_job(job_id, config => %(config)s::jsonb)
FROM   timescaledb_information.jobs
WHERE  proc_schema = current_schema() AND proc_name = %(job)s AND config IS DISTINCT FROM %(config)s::jsonb
"""
# Hours and days have few buckets, and a policy of their own from the migrations.
COLUMNSTORE_JOBS = """
SELECT alter_job(job_id, config => config || jsonb_build_object('compress_after', %(after)s))
FROM   timescaledb_information.jobs
WHERE  proc_name = 'policy_compression'
  AND  config ->> 'compress_after' IS DISTINCT FROM %(after)s
  AND  ((hypertable_schema, hypertable_name) = (current_schema(), 'prediction_log')
        OR hypertable_name IN (SELECT materialization_hypertable_name FROM timescaledb_information.continuous_aggregates
                               WHERE  view_schema = current_schema()
                                 AND  view_name ~ '^prediction_(stats|latency)_minute'))
"""

RELATIONS = """
SELECT r.name,
       approximate_row_count(r.hypertable),
       hypertable_size(r.hypertable),
       (SELECT count(*) FROM show_chunks(r.hypertable)),
       s.number_compressed_chunks,
       s.before_compression_total_bytes::float8 / nullif(s.after_compression_total_bytes, 0),
       r.kept_from
FROM  (SELECT 'prediction_log' AS name, 'prediction_log'::regclass AS hypertable, raw_from AS kept_from
       FROM   prediction_stats_state
       UNION ALL
       SELECT a.view_name,
              format('%%I.%%I', a.materialization_hypertable_schema, a.materialization_hypertable_name)::regclass,
              (to_jsonb(state) ->> (substring(a.view_name FROM '[a-z]+$') || '_from'))::timestamptz
       FROM   timescaledb_information.continuous_aggregates a, prediction_stats_state state
       WHERE  a.view_schema = current_schema() AND a.view_name ~ '^prediction_(stats|latency)_') AS r
LEFT   JOIN LATERAL hypertable_columnstore_stats(r.hypertable) AS s ON true
ORDER  BY r.name <> 'prediction_log', r.name LIKE '%%latency%%',
          array_position(ARRAY['minute', 'hour', 'day'], substring(r.name FROM '[a-z]+$'))
"""

JOBS = """
SELECT j.proc_name, coalesce(a.view_name, j.hypertable_name), j.schedule_interval,
       s.last_run_started_at, s.last_run_status, s.next_start, coalesce(s.total_failures, 0)
FROM   timescaledb_information.jobs j
LEFT   JOIN timescaledb_information.job_stats s ON s.job_id = j.job_id
LEFT   JOIN timescaledb_information.continuous_aggregates a ON a.materialization_hypertable_name = j.hypertable_name
WHERE (j.proc_schema = current_schema()
       AND j.proc_name IN (%(job)s, 'prediction_dropped_retain', 'prediction_summary_retain', 'prediction_model_job'))
   OR (j.proc_name = 'policy_compression'
       AND current_schema() IN (j.hypertable_schema, a.view_schema))
ORDER  BY j.job_id
"""

STATE = """
SELECT watermark, (SELECT count(*) FROM prediction_invalid_hour) FROM prediction_stats_state
"""


class Timescale:
    """Continuous aggregates, the columnstore and retention."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def refresh(self, piece: timedelta) -> Iterator[Progress]:
        """Do the work of the job, in pieces."""
        with self._instead_of_the_job() as connection:
            yield from _advance(connection, piece)
            yield from _refresh_invalidated(connection)

    def apply(self, life_cycle: LifeCycle) -> None:
        """Give the settings to the jobs."""
        after = f"{life_cycle.columnstore_after // timedelta(hours=1)} hours"
        with self._database.maintenance() as connection:
            connection.exec_driver_sql(JOB_CONFIG, {"job": JOB, "config": _keep(life_cycle)})
            connection.exec_driver_sql(COLUMNSTORE_JOBS, {"after": after})

    def retain(self, life_cycle: LifeCycle) -> None:
        """Drop rows and buckets behind the edges, as the jobs do."""
        with self._instead_of_the_job() as connection:
            connection.exec_driver_sql("CALL prediction_stats_retain(%(keep)s::jsonb)", {"keep": _keep(life_cycle)})
            connection.exec_driver_sql(RETAIN_DROPPED)
            connection.exec_driver_sql(RETAIN_SUMMARIES)
            connection.exec_driver_sql("CALL prediction_model_tidy(NULL)")

    def overview(self) -> Overview:
        """Return sizes, chunks, jobs and their last runs."""
        watermark, hours = self._database.read(STATE)[0]
        relations = [Relation(*row) for row in self._database.read(RELATIONS)] + ordinary(self._database, REPORTED)
        jobs = [Job(*row) for row in self._database.read(JOBS, {"job": JOB})]
        return Overview("timescale", watermark, hours, relations, jobs)

    @contextmanager
    def _instead_of_the_job(self) -> Iterator[Connection]:
        """Wait for a run of the job that is under way; a run that begins during the block does nothing."""
        with self._database.maintenance() as connection:
            while not connection.exec_driver_sql(HOLD).scalar():
                time.sleep(LOOK_AGAIN_AFTER_S)
            try:
                yield connection
            finally:
                connection.exec_driver_sql(RELEASE)


def _advance(connection: Connection, piece: timedelta) -> Iterator[Progress]:
    connection.exec_driver_sql("CALL prediction_stats_advance_threshold()")
    start, end = (float(seconds) for seconds in connection.exec_driver_sql(BEGINNING).one())
    done = False
    while not done:
        up_to, done = connection.exec_driver_sql(
            "CALL prediction_stats_advance_watermark(%(piece)s, NULL, NULL)", {"piece": piece}
        ).one()
        yield Progress(min(max(up_to.timestamp() - start, 0), end - start), max(end - start, 0))


def _refresh_invalidated(connection: Connection) -> Iterator[Progress]:
    """Refresh the hours that are invalidated now, and no later ones: late predictions may invalidate hours for ever."""
    newest = {"newest": connection.exec_driver_sql("SELECT max(id) FROM prediction_invalidation").scalar()}
    while True:
        (hours_left,) = connection.exec_driver_sql("CALL prediction_stats_refresh_invalidated(NULL)").one()
        yield Progress(1, 1, hours_left)
        if not connection.exec_driver_sql(IS_LEFT, newest).scalar():
            return


def _keep(life_cycle: LifeCycle) -> str:
    return json.dumps({level: f"{keep // timedelta(hours=1)} hours" for level, keep in life_cycle.keep.items()})
