"""Export all logged predictions."""

from __future__ import annotations

import json
import re
from itertools import chain, islice
from typing import Any

import marshmallow as ma
from flask import Response, current_app, request

from app.application.export import Block, Blocks, Layout
from app.application.prediction_list import Cursor
from app.domain.errors import InvalidInput
from app.domain.instants import parse_instant, with_plus
from app.presentation.api import Blueprint
from app.presentation.content_types import CSV, CSV_TYPE, accepts_gzip, format_field, negotiated
from app.presentation.errors import problem
from app.presentation.export_stream import EXTENSION, Exports, Stream, timed
from app.presentation.middleware.concurrency import PERMIT
from app.presentation.resources.predictions import STORED
from app.presentation.schemas import export_parquet, export_text
from app.presentation.schemas.fields import Text
from app.presentation.schemas.prediction_query import MAX_ID, FiltersSchema, list_cursor
from app.presentation.services import services

blp = Blueprint("export", __name__, url_prefix="/api/v1", description="All logged predictions, as a file")

NDJSON, PARQUET = "ndjson", "parquet"
FORMATS = {NDJSON: "application/x-ndjson", CSV: CSV_TYPE, PARQUET: "application/vnd.apache.parquet"}
CONTENT_TYPES = {**FORMATS, CSV: f"{CSV_TYPE}; charset=utf-8; header=present"}
WRITERS: dict[str, tuple[Layout, export_text.Writer]] = {
    NDJSON: (Layout.NDJSON, export_text.ndjson),
    CSV: (Layout.CSV, export_text.csv),
    PARQUET: (Layout.CSV, export_parquet.parquet),
}
NO_PYARROW = (
    "This service cannot write Parquet, because pyarrow is not installed (the extra `parquet`): ask for NDJSON or CSV."
)
NDJSON_EXAMPLE = f"{json.dumps(STORED)}\n"
CSV_EXAMPLE = f'{export_text.HEADER}\r\n1,2025-06-09T12:00:00.000000+00:00,"apartment_price_v1","",124,true,,,\r\n'
CONTENT = {
    FORMATS[NDJSON]: {"schema": {"type": "string"}, "example": NDJSON_EXAMPLE},
    FORMATS[CSV]: {"schema": {"type": "string"}, "example": CSV_EXAMPLE},
    FORMATS[PARQUET]: {"schema": {"type": "string", "format": "binary"}},
}
_CURSOR = re.compile(r"(.+),([0-9]{1,19})", re.ASCII)


class RowCursor(Text):
    """The time and the id of a prediction, as an export has them, or a cursor of the list."""

    def _deserialize(self, value: Any, *args: Any, **kwargs: Any) -> Any:
        text = super()._deserialize(value, *args, **kwargs)
        match = _CURSOR.fullmatch(text)
        try:
            if match is None:
                return list_cursor(text)
            if 0 < int(match[2]) <= MAX_ID:
                return Cursor(parse_instant(with_plus(match[1])), int(match[2]))
        except (ValueError, InvalidInput):
            pass
        raise ma.ValidationError("Not the timestamp and the id of a prediction, with a comma between them.")


class ExportQuerySchema(FiltersSchema):
    """Which predictions to export, and how."""

    format = format_field(FORMATS)
    cursor = RowCursor(
        load_default=None,
        metadata={
            "description": "Go on after this prediction: `timestamp,id` of the last one that you have.",
            "example": "2025-06-09T12:00:00.000000+00:00,1",
        },
    )


@blp.route("/predictions/export")
@blp.arguments(ExportQuerySchema(), location="query")
@blp.doc(responses={200: {"content": CONTENT}})
@blp.response(200, description="The oldest predictions first")
@blp.errors(406, 422, 503)
def export_predictions(query: dict[str, Any]) -> Response:
    """Export any number of logged predictions as NDJSON, CSV or Parquet, oldest first.

    The filters are those of the list. NDJSON has the objects of the list; CSV (RFC 4180) and Parquet have the columns
    `id`, `timestamp`, `model_name`, `model_version`, `duration_ms`, `was_successful`, `error`, `metadata` (JSON) and
    `request_id`. With `Accept-Encoding: gzip` NDJSON and CSV are compressed. Text is as it was logged: a spreadsheet
    takes a text that begins with `=`, `+`, `-` or `@` for a formula unless the column is imported as text.

    A whole export ends with a line end (gzip with its trailer, Parquet with its footer). One that was cut does not,
    and its last line may be incomplete: `cursor=timestamp,id` of the last whole line goes on after it. If nothing
    passes the filters for long, NDJSON has a space before the next object, and before its end if there is none.
    Each prediction that exists during the whole export comes once; one that is logged meanwhile comes if its time
    is later than the exported ones. An export may take `EXPORT_TIMEOUT_S` seconds, and is cut if its client reads
    slowly while others wait.
    """
    name = negotiated(FORMATS, query)
    if name == PARQUET and not export_parquet.is_installed():
        problem(406, NO_PYARROW)
    layout, write = WRITERS[name]
    if request.method == "HEAD":
        return Response(content_type=CONTENT_TYPES[name])
    exports: Exports = current_app.extensions[EXTENSION]
    exports.begin()
    try:
        first, others = services().readers.ask(
            lambda reader: _begun(reader.export.blocks(query["filters"], query["cursor"], layout))
        )
    except BaseException:
        exports.end()
        raise
    if permit := request.environ.get(PERMIT):
        permit.stream()  # an export has permits of its own
    parts = write(timed(chain(first, others), exports))
    is_text = name != PARQUET
    if is_gzip := is_text and accepts_gzip():
        parts = export_text.compressed(parts)
    response = Response(Stream(parts, others, exports), content_type=CONTENT_TYPES[name], direct_passthrough=True)
    if is_text:
        response.vary.add("Accept-Encoding")
    if is_gzip:
        response.content_encoding = "gzip"
    response.headers["Content-Disposition"] = f"attachment; filename=predictions.{name}"
    return response


def _begun(blocks: Blocks) -> tuple[list[Block], Blocks]:
    """Return the first block, if there is one, and the rest. Raises the errors of reading the first block."""
    return list(islice(blocks, 1)), blocks
