"""A caller that gives each prediction a name of its own: it is stopped, hurts nobody, and its traces can be removed."""

from __future__ import annotations

import os
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from faults.load import Load, count_again
from support.replication import PostgresServer
from support.service import Service, running

NAMES = 50_000 if "FAULT_SECONDS" in os.environ else 5_000
BATCH = 2_500
SPARE = 10
BEGINNING = datetime(2020, 1, 1, tzinfo=timezone.utc)  # years before the load


def test_names_without_end_are_refused_and_those_that_came_through_are_purged(
    server: PostgresServer, engine: str, tmp_path: Path, model: str, load_s: float
) -> None:
    limits = {"MAX_NEW_MODELS_PER_DAY": str(NAMES + SPARE), "WORKERS": "2"}
    with (
        running(tmp_path, "--no-migrate", DATABASE_URL=server.url, AUTH="none", **limits) as service,
        Load(model, [service.port]) as load,
    ):
        load.go_on(load_s)
        for first in range(0, NAMES, BATCH):
            assert _flood(service, first) == (200, BATCH, 0)
        status, stored, rejected = _flood(service, NAMES)
        # The allowance comes back meanwhile, one in two seconds or so.
        assert status == 207 and stored < BATCH / 10 and stored + rejected == BATCH
        assert _flood(service, 0) == (200, BATCH, 0), "known names go on"
        page = _seconds(service, "/api/v1/models?limit=1", 200)
        groups = _seconds(service, "/api/v1/stats?group_by=model_name", 422)
        print(f"\n{NAMES} names, {engine}: /models?limit=1 in {page:.3f} s, group_by refused in {groups:.3f} s")
        moment = time.monotonic()
        purged = _purge(service, f"from={BEGINNING.date()}&to={(BEGINNING + timedelta(days=9)).date()}")
        print(f"{purged} predictions purged in {time.monotonic() - moment:.1f} s")
        assert purged == NAMES + stored + BATCH
        load.go_on(load_s)
        assert service.request("GET", "/api/v1/models?search=flood-")[1] == []
        (left,) = service.request("GET", "/api/v1/stats?group_by=model_name")[1]["groups"]
        assert left["model_name"] == model
        count_again(f"{NAMES:,} names of models, {engine}", load, server.url, service, moment)


def _flood(service: Service, first: int) -> tuple[int, int, int]:
    """Log a batch whose names begin with this number: the status, how many were stored and how many rejected."""
    records: list[dict[str, Any]] = [
        {
            "model_name": f"flood-{number}", "duration_ms": 1, "was_successful": True,
            "timestamp": (BEGINNING + timedelta(minutes=number % 10_000)).isoformat(),
        }
        for number in range(first, first + BATCH)
    ]  # fmt: skip
    status, answer = service.request("POST", "/api/v1/predict-logs", records, timeout=60)
    if status == 503:  # the load has all places for batches
        time.sleep(0.1)
        return _flood(service, first)
    return status, answer["stored"], len(answer["rejected"])


def _seconds(service: Service, path: str, expected: int) -> float:
    began = time.monotonic()
    assert service.request("GET", path)[0] == expected
    return time.monotonic() - began


def _purge(service: Service, query: str) -> int:
    deleted = 0
    for _ in range(20):
        status, answer = service.request("DELETE", f"/api/v1/predictions?{query}", timeout=60)
        assert status == 200, answer
        deleted += int(answer["deleted"])
        if answer["complete"]:
            return deleted
    raise AssertionError("it does not come to an end")
