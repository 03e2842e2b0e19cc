"""GET and DELETE /api/v1/predictions/{id}"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from flask.testing import FlaskClient
from flask_migrate import upgrade
from sqlalchemy import Engine, create_engine

from conftest import Server, make_app
from support.capture import statements
from support.scratch import empty_database

URL = "/api/v1/predictions"
MAX_ID = 2**63 - 1
DAYS = 6
Log = Callable[..., dict[str, Any]]


def test_a_record_is_shown_as_it_was_stored(client: FlaskClient, log: Log) -> None:
    stored = log(metadata={"a": 1}, was_successful=False, error="no")
    response = client.get(f"{URL}/{stored['id']}")
    assert (response.status_code, response.json) == (200, stored)


@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_an_id_that_nothing_has_is_not_found(client: FlaskClient, method: str) -> None:
    response = client.open(f"{URL}/{MAX_ID}", method=method)
    assert response.status_code == 404
    assert response.json == {
        "code": 404,
        "status": "Not Found",
        "message": f"There is no prediction with id {MAX_ID}.",
    }


def test_a_deleted_record_is_gone_from_everywhere(client: FlaskClient, log: Log, model: str) -> None:
    kept, doomed = log(duration_ms=1), log(duration_ms=2, was_successful=False)
    response = client.delete(f"{URL}/{doomed['id']}")
    assert (response.status_code, response.json) == (200, {"message": "Предсказание успешно удалено"})
    assert client.get(f"{URL}/{doomed['id']}").status_code == 404
    assert client.get(URL, query_string={"model_name": model}).json == [kept]
    stats = client.get("/api/v1/stats", query_string={"model_name": model}).json
    assert (stats["total_requests"], stats["successful_requests"], stats["max_duration_ms"]) == (1, 1, 1)


def test_the_second_delete_finds_nothing(client: FlaskClient, log: Log) -> None:
    address = f"{URL}/{log()['id']}"
    assert [client.delete(address).status_code for _ in range(2)] == [200, 404]


class House:
    """A service of its own with a prediction a day, all in the columnstore: id n was logged on the nth day."""

    def __init__(self, client: FlaskClient, database: Engine) -> None:
        self.client, self.database = client, database
        today = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
        self.days = [today - timedelta(days=DAYS - n) for n in range(DAYS)]
        self.ids = [self.log(day) for day in self.days]
        with database.connect() as connection:
            connection.exec_driver_sql("SELECT compress_chunk(chunk) FROM show_chunks('prediction_log') AS chunk")

    def log(self, day: datetime) -> int:
        """Log a prediction at the noon of a day and return its id."""
        record = {"model_name": "m", "duration_ms": 1, "was_successful": True}
        noon = (day + timedelta(hours=12)).isoformat()
        response = self.client.post("/api/v1/predict-log", json={**record, "timestamp": noon})
        assert response.status_code == 200, response.text
        return int(response.json["id"])

    def chunks_read_for(self, prediction_id: int, method: str = "GET") -> list[set[str]]:
        """For each statement of a request, the chunks that its plan looks into."""
        with statements() as sent:
            assert self.client.open(f"{URL}/{prediction_id}", method=method).status_code == 200
        return [{scan.relation for scan in statement.scans_of_the_log()} for statement in sent]


@pytest.fixture(scope="module")
def house(servers: Callable[[str], Server]) -> Iterator[House]:
    server = servers("timescale")
    with ExitStack() as stack:
        url = stack.enter_context(empty_database(server))
        app = make_app(url, pool_size=2 if server.concurrent else 1)
        with app.app_context():
            upgrade()
        # With the database's settings alone, as TimescaleDB's own jobs and psql have them. If all clients share one
        # session, settings of the database do not reach it.
        options = {} if server.concurrent else {"options": "-c timescaledb.enable_chunk_skipping=on"}
        database = create_engine(url, isolation_level="AUTOCOMMIT", connect_args=options)
        stack.callback(database.dispose)
        yield House(app.test_client(), database)


def test_a_look_up_by_id_reads_one_chunk_once_all_are_in_the_columnstore(house: House) -> None:
    for id in house.ids:
        (chunks,) = house.chunks_read_for(id)
        assert len(chunks) == 1, chunks


def test_an_id_beyond_all_chunks_reads_none_of_them(house: House) -> None:
    with statements() as sent:
        assert house.client.get(f"{URL}/{MAX_ID}").status_code == 404
    assert sent[0].scans_of_the_log() == []


def test_a_prediction_that_came_late_into_the_columnstore_is_found_and_deleted(house: House) -> None:
    late = house.log(house.days[1])
    assert house.client.get(f"{URL}/{late}").json["id"] == late
    assert house.client.get(f"{URL}/{house.ids[1]}").json["id"] == house.ids[1]
    assert len(house.chunks_read_for(late)[0]) < DAYS, "nor are all chunks read now"
    assert house.client.delete(f"{URL}/{late}").status_code == 200
    assert house.client.get(f"{URL}/{late}").status_code == 404


def test_a_delete_reads_one_chunk_and_no_other_prediction_is_lost(house: House) -> None:
    doomed = house.log(house.days[3])
    with house.database.connect() as connection:
        connection.exec_driver_sql("SELECT compress_chunk(chunk, true) FROM show_chunks('prediction_log') AS chunk")
    before = {record["id"] for record in house.client.get(URL).json}
    look_up, delete = house.chunks_read_for(doomed, "DELETE")
    assert len(look_up) == len(delete) == 1
    assert {record["id"] for record in house.client.get(URL).json} == before - {doomed}


def test_a_prediction_is_found_by_its_id_whichever_session_began_its_day(house: House) -> None:
    insert = """
    INSERT INTO prediction_log (timestamp, model_name, duration_ms, was_successful)
    VALUES (%(timestamp)s, 'm', 1, true) RETURNING id
    """
    with house.database.connect() as connection:
        id = connection.exec_driver_sql(insert, {"timestamp": house.days[0] - timedelta(days=9)}).scalar()
    assert house.client.get(f"{URL}/{id}").status_code == 200
    assert house.client.delete(f"{URL}/{id}").status_code == 200
