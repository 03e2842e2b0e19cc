"""What statements need on Citus, where all rows of a model are on one node, and each node has several shards.

Citus sends a statement about one model to the node of the model as it is. A statement about several models becomes a
task for each shard if every part of it groups by the model; otherwise Citus would run its parts one after the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from app.infrastructure.postgres.database import Database, Row

NAME = "citus"

# Each unique key of a distributed table contains the model: a request id that is used for another model is another
# prediction.
REQUEST_KEYS = {False: "(request_id, timestamp)", True: "(request_id, timestamp, model_name)"}

# Citus counts rows that an ON CONFLICT has left out: https://github.com/citusdata/citus/issues/3377
COUNTED = "{ctes}stored AS ({insert} RETURNING 1) SELECT count(*) FROM stored"

# A batch of one model, as one row, which triggers of the migrations unpack on the node of the model. They return it if
# some of its predictions were stored before.
INSERT_BATCH = """
INSERT INTO prediction_batch (model_name, ids, timestamp, model_version, duration_ms, was_successful, error, metadata,
                              request_id)
VALUES (%(model_name)s, prediction_log_ids(%(number)s), %(timestamp)s, %(model_version)s, %(duration_ms)s,
        %(was_successful)s, %(error)s, %(metadata)s, %(request_id)s)
RETURNING stored"""

# See statistics_store: the same branches for all models together. What a branch would group by, the answer groups by.
FROM_ROWS = """
SELECT {part} AS part, {keys}, true AS raw, {bin} AS bin, 1::bigint AS calls,
       was_successful::integer::bigint AS successful,
       coalesce(duration_ns(duration_ms), long_duration_ns(duration_ms), 0) AS sum,
       duration_ms AS min, duration_ms AS max, NULL::numeric AS dropped
FROM   prediction_log
WHERE  timestamp >= '{start}' AND timestamp < '{end}'{conditions}"""
FROM_STATS = """
SELECT {part} AS part, {keys}, false AS raw, NULL::integer AS bin, total_requests AS calls,
       successful_requests AS successful,
       duration_ns_sum AS sum, duration_ms_min AS min, duration_ms_max AS max, NULL::numeric AS dropped
FROM   prediction_stats_{level}
WHERE  bucket >= '{start}' AND bucket < '{end}'{conditions}"""

# Nodes can add up the predictions of a bin, but not arrays of bins: each bin of a group has a row.
ANSWER = """
SELECT part, point, NULL::text, model_version,
       sum(calls) FILTER (WHERE successful IS NOT NULL)::bigint,
       sum(successful)::bigint, sum(sum), min(min), max(max),
       sum(calls) FILTER (WHERE raw)::bigint,
       bin, sum(calls)::bigint, sum(dropped)
FROM  ({branches}) AS parts
GROUP  BY part, point, model_version, bin"""
KEYS = 4

# A question about several models asks in this part whether any were summarised, as long as none were: later branches
# count the summaries.
ANY_SUMMARIES = -1
IF_ANY_SUMMARIES = f"""
SELECT {ANY_SUMMARIES} AS part, {{keys}}, false AS raw, NULL::integer AS bin, NULL::bigint AS calls,
       NULL::bigint AS successful,
       NULL::numeric AS sum, NULL::double precision AS min, NULL::double precision AS max, NULL::numeric AS dropped
