"""Single predictions in PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from sqlalchemy.exc import DBAPIError

from app.application.predictions import Added, Batch, PredictionColumns
from app.domain.errors import BehindRetention, RequestIdConflict
from app.domain.predictions import Prediction, metadata_json
from app.infrastructure import citus, dropped_store, summary_rows
from app.infrastructure.dropped_store import reports_json
from app.infrastructure.group_commit import GroupCommit
from app.infrastructure.postgres.array_literals import array, text_array
from app.infrastructure.postgres.database import Database, Deadlock
from app.infrastructure.prediction_rows import COLUMNS, prediction_of

# The stored prediction, and whether it is new.
Outcome = tuple[Prediction, bool]

INSERT = f"""
INSERT INTO prediction_log
       (timestamp, model_name, model_version, duration_ms, was_successful, error, metadata, request_id)
VALUES (%(timestamp)s, %(model_name)s, %(model_version)s, %(duration_ms)s, %(was_successful)s,
        %(error)s, %(metadata)s, %(request_id)s::uuid)
ON CONFLICT {{key}} DO NOTHING
RETURNING {COLUMNS}
"""

# Each record gets its id before the insert: a record whose id is not returned was stored before.
INSERT_GROUP = """
WITH record AS (
    SELECT nextval(pg_get_serial_sequence('prediction_log', 'id')) AS id, place, timestamp, model_name, model_version,
           duration_ms, was_successful, error, metadata, request_id
    FROM   ROWS FROM (json_to_recordset(%(records)s::json)
                      AS (timestamp timestamptz, model_name text, model_version text, duration_ms double precision,
                          was_successful boolean, error text, metadata json, request_id uuid))
           WITH ORDINALITY AS r (timestamp, model_name, model_version, duration_ms, was_successful, error, metadata,
                                 request_id, place)
), stored AS (
    INSERT INTO prediction_log
           (id, timestamp, model_name, model_version, duration_ms, was_successful, error, metadata, request_id)
    SELECT id, timestamp, model_name, model_version, duration_ms, was_successful, error, metadata, request_id
    FROM   record
    ORDER  BY request_id, timestamp
    ON CONFLICT {key} DO NOTHING
    RETURNING id
)
SELECT stored.id FROM record LEFT JOIN stored USING (id) ORDER BY place
"""

BY_REQUEST = f"""
SELECT {COLUMNS}
FROM   prediction_log
WHERE  request_id = %(request_id)s::uuid AND timestamp = %(timestamp)s
"""
OF_MODEL = "AND model_name = %(model_name)s"

DROPPED_REPORTED = f"reported AS ({dropped_store.INSERT})"
INSERT_MANY = """
INSERT INTO prediction_log
       (timestamp, model_name, model_version, duration_ms, was_successful, error, metadata, request_id)
SELECT timestamp, model_name, model_version, duration_ms, was_successful, error, metadata, request_id
FROM   unnest(%(timestamp)s::timestamptz[], %(model_name)s::text[], %(model_version)s::text[],
              %(duration_ms)s::double precision[], %(was_successful)s::boolean[], %(error)s::text[],
              %(metadata)s::json[], %(request_id)s::uuid[])
       AS sent (timestamp, model_name, model_version, duration_ms, was_successful, error, metadata, request_id)
"""
# In the order of the unique index, so that two overlapping batches wait for each other without a deadlock.
IN_ORDER = "ORDER  BY request_id, timestamp\n"
ONLY_NEW = "ON CONFLICT {key} DO NOTHING"
# With summaries the statement must count two kinds of rows.
WITH_SUMMARIES = """
{ctes}stored AS ({insert} RETURNING 1)
SELECT (SELECT count(*) FROM stored), (SELECT count(*) FROM summarized),
       (SELECT coalesce(sum(total_requests), 0)::bigint FROM summarized)
"""
MAX_DEADLOCKS = 3

# The bounds keep the server from reading chunks of other times.
CONFLICTS = """
SELECT sent.row - 1
FROM   unnest(%(timestamp)s::timestamptz[], %(model_name)s::text[], %(request_id)s::uuid[])
       WITH ORDINALITY AS sent (timestamp, model_name, request_id, row)
