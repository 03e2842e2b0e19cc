"""All predictions that pass some filters, read through a cursor of the server.

A transaction of hours would keep the server from removing dead rows, and retention from dropping chunks. So each
transaction lasts some seconds, and the next one goes on after the last prediction that was read: predictions are in the
order of their times and ids, which never change. The server ends a transaction that a slow client leaves idle.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from typing import Any

from app.application.export import Block, Blocks, Layout
from app.application.prediction_list import Cursor, Filters
from app.domain.errors import StorageUnavailable
from app.domain.instants import parse_instant
from app.domain.predictions import FUTURE_TOLERANCE
from app.infrastructure.citus import is_distributed
from app.infrastructure.postgres.database import Database
from app.infrastructure.prediction_list import CONDITIONS, is_searched

BLOCK_ROWS = 1000
TRANSACTION_S = 10.0
# Settings of the connections, in PostgreSQL's words.
SETTINGS = {"idle_in_transaction_session_timeout": "10s"}

# The first condition alone would not let the planner use the index, nor leave out the chunks before the cursor.
AFTER = "timestamp >= %(cursor_timestamp)s AND (timestamp, id) > (%(cursor_timestamp)s, %(cursor_id)s)"
# The session's time zone is UTC.
TIMESTAMP = """to_char(timestamp, 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"')"""
# Line ends in JSON can only be space between its values.
METADATA = "translate(metadata::text, E'\\r\\n', '  ')"
# The server writes the lines: Python would keep the threads that answer other requests waiting for its interpreter.
LINES = {
    Layout.NDJSON: f"""
       '{{"id":' || id || ',"model_name":' || to_json(model_name) || ',"duration_ms":' || to_json(duration_ms)
       || ',"was_successful":' || to_json(was_successful) || ',"timestamp":"' || {TIMESTAMP} || '"'
       || CASE WHEN model_version = '' THEN '' ELSE ',"model_version":' || to_json(model_version) END
       || coalesce(',"error":' || to_json(error), '') || coalesce(',"metadata":' || {METADATA}, '')
       || coalesce(',"request_id":"' || request_id || '"', '') || '}}'""",
    # RFC 4180; null becomes empty, and an empty text becomes "".
    Layout.CSV: f"""
       id || ',' || {TIMESTAMP} || ',"' || replace(model_name, '"', '""') || '","' || replace(model_version, '"', '""')
       || '",' || to_json(duration_ms) || ',' || to_json(was_successful)
       || ',' || coalesce('"' || replace(error, '"', '""') || '"', '')
       || ',' || coalesce('"' || replace({METADATA}, '"', '""') || '"', '') || ',' || coalesce(request_id::text, '')""",
}
# What no index finds is searched here and not in WHERE: a statement that looks for rare rows would take as long as it
# takes to read the whole log, and run into its time-out.
ROWS = """
SELECT CASE WHEN {passes} THEN {line} END, {timestamp}, id FROM prediction_log WHERE {where} ORDER BY timestamp, id"""
# A snapshot from before a chunk left the columnstore does not find its rows, and DECLARE takes its snapshot before it
# waits for the chunk. So another statement locks the same chunks first: none is moved until the transaction ends.
LOCK = "{rows} LIMIT 0"
DECLARE = "DECLARE export NO SCROLL CURSOR FOR {rows}"
# Citus has read all rows of a cursor before it yields the first one.
LIMIT_ON_CITUS = " LIMIT 50000"
FETCH = f"FETCH {BLOCK_ROWS} FROM export"


class PostgresPredictionExport:
    """The table prediction_log, from its beginning to its end."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def blocks(self, filters: Filters, after: Cursor | None, layout: Layout) -> Blocks:
        """Yield the predictions that pass the filters; the end is now if they name none. Raises StorageUnavailable."""
        values: dict[str, Any] = {name: value for name, value in vars(filters).items() if value is not None}
        values.setdefault("end", datetime.now(timezone.utc) + FUTURE_TOLERANCE)
        searched = [name for name in values if is_searched(filters, name)]
        at_most = LIMIT_ON_CITUS if is_distributed(self._database) else ""
        while True:
            began, last = time.monotonic(), after
            try:
                with _closing(self._transaction(values, searched, after, layout, at_most)) as blocks:
                    for block in blocks:
                        yield block
                        after = block.last
                        if time.monotonic() - began > TRANSACTION_S:
                            break
                    else:
                        if not at_most or after is last:
                            return
            except StorageUnavailable:
                if after is last:  # not even one block: another transaction would get no further
                    raise

    def _transaction(
        self, values: dict[str, Any], searched: Collection[str], after: Cursor | None, layout: Layout, at_most: str
    ) -> Blocks:
        passes = " AND ".join(CONDITIONS[name] for name in searched) or "true"
        conditions = [CONDITIONS[name] for name in values if name not in searched]
        if after:
            conditions.append(AFTER)
            values = values | {"cursor_timestamp": after.timestamp, "cursor_id": after.id}
        rows = ROWS.format(passes=passes, line=LINES[layout], timestamp=TIMESTAMP, where=" AND ".join(conditions))
        with self._database.transaction() as connection:
            connection.exec_driver_sql(LOCK.format(rows=rows), values)
            connection.exec_driver_sql(DECLARE.format(rows=rows) + at_most, values)
            while fetched := connection.exec_driver_sql(FETCH).fetchall():
                _, timestamp, prediction_id = fetched[-1]
                lines = [line for line, *_ in fetched if line is not None]
                yield Block(lines, Cursor(parse_instant(timestamp), prediction_id))


@contextmanager
def _closing(blocks: Blocks) -> Iterator[Blocks]:
    """Close them at the end. A transaction that the server has ended meanwhile cannot be rolled back: no harm."""
    try:
        yield blocks
    finally:
        with suppress(StorageUnavailable):
            blocks.close()