FROM   prediction_summary_day"""

# See half_store.EXPIRE: Citus joins the expired halves with the log, but does not look into it for each of them.
EXPIRE_HALVES = """
WITH expired AS (
    DELETE FROM prediction_half
    WHERE  request_id IN (SELECT request_id FROM prediction_half WHERE received_at < now() - %(wait)s
                          ORDER BY received_at LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
    RETURNING request_id, model_name, requested_at, responded_at,
              date_trunc('minute', coalesce(requested_at, responded_at), 'UTC') AS minute
), logged AS (
    SELECT DISTINCT log.request_id
    FROM   prediction_log log JOIN expired USING (request_id)
    WHERE  log.timestamp >= now() - 3 * %(wait)s::interval
)
INSERT INTO prediction_dropped (id, timestamp, model_name, reason, count)
SELECT request_id, minute, model_name, 'expired', 1
FROM   expired
WHERE  (requested_at IS NULL OR responded_at IS NULL)
  AND  minute >= (SELECT coalesce(day_from, '-infinity') FROM prediction_stats_state)
  AND  request_id NOT IN (SELECT request_id FROM logged)
ORDER  BY request_id, model_name
ON CONFLICT (id, model_name) DO NOTHING
"""

# The setting holds in the transaction, on the nodes as well.
ON_NODES_TOO = "SET LOCAL citus.propagate_set_commands = 'local'"

# See name_store.KNOWN: Citus joins a distributed table with given values, but looks for no row of it for each of them.
KNOWN_NAMES = """
WITH asked AS (
    SELECT name, version FROM unnest(%(names)s::text[], %(versions)s::text[]) AS asked (name, version)
)
SELECT DISTINCT name, version
FROM   asked JOIN prediction_model ON model_name = name AND (version IS NULL OR model_version = version)
UNION
SELECT DISTINCT name, version
FROM   asked JOIN prediction_dropped_day ON model_name = name
WHERE  version IS NULL
"""

# See catalogue_store.FIND_ROW and FIND_BUCKET: all places in one statement, which is one task for each shard. The name
# of each model, of which there is one row, leads to the node on which the others are looked for.
FIND_PLACES = """
SELECT place, CASE WHEN is_last THEN {last} ELSE {first} END
FROM  (VALUES {places}) AS asked (place, name, version, since, until, is_last)
JOIN   prediction_model AS m ON m.model_name = name AND m.model_version = version"""
PLACE = """({number}, %(model_name_{number})s, %(model_version_{number})s,
                '{start}'::timestamptz, '{end}'::timestamptz, {is_last})"""
EXTREME = """(
    SELECT {extreme}({time})
    FROM   {relation}
    WHERE  model_name = m.model_name AND model_version = m.model_version AND {time} >= since AND {time} < until
      AND  {time} >= '{start}' AND {time} < '{end}'{conditions})"""
NOT_SUMMARIZED = """
      AND  NOT EXISTS (
               SELECT FROM prediction_summary_minute
               WHERE  model_name = m.model_name AND model_version = m.model_version
                 AND  bucket >= since AND bucket < until)"""

# On all nodes that answer.
SIZE = """(
    SELECT sum(result::bigint)
    FROM   run_command_on_all_nodes('SELECT pg_database_size(current_database())')
    WHERE  success
)::bigint"""
NODES_AWAY = """
SELECT nodename || ':' || nodeport
FROM   run_command_on_all_nodes('SELECT 1') JOIN pg_dist_node USING (nodeid)
WHERE  NOT success
ORDER  BY nodeid
"""


def joined(rows: Iterable[Row]) -> Iterator[Row]:
    """Join the rows that ANSWER has for the bins of each group into one row, as statistics_store.ANSWER has it."""
    groups: dict[Row, list[Row]] = {}
    for row in rows:
        groups.setdefault(tuple(row[:KEYS]), []).append(row)
    for key, of_group in groups.items():
        predictions, successful, total, low, high, raw, bins, counts, dropped = zip(*(row[KEYS:] for row in of_group))
        counted = [(bin, count) for bin, count in zip(bins, counts) if bin is not None]
        yield (
            *key,
            _sum(predictions),
            _sum(successful),
            _sum(total),
            min((value for value in low if value is not None), default=None),
            max((value for value in high if value is not None), default=None),
            _sum(raw),
            ",".join(str(bin) for bin, _ in counted),
            ",".join(str(count) for _, count in counted),
            _sum(dropped),
        )


def _sum(values: Iterable[Any]) -> Any:
    return sum(value for value in values if value is not None)


def is_distributed(database: Database) -> bool:
    """Return whether the database was migrated to the engine citus. Raises StorageUnavailable."""
    return database.storage_engine == NAME