JOIN   prediction_log log USING (request_id, timestamp)
WHERE  log.model_name <> sent.model_name AND log.timestamp >= %(first)s AND log.timestamp <= %(last)s
ORDER  BY 1
"""

BY_ID = f"SELECT {COLUMNS} FROM prediction_log WHERE id = %(id)s"
# With its timestamp the server reads one chunk only, and with its model on Citus one shard only.
DELETE = """
DELETE FROM prediction_log WHERE id = %(id)s AND timestamp = %(timestamp)s AND model_name = %(model_name)s RETURNING id
"""


class PostgresPredictionStore:
    """The table prediction_log, row by row."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._commits: GroupCommit[Prediction, Outcome] = GroupCommit(self._add_group)

    @property
    def _key(self) -> str:
        return citus.REQUEST_KEYS[citus.is_distributed(self._database)]

    def add(self, prediction: Prediction) -> tuple[Prediction, bool]:
        """Store a prediction; return it with its id and True, or, if it was stored before, the first one and False.

        Raises RequestIdConflict if the first one is of another model, BehindRetention, and StorageUnavailable.
        """
        return self._commits.write(prediction)

    def _add_group(self, predictions: Sequence[Prediction]) -> Sequence[Outcome | BaseException]:
        """Store predictions that arrived at the same time, each with its own outcome."""
        if len(predictions) > 1:
            with suppress(BehindRetention, Deadlock, DBAPIError):  # one of them failed: store each alone
                records = json.dumps(list(map(_record, predictions)), ensure_ascii=False, separators=(",", ":"))
                ids = self._database.rows(INSERT_GROUP.format(key=self._key), {"records": records})
                return [
                    (replace(prediction, id=id), True) if id else self._outcome(prediction)
                    for prediction, (id,) in zip(predictions, ids, strict=True)
                ]
        return [self._outcome(prediction) for prediction in predictions]

    def _outcome(self, prediction: Prediction) -> Outcome | BaseException:
        try:
            return self._add_alone(prediction)
        except Exception as error:
            return error

    def _add_alone(self, prediction: Prediction) -> Outcome:
        values = _values(prediction)
        by_request = BY_REQUEST + (OF_MODEL if citus.is_distributed(self._database) else "")
        while True:
            if stored := self._database.rows(INSERT.format(key=self._key), values):
                return prediction_of(stored[0]), True
            if stored := self._database.read(by_request, values):
                first = prediction_of(stored[0])
                if first.model_name != prediction.model_name:
                    raise RequestIdConflict
                return first, False
            # The first prediction was deleted between the two statements: store this one after all.

    def add_many(self, batch: Batch) -> Added:
        """Store a batch, its summaries and its reports of dropped predictions in one transaction."""
        for _ in range(MAX_DEADLOCKS):
            with suppress(Deadlock):
                return self._add_many(batch)
        return self._add_many(batch)

    def _add_many(self, batch: Batch) -> Added:
        if citus.is_distributed(self._database) and _is_of_one_model(batch):
            return Added(self._add_to_one_node(batch.predictions))
        insert = INSERT_MANY + ("" if batch.in_order else IN_ORDER) + ONLY_NEW.format(key=self._key)
        values = _arrays(batch.predictions)
        if batch.dropped:
            values["reports"] = reports_json(batch.dropped)
        ctes = [DROPPED_REPORTED] if batch.dropped else []
        if not batch.summaries:
            return Added(self._count(ctes, insert, values))
        # The statement writes to the log in any case, whose lock keeps the names of new models (see the migrations).
        ctes.append(f"summarized AS ({summary_rows.INSERT})")
        values["summaries"] = summary_rows.as_json(batch.summaries.values())
        return Added(*self._database.rows(WITH_SUMMARIES.format(ctes=_with([*ctes, ""]), insert=insert), values)[0])

    def _add_to_one_node(self, predictions: PredictionColumns) -> int:
        """Store predictions of one model, and return how many are new."""
        values = {**_arrays(predictions), "model_name": predictions.model_name[0], "number": len(predictions)}
        partly = self._database.rows(citus.INSERT_BATCH, values)
        return int(partly[0][0]) if partly else len(predictions)

    def _count(self, ctes: list[str], insert: str, values: dict[str, str]) -> int:
        """Return how many rows the insert has stored; the other statements run in the same transaction."""
        if citus.is_distributed(self._database):
            statement = citus.COUNTED.format(ctes=_with([*ctes, ""]), insert=insert)
            return int(self._database.rows(statement, values)[0][0])
        return self._database.count(_with(ctes) + insert, values)

    def conflicts(self, predictions: PredictionColumns) -> Sequence[int]:
        """Return the indexes of predictions whose request id and timestamp a prediction of another model has.

        On Citus there are none, because the model is a part of the key.
        """
        if citus.is_distributed(self._database):
            return []
        known = [row for row, request_id in enumerate(predictions.request_id) if request_id]
        if not known:
            return []
        some = predictions.at(known)
        values = {
            "timestamp": array(some.timestamp),
            "model_name": text_array(some.model_name),
            "request_id": array(some.request_id),
            "first": min(some.timestamp),
            "last": max(some.timestamp),
        }
        return [known[row] for (row,) in self._database.read(CONFLICTS, values)]

    def get(self, prediction_id: int) -> Prediction | None:
        """Return the prediction with this id; None if there is none."""
        found = self._database.read(BY_ID, {"id": prediction_id})
        return prediction_of(found[0]) if found else None

    def remove(self, prediction: Prediction) -> bool:
        """Delete a prediction that `get` returned; return False if another request deleted it meanwhile."""
        values = {"id": prediction.id, "timestamp": prediction.timestamp, "model_name": prediction.model_name}
        return bool(self._database.rows(DELETE, values))


def _is_of_one_model(batch: Batch) -> bool:
    return len(set(batch.predictions.model_name)) == 1 and not (batch.dropped or batch.summaries)


def _with(ctes: list[str]) -> str:
    return f"WITH {', '.join(ctes)}" if ctes else ""


def _arrays(predictions: PredictionColumns) -> dict[str, str]:
    """The columns of INSERT_MANY, which PostgreSQL reads faster than JSON records."""
    return {
        "timestamp": array(predictions.timestamp),
        "model_name": text_array(predictions.model_name),
        "model_version": text_array(predictions.model_version),
        "duration_ms": array(predictions.duration_ms),
        "was_successful": array(predictions.was_successful),
        "error": text_array(predictions.error),
        "metadata": array(predictions.metadata),
        "request_id": array(predictions.request_id),
    }


def _values(prediction: Prediction) -> dict[str, Any]:
    return {
        "timestamp": prediction.timestamp,
        "model_name": prediction.model_name,
        "model_version": prediction.model_version,
        "duration_ms": prediction.duration_ms,
        "was_successful": prediction.was_successful,
        "error": prediction.error,
        "metadata": None if prediction.metadata is None else metadata_json(prediction.metadata),
        "request_id": prediction.request_id and str(prediction.request_id),
    }


def _record(prediction: Prediction) -> dict[str, Any]:
    """Return a prediction as json_to_recordset reads it."""
    values = vars(prediction) | {"timestamp": prediction.timestamp.isoformat()}
    return values | {"request_id": prediction.request_id and str(prediction.request_id)}
