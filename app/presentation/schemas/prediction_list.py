"""A page of predictions as JSON, written column by column: a schema would make several objects of each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from json.encoder import encode_basestring as quoted
from uuid import UUID

from app.application.prediction_list import Page
from app.domain.predictions import NO_VERSION, shortest_number


def page_json(page: Page) -> bytes:
    """The page as PredictionSchema would write it; metadata as PostgreSQL keeps it."""
    columns = page.predictions
    records = map(
        _record, page.ids, columns.model_name, columns.duration_ms, columns.was_successful, columns.timestamp,
        columns.model_version, columns.error, columns.metadata, columns.request_id,
    )  # fmt: skip
    return b"".join(_array(records))


def _array(records: Iterable[str]) -> Iterator[bytes]:
    yield b"["
    for place, record in enumerate(records):
        yield b"," if place else b""
        yield record.encode()
    yield b"]\n"


def _record(
    prediction_id: int, model_name: str, duration_ms: float, was_successful: bool, timestamp: datetime,
    model_version: str, error: str | None, metadata: str | None, request_id: UUID | None,
) -> str:  # fmt: skip
    parts = [
        f'{{"id":{prediction_id},"model_name":{quoted(model_name)},"duration_ms":{shortest_number(duration_ms)!r},'
        f'"was_successful":{"true" if was_successful else "false"},"timestamp":"{timestamp.isoformat()}"'
    ]
    if model_version != NO_VERSION:
        parts.append(f',"model_version":{quoted(model_version)}')
    if error is not None:
        parts.append(f',"error":{quoted(error)}')
    if metadata is not None:
        parts.append(f',"metadata":{metadata}')
    if request_id is not None:
        parts.append(f',"request_id":"{request_id}"')
    return "".join([*parts, "}"])
