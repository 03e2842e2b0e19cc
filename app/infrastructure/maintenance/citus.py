"""Maintenance of the engine citus: triggers keep the rollups exact, and retention drops partitions of the log."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from app.application.retention import LifeCycle, Node, Overview, Relation
from app.infrastructure import citus
from app.infrastructure.dropped_store import RETAIN as RETAIN_DROPPED
from app.infrastructure.maintenance.plain import TIDY, Plain
from app.infrastructure.maintenance.relations import LEVELS, LOGGED, REPORTED
from app.infrastructure.postgres.database import NODE_AWAY
from app.infrastructure.summary_rows import RETAIN as RETAIN_SUMMARIES

# For so many days partitions are made ahead: as long may the daily run of retention fail.
DAYS_AHEAD = 14
MAKE_PARTITIONS = f"SELECT prediction_log_make_partitions({DAYS_AHEAD})"
DROP_PARTITIONS = "CALL drop_old_time_partitions('prediction_log', %(edge)s)"

# What came for a day without a partition: deleted day by day, so that no transaction is long.
EDGES = "SELECT raw_from, minute_from, hour_from, day_from FROM prediction_stats_state"
FIRST_BEHIND = "SELECT min(timestamp) FROM prediction_log_default WHERE timestamp < %(edge)s"
AS_RETENTION = "SET LOCAL predlog.retention = 'on'"
DROP_ROWS = "DELETE FROM prediction_log_default WHERE timestamp < %(until)s"
DROP_BUCKETS = "DELETE FROM {relation} WHERE bucket < %(edge)s"

SIZES = """
SELECT nodename || ':' || nodeport, success, result::json
FROM   run_command_on_all_nodes(format($$
    SELECT coalesce(json_agg(found), '[]')
    FROM  (SELECT name, count(*) AS shards, sum(greatest(reltuples, 0))::bigint AS rows,
                  sum(pg_total_relation_size(oid))::bigint AS size
           FROM   pg_class, regexp_replace(relname, '(_p[0-9]{8}|_default)?_[0-9]+$', '') AS name
           WHERE  relnamespace = %%L::regnamespace AND relkind = 'r' AND relname <> name AND name = ANY (%%L::text[])
           GROUP  BY name) AS found
$$, current_schema, %(names)s::text[])) JOIN pg_dist_node USING (nodeid)
ORDER  BY groupid
"""


class Citus(Plain):
    """Rollup tables, spread over nodes by model."""

    lock_timeout = f"{citus.ON_NODES_TOO}; {Plain.lock_timeout}"
    locked_out = "Retention cannot lock prediction_log: a session that writes to it does not end, or a node is away."

    def retain(self, life_cycle: LifeCycle) -> None:
        """Make the partitions of the next days; drop partitions and buckets behind the edges."""
        with self._database.maintenance() as connection:
            connection.exec_driver_sql(MAKE_PARTITIONS)
            finer = "'infinity'::timestamptz"
            for level, keep in life_cycle.keep.items():
                self._move_edge(connection, level, finer, keep)
                finer = f"{level}_from"
                edge = dict(zip(("raw", *LEVELS), connection.exec_driver_sql(EDGES).one()))[level]
                if edge is None:
                    continue
                if level == "raw":
                    connection.exec_driver_sql(DROP_PARTITIONS, {"edge": edge})
                    _drop_rows(connection, edge)
                    continue
                for family in ("stats", "latency"):
                    statement = DROP_BUCKETS.format(relation=f"prediction_{family}_{level}")
                    connection.exec_driver_sql(statement, {"edge": edge})
            connection.exec_driver_sql(RETAIN_DROPPED)
            connection.exec_driver_sql(RETAIN_SUMMARIES)
            connection.exec_driver_sql(TIDY)

    def overview(self) -> Overview:
        """Return the sizes and rows of the tables over all nodes, and of each node."""
        ((watermark,),) = self._database.read("SELECT watermark FROM prediction_stats_state")
        kept_from = dict(zip(("log", *LEVELS), self._database.read(EDGES)[0]))
        names = LOGGED + REPORTED
        sizes = self._database.read(SIZES, {"names": list(names)})
        shards = [shard for _, is_there, found in sizes if is_there for shard in found]
        relations = []
        for name in names:
            own = [shard for shard in shards if shard["name"] == name]
            rows, size, number = (sum(shard[column] for shard in own) for column in ("rows", "size", "shards"))
            relations.append(Relation(name, rows, size, number, kept_from=kept_from.get(name.rpartition("_")[2])))
        nodes = [
            Node(node, sum(shard["shards"] for shard in found), sum(shard["size"] for shard in found))
            if is_there else Node(node, None, None)
            for node, is_there, found in sizes
        ]  # fmt: skip
        return Overview(citus.NAME, watermark, 0, relations, [], nodes)

    def _is_locked_out(self, error: DBAPIError) -> bool:
        # Citus tells of a lock that a node does not give in time as of a lost connection.
        return super()._is_locked_out(error) or NODE_AWAY.search(str(error.orig)) is not None


def _drop_rows(connection: Connection, edge: datetime) -> None:
    while first := connection.exec_driver_sql(FIRST_BEHIND, {"edge": edge}).scalar():
        until = min(edge, first + timedelta(days=1))
        connection.exec_driver_sql("BEGIN")
        connection.exec_driver_sql(citus.ON_NODES_TOO)
        connection.exec_driver_sql(AS_RETENTION)
        connection.exec_driver_sql(DROP_ROWS, {"until": until})
        connection.exec_driver_sql("COMMIT")
