"""What statements need on Citus, where all rows of a model are on one node, and each node has several shards.

Citus sends a statement about one model to the node of the model as it is. A statement about several models becomes a
task for each shard if every part of it groups by the model; otherwise Citus would run its parts one after the other.
"""

from __future__ import annotations

from app.infrastructure.postgres.database import Database

NAME = "citus"

# Each unique key of a distributed table contains the model: a request id that is used for another model is another
# prediction.
REQUEST_KEYS = {False: "(request_id, timestamp)", True: "(request_id, timestamp, model_name)"}

# Citus counts rows that an ON CONFLICT has left out: https://github.com/citusdata/citus/issues/3377
COUNTED = "{ctes}stored AS ({insert} RETURNING 1) SELECT count(*) FROM stored"

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


def is_distributed(database: Database) -> bool:
    """Return whether the database was migrated to the engine citus. Raises StorageUnavailable."""
    return database.storage_engine == NAME
