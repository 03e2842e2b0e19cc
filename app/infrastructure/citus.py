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
