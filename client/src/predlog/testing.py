"""For the tests of programs that log: a client that keeps what it is given, and a pytest fixture of it.

In a conftest.py, `pytest_plugins = ["predlog.testing"]` makes the fixture `predlog_client` known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from predlog.client import Client
from predlog.preparation import Preparation
from predlog.record import METADATA, InvalidRecord, Record
from predlog.record_queue import Nowhere


class MemoryClient(Client):
    """A client without a service: `records` holds what would have been sent, as the service would get it.

    It takes the options of `Client`. What `Client` would count as rejected raises ValueError here, so that the test
    sees it.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "enabled": False})
        self.records: list[dict[str, Any]] = []
        self._intake = _Kept(Preparation(self._settings), self.records)
        self._intake.enrich_by(self._enrich)

    def of(self, model_name: str) -> list[dict[str, Any]]:
        """The records of one model."""
        return [record for record in self.records if record["model_name"] == model_name]

    def clear(self) -> None:
        """Forget the records so far."""
        self.records.clear()


class _Kept(Nowhere):
    def __init__(self, preparation: Preparation, records: list[dict[str, Any]]) -> None:
        super().__init__()
        self._preparation = preparation
        self._records = records

    def put(self, record: Record | None) -> None:
        """Keep the record as the service would get it."""
        odd: list[str] = []
        assert record is not None
        if self._enrich is not None:
            record = (*record[:METADATA], self._enrich(record[METADATA]), *record[METADATA + 1 :])
        try:
            line = self._preparation.line(record, odd)
        except InvalidRecord as error:
            raise ValueError(f"Predlog would reject this record: {error}") from None
        if line is not None:
            self._records.append(json.loads(line))


try:
    import pytest
except ImportError:
    pass
else:

    @pytest.fixture
    def predlog_client() -> Iterator[MemoryClient]:
        """A client for a test; give it to the tested code in place of the real one."""
        yield MemoryClient()
