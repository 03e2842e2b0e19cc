"""The tables that `lifecycle show` lists, in its order, and the sizes of those that are ordinary tables."""

from __future__ import annotations

from collections.abc import Sequence

from app.application.retention import Relation
from app.infrastructure.postgres.database import Database

LEVELS = ("minute", "hour", "day")
LOGGED = ("prediction_log", *(f"prediction_{family}_{level}" for family in ("stats", "latency") for level in LEVELS))
# What clients summarised and what they dropped.
REPORTED = tuple(
    name
    for family in ("summary", "summary_latency", "dropped")
    for name in (f"prediction_{family}", *(f"prediction_{family}_{level}" for level in LEVELS))
    if name != "prediction_summary_latency"
)

SIZES = """
SELECT c.relname, greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid),
       (to_jsonb(state) ->> (CASE c.relname WHEN 'prediction_log' THEN 'raw'
                             ELSE substring(c.relname FROM '[a-z]+$') END || '_from'))::timestamptz
FROM   prediction_stats_state state, unnest(%(names)s::text[]) WITH ORDINALITY AS wanted (name, place)
JOIN   pg_class c ON c.oid = wanted.name::regclass
ORDER  BY place
"""


def ordinary(database: Database, names: Sequence[str]) -> list[Relation]:
    """Return size and rows of each of these tables; they must be neither hypertables nor distributed."""
    rows = database.read(SIZES, {"names": list(names)})
    return [Relation(name, calls, size, kept_from=kept_from) for name, calls, size, kept_from in rows]
