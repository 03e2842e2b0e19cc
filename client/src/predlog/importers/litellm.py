"""LiteLLM's spend logs (the table LiteLLM_SpendLogs) as CSV with a line of names; docs/import.md has the mapping.

Messages, responses, keys, users and addresses are left behind.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import BinaryIO

from predlog.importers.records import Found, Record, csv_records, identifier, instant, record

NUMBERS = ("prompt_tokens", "completion_tokens", "spend")
TEXTS = ("call_type", "custom_llm_provider", "cache_hit", "request_id")


def read(file: BinaryIO, name: str) -> Found:
    """The records of a spend log."""
    return csv_records(file, "a spend log", _record)


def _record(row: dict[str, str], number: int) -> Record:
    start = instant(row["startTime"])
    more = json.loads(row.get("metadata") or "{}") or {}
    group = row.get("model_group") or row["model"]
    numbers = {name: float(row[name]) for name in NUMBERS if row.get(name)}
    return record(
        model_name=group,
        model_version=row["model"] if row["model"] != group else None,
        duration_ms=(instant(row["endTime"]) - start) / timedelta(milliseconds=1),
        was_successful=(row.get("status") or more.get("status")) != "failure",
        timestamp=start.isoformat(),
        error=(more.get("error_information") or {}).get("error_message"),
        metadata={**{name: row.get(name) for name in TEXTS}, **numbers},
        request_id=identifier("litellm", row["request_id"], row["startTime"]),
    )
