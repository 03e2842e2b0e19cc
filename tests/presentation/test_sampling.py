"""A client that samples against the service: statistics are the same as if all had been sent whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import uuid4

from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from app.domain.predictions import MAX_DURATION_MS
from app.domain.sketch import upper_bound
from predlog.preparation import Preparation
from predlog.record import Record, encode
from predlog.sampling import Sampling, Summaries, bin_of
from predlog.settings import Settings
from predlog.uuid7 import draw

BATCH = "/api/v1/predict-logs"
NOT_COMPARED = ("summarized", "freshness", "groups")

near_bounds = st.builds(
    lambda place, off: min(upper_bound(place) * (1 + off * 2.0**-52), MAX_DURATION_MS),
    st.integers(-30_000, 33_600),
    st.integers(-3, 3),
)
durations = near_bounds | st.floats(0, MAX_DURATION_MS) | st.floats(0, 1e4) | st.integers(0, 10_000).map(float)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(durations, min_size=200, max_size=400))
@example([0.0, 5e-324, 1.0, 2.0, 1e-300, MAX_DURATION_MS])
def test_a_client_puts_durations_into_the_bins_of_the_database(database: Engine, values: list[float]) -> None:
    with database.connect() as connection:
        statement = """
            SELECT array_agg(latency_bin(ms) ORDER BY place)
            FROM   unnest(%(ms)s::double precision[]) WITH ORDINALITY AS durations (ms, place)
        """
        assert [bin_of(ms) for ms in values] == connection.exec_driver_sql(statement, {"ms": values}).scalar()


predictions = st.lists(
    st.tuples(
        st.integers(-600, 0),
        st.floats(0, 1e5) | st.sampled_from([0, 0.1, 1, 10, 10.0]) | near_bounds.filter(lambda ms: ms < 1e9),
        st.sampled_from([True, True, True, False]),
        st.sampled_from([None, "2"]),
    ),
    min_size=1,
    max_size=60,
)


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(predictions=predictions, share=st.sampled_from([0.0, 0.3, 0.9]), slow=st.sampled_from([None, 5.0]))
def test_sampled_predictions_give_the_statistics_of_whole_ones(
    client: FlaskClient, refresh: Callable[[], None], predictions: list[Any], share: float, slow: float | None
) -> None:
    now = datetime.now(timezone.utc) - timedelta(hours=1)
    names = [f"{kind}-{uuid4().hex}" for kind in ("whole", "sampled")]
    sampling = Settings(sample=share, sample_keep_slow_ms=slow)
    for name, chosen in zip(names, (Settings(), sampling)):
        records: list[Record] = [
            (0, draw(32), name, ms, success, version, None, None, now + timedelta(seconds=second), None)
            for second, ms, success, version in predictions
        ]
        lines = _lines(records, chosen)
        for _ in range(2):  # a retry adds nothing
            response = client.post(BATCH, data=b"[" + b",".join(lines) + b"]", content_type="application/json")
            assert response.status_code == 200, response.text
    refresh()
    for query in ({}, {"group_by": "model_version"}):
        first, second = (_figures(client, "/stats", model_name=name, **query) for name in names)
        assert first == second
    first, second = (
        _figures(client, "/stats/timeseries", model_name=name, bucket="1m", **_span(now)) for name in names
    )
    assert first == second


def _lines(records: list[Record], chosen: Settings) -> list[bytes]:
    """What the client's thread makes of records."""
    if chosen.sample == 1:
        return [encode(record) for record in records]
    summaries, preparation = Summaries(Sampling(chosen)), Preparation(chosen)
    prepared = [record for record in map(preparation.record, records) if record is not None]
    whole = [encode(record) for record in prepared if not summaries.take(record, record)]
    return [*whole, *(line for _, line in summaries.lines())]


def _span(now: datetime) -> dict[str, str]:
    start = now.replace(second=0, microsecond=0) - timedelta(minutes=12)
    return {"from": start.isoformat(), "to": (start + timedelta(minutes=20)).isoformat()}


def _figures(client: FlaskClient, path: str, **query: Any) -> Any:
    query |= {"percentiles": "0,10,50,99,100", "under_ms": "1,10"}
    answer = json.loads(client.get(f"/api/v1{path}", query_string=query).text)
    tallies = [*answer.get("points", [answer]), *answer.get("groups", [])]
    assert any(tally["total_requests"] for tally in tallies)
    return [{name: value for name, value in tally.items() if name not in NOT_COMPARED} for tally in tallies]
