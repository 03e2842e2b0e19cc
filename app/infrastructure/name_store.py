"""The names of all models in PostgreSQL, and how many new ones each caller may log."""

from __future__ import annotations

from collections.abc import Sequence

from app.application.new_models import Model
from app.infrastructure import citus
from app.infrastructure.postgres.array_literals import text_array
from app.infrastructure.postgres.database import Database

# A name without a version is known if any version of it was logged, or if it was reported before.
KNOWN = """
SELECT name, version
FROM   unnest(%(names)s::text[], %(versions)s::text[]) AS asked (name, version)
WHERE  EXISTS (SELECT FROM prediction_model
               WHERE  model_name = name AND model_version = coalesce(version, model_version))
   OR  version IS NULL AND EXISTS (SELECT FROM prediction_dropped_day WHERE model_name = name)
"""

# GCRA, as in domain/rate.py: `tat` is the theoretical arrival time, at which the allowance is whole again. The row's
# lock makes callers in several workers wait for each other. The millionth makes up for rounding down to microseconds,
# which would cost a whole name.
GRANT = """
WITH asked AS (
    SELECT %(caller)s AS caller, %(wanted)s AS wanted, INTERVAL '1 day' / %(per_day)s AS each, clock_timestamp() AS at
)
INSERT INTO prediction_model_allowance AS a (caller, tat, granted)
SELECT caller, at + least(wanted, %(per_day)s) * each, least(wanted, %(per_day)s) FROM asked
ON CONFLICT (caller) DO UPDATE
SET (tat, granted) = (
    SELECT greatest(a.tat, at) + free * each, free
    FROM   asked, LATERAL (
        SELECT least(wanted, greatest(0, floor(
                   extract(epoch FROM at + INTERVAL '1 day' - greatest(a.tat, at)) / extract(epoch FROM each) + 1e-6
               )))::integer AS free) AS left_over
)
RETURNING granted
"""


class PostgresNameStore:
    """The tables prediction_model, which a trigger fills, and prediction_model_allowance."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def known(self, models: Sequence[Model]) -> set[Model]:
        """Return those of the models that were ever logged or, without a version, reported."""
        names, versions = zip(*models)
        statement = citus.KNOWN_NAMES if citus.is_distributed(self._database) else KNOWN
        found = self._database.read(statement, {"names": text_array(names), "versions": text_array(versions)})
        return {(name, version) for name, version in found}

    def grant(self, caller: str, wanted: int, per_day: int) -> int:
        """Take up to `wanted` from the rest of the caller's allowance, and return how many it had."""
        values = {"caller": caller, "wanted": wanted, "per_day": per_day}
        return int(self._database.rows(GRANT, values)[0][0])
