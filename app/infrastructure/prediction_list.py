"""The list of logged predictions in PostgreSQL, page by page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from app.application.prediction_list import Cursor, Filters, Page
from app.domain.errors import StorageTimeout
from app.infrastructure.postgres.database import Database, Row
from app.infrastructure.prediction_rows import COLUMNS, predictions_of, utc

CONDITIONS = {
    "model_names": "model_name IN %(model_names)s",
    "model_version": "model_version = %(model_version)s",
    "was_successful": "was_successful = %(was_successful)s",
    "start": "timestamp >= %(start)s",
    "end": "timestamp < %(end)s",
    "min_duration_ms": "duration_ms >= %(min_duration_ms)s",
    # The first line repeats a part of the second one, so that the planner can leave out the chunks after the cursor.
    "cursor": "timestamp <= %(cursor_timestamp)s AND (timestamp, id) < (%(cursor_timestamp)s, %(cursor_id)s)",
}

# Without an index a page searches at most so many predictions, so that it costs as much as other pages.
MAX_SEARCHED = 50_000
# How long a page's JSON may become without its last prediction; each counts as PostgreSQL would write it.
PAGE_BYTES = 2**20
MAX_RECORD_BYTES = """
       300 + octet_length(model_name) + octet_length(model_version)
           + coalesce(octet_length(to_json(error)::text), 0) + coalesce(octet_length(metadata::text), 0)"""

LISTED = """
SELECT * FROM prediction_log {where} ORDER BY timestamp DESC, id DESC LIMIT {limit:d}"""
# The last searched prediction is returned, too, because the next page begins there.
FOUND = """
SELECT *
FROM  (SELECT *, row_number() OVER (ORDER BY timestamp DESC, id DESC) AS place
       FROM   prediction_log {where} ORDER BY timestamp DESC, id DESC LIMIT {most:d}) AS searched
WHERE  {passes} OR place = {most:d}
ORDER  BY timestamp DESC, id DESC LIMIT {limit:d}"""
PAGE = """
SELECT {columns}, {passes} AS passes, {is_last} AS is_last, is_followed
FROM  (SELECT *, lead(id) OVER (ORDER BY timestamp DESC, id DESC) IS NOT NULL AS is_followed,
              sum({record_bytes}) OVER (ORDER BY timestamp DESC, id DESC
                                        ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
       FROM  ({found}) AS found) AS page
WHERE  bytes_before IS NULL OR bytes_before <= {page_bytes:d}
ORDER  BY timestamp DESC, id DESC"""
PASSES, IS_LAST, IS_FOLLOWED = -3, -2, -1
TOO_LONG = (
    "The page took longer than LIST_TIMEOUT_MS. Narrow the list: give `from` and `to`, or a `model_name`; "
    "or send it again when less is going on."
)


class PostgresPredictionList:
    """The table prediction_log, newest rows first."""

    def __init__(self, database: Database, timeout_ms: int | None = None) -> None:
        """`timeout_ms` is the timeout of each page in milliseconds; None means the timeout of any statement."""
        self._database = database
        self._timeout_ms = timeout_ms

    def page(self, filters: Filters, cursor: Cursor | None, limit: int) -> Page:
        """Return the newest predictions that pass the filters and are older than the cursor. Raises StorageTimeout."""
        values: dict[str, Any] = {name: value for name, value in vars(filters).items() if value is not None}
        searched = [name for name in values if is_searched(filters, name)]
        sought = [name for name in values if name not in searched] + ["cursor"] * (cursor is not None)
        statement = _page_statement(sought, searched, limit)
        if cursor:
            values |= {"cursor_timestamp": cursor.timestamp, "cursor_id": cursor.id}
        try:
            rows = self._database.read(statement, values, self._timeout_ms)
        except StorageTimeout as error:
            raise StorageTimeout(TOO_LONG) from error
        return _page(rows, limit)


def is_searched(filters: Filters, name: str) -> bool:
    """Return whether this filter has no index: the indexes are by model, and of failed predictions."""
    if name == "model_names":
        return len(filters.model_names or ()) > 1
    return name in ("model_version", "min_duration_ms") or (name == "was_successful" and bool(filters.was_successful))


def _page_statement(sought: Sequence[str], searched: Sequence[str], limit: int) -> str:
    """Return a statement for one prediction more than `limit`, which tells whether there is a next page."""
    where = f"WHERE {_all(sought)}" if sought else ""
    passes = f"({_all(searched)})"
    if searched:
        found = FOUND.format(where=where, passes=passes, most=MAX_SEARCHED, limit=limit + 1)
        is_last = f"place = {MAX_SEARCHED:d}"
    else:
        found, passes, is_last = LISTED.format(where=where, limit=limit + 1), "true", "false"
    return PAGE.format(
        columns=COLUMNS,
        passes=passes,
        is_last=is_last,
        found=found,
        record_bytes=MAX_RECORD_BYTES,
        page_bytes=PAGE_BYTES,
    )


def _all(names: Sequence[str]) -> str:
    return " AND ".join(CONDITIONS[name] for name in names)


def _page(rows: Sequence[Row], limit: int) -> Page:
    passing = [row for row in rows if row[PASSES]]
    page, end = passing[:limit], None
    if len(passing) > limit or (rows and rows[-1][IS_FOLLOWED]):
        end = page[-1]
    elif rows and rows[-1][IS_LAST]:
        end = rows[-1]
    return Page([row[0] for row in page], predictions_of(page), Cursor(utc(end[1]), end[0]) if end else None)
