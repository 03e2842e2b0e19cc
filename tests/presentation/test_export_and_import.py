"""What one engine exports is the same when the other one has imported it."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from conftest import Server, make_app
from predlog.importers import own

FIGURES = ("total_requests", "successful_requests", "min_duration_ms", "max_duration_ms", "percentiles")


def posted(client: FlaskClient, predictions: list[dict[str, Any]]) -> dict[str, Any]:
    response = client.post("/api/v1/predict-logs", json=predictions)
    assert response.status_code == 200, response.text
    return dict(response.json)


@pytest.mark.parametrize("name", ["ndjson", "csv", "parquet"])
@pytest.mark.parametrize(("here", "there"), [("plain", "timescale"), ("timescale", "plain")])
def test_the_other_engine_says_the_same_of_an_import_and_a_second_one_adds_nothing(
    servers: Callable[[str], Server], model: str, here: str, there: str, name: str
) -> None:
    source, target = (make_app(servers(engine).url).test_client() for engine in (here, there))
    predictions = [
        {
            "model_name": model, "duration_ms": n * n / 7, "was_successful": n % 7 > 0, "model_version": str(n % 3),
            "timestamp": f"2025-06-0{n % 9 + 1}T{n % 24:02}:{n % 60:02}:59.000{n:03}Z",
            "error": [None, "", "x,\n"][n % 3],
        }
        for n in range(200)
    ]  # fmt: skip
    posted(source, predictions)
    query = {"model_name": model, "format": name}
    exported = source.get("/api/v1/predictions/export", query_string=query).data
    found = [record for _, record in own.read(io.BytesIO(exported), f"export.{name}")]
    assert posted(target, found)["stored"] == 200  # type: ignore[arg-type]
    assert posted(target, found) == {"stored": 0, "duplicates": 200, "rejected": []}  # type: ignore[arg-type]
    asked = {"model_name": model, "group_by": "model_version", "from": "2025-06-01", "to": "2025-06-30"}
    first, second = (client.get("/api/v1/stats", query_string=asked).json for client in (source, target))
    assert {key: first[key] for key in FIGURES} == {key: second[key] for key in FIGURES}
    assert first["average_duration_ms"] == second["average_duration_ms"]
    assert first["groups"] == second["groups"]
