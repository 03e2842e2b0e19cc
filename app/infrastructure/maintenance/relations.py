"""The tables that `lifecycle show` lists, in its order, and the sizes of those that are ordinary tables."""

from __future__ import annotations

from collections.abc import Sequence

from app.application.retention import Relation
from app.infrastructure.postgres.database import Database

LEVELS = ("minute", "hour", "day")


def _by_level(family: str) -> tuple[str, ...]:
    return tuple(f"prediction_{family}_{level}" for level in LEVELS)


LOGGED = ("prediction_log", *_by_level("stats"), *_by_level("latency"))
# What clients summarised, and what they dropped.
REPORTED = (
    *("prediction_summary", *_by_level("summary"), *_by_level("summary_latency")),
    *("prediction_dropped", *_by_level("dropped")),
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
    return [Relation(name, number, size, kept_from=kept_from) for name, number, size, kept_from in rows]
