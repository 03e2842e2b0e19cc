"""What happens to a record between the queue and its line of JSON: defaults, and the host's own hook."""

from __future__ import annotations

import socket
from typing import Any

from predlog.metadata import snapshot
from predlog.record import FIELDS, InvalidRecord, Record, encode, readable
from predlog.settings import Settings


class Preparation:
    """Makes the line of a record, in our own thread."""

    def __init__(self, settings: Settings) -> None:
        tags = {
            "host": socket.gethostname() if settings.host else None,
            "environment": settings.environment,
            "release": settings.release,
        }
        self._metadata = {**{name: value for name, value in tags.items() if value}, **settings.metadata}
        self._version = settings.version
        self._before_send = settings.before_send

    def line(self, record: Record, odd: list[str]) -> bytes | None:
        """The line, or None if the hook wants the record not sent; raises InvalidRecord."""
        prepared = self.record(record)
        return None if prepared is None else encode(prepared, odd)

    def record(self, record: Record) -> Record | None:
        """The record as it is to be sent, or None if the hook wants it not sent; raises InvalidRecord."""
        if self._metadata or self._version is not None:
            record = self._complete(record)
        if self._before_send is not None:
            fields = self._asked(record)
            if fields is None:
                return None
            fields["metadata"] = fields.get("metadata") or None
            record = (record[0], record[1], *(fields.pop(name, None) for name in FIELDS))
            if fields:
                raise InvalidRecord("before_send returned a field that a record does not have")
        return record

    def _complete(self, record: Record) -> Record:
        time_ns, number, name, duration, success, version, error, metadata, timestamp, request_id = record
        if version is None:
            version = self._version
        if self._metadata:
            own = metadata if isinstance(metadata, dict) else {} if metadata is None else snapshot(metadata)
            metadata = {**self._metadata, **own}
        return time_ns, number, name, duration, success, version, error, metadata, timestamp, request_id

    def _asked(self, record: Record) -> dict[str, Any] | None:
        assert self._before_send is not None
        try:
            fields = self._before_send(readable(record))
            return None if fields is None else dict(fields)
        except Exception as error:  # what it should have taken out must not be sent
            raise InvalidRecord(f"before_send raised {type(error).__name__}") from None
