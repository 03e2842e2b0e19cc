"""GET /, /health and /ready"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from flask.testing import FlaskClient
from flask_migrate import downgrade, upgrade

from app.server.process_lifecycle import FOLDER, UNREADY, begin
from conftest import Server, make_app
from support.capture import statements
from support.scratch import empty_database


def test_the_root_names_the_service_and_its_pages(client: FlaskClient) -> None:
    info = client.get("/").json
    assert info["name"] == "Predlog"
    assert info["version"].count(".") == 2
    for name, path in info["links"].items():
        assert client.get(urljoin("/", path)).status_code in (200, 422), name  # the latter if it needs parameters


def test_health_and_the_root_do_not_touch_the_database(away: FlaskClient) -> None:
    with statements() as sent:
        assert away.get("/health").json == {"status": "healthy"}
        assert away.get("/").status_code == 200
    assert sent == []


def test_a_migrated_service_is_ready_and_names_its_engine(client: FlaskClient, server: Server) -> None:
    response = client.get("/ready")
    assert (response.status_code, response.json) == (200, {"status": "ready", "engine": server.engine})


def test_without_its_database_the_service_is_alive_but_not_ready(away: FlaskClient) -> None:
    assert away.get("/health").status_code == 200
    response = away.get("/ready")
    assert (response.status_code, response.json["code"]) == (503, 503)
    assert int(response.headers["Retry-After"]) >= 1


def test_while_it_stops_the_service_is_alive_but_not_ready(
    client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    assert client.get("/ready").status_code == 200
    begin(UNREADY)
    response = client.get("/ready")
    assert response.status_code == 503
    assert "shutting down" in response.json["message"]
    assert "Retry-After" in response.headers
    assert client.get("/health").status_code == 200


def calls(client: FlaskClient) -> list[Any]:
    """One of each."""
    body = {"model_name": "m", "duration_ms": 1, "was_successful": True}
    paths = ("/api/v1/predictions", "/api/v1/predictions/1", "/api/v1/stats")
    return [client.post("/api/v1/predict-log", json=body), *map(client.get, paths)]


def test_a_service_is_not_ready_before_its_database_is_migrated_to_head(server: Server) -> None:
    with empty_database(server) as url:
        app = make_app(url, pool_size=2 if server.concurrent else 1)
        client = app.test_client()

        def refusal() -> str:
            response = client.get("/ready")
            assert response.status_code == 503
            assert "Retry-After" in response.headers
            return str(response.json["message"])

        assert "revision" in refusal()
        with app.app_context():
            upgrade(revision="2_aggregates")
            assert "2_aggregates" in refusal()
            upgrade()
            assert client.get("/ready").json == {"status": "ready", "engine": server.engine}
            downgrade(revision="base")
        assert "revision" in refusal()
        assert [answer.status_code for answer in calls(client)] == [503] * 4, "put off, not failed"
