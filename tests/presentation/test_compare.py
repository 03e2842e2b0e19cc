"""GET /api/v1/stats/compare"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from app.domain.sketch import GAMMA
from app.presentation.schemas.comparison import EXAMPLE, ComparisonSchema

URL = "/api/v1/stats/compare"
DAY = timedelta(days=1)

INSERT = """
INSERT INTO prediction_log (timestamp, model_name, model_version, duration_ms, was_successful)
SELECT %(start)s::timestamptz + n * INTERVAL '1 second', %(model)s, %(version)s, %(duration_ms)s + n %% 50,
       n > %(failed)s
FROM   generate_series(1, %(predictions)s) AS n
"""

Put = Callable[..., None]


@pytest.fixture
def start() -> datetime:
    return datetime(2025, 6, 2, 12, 30, 15, tzinfo=timezone.utc)


@pytest.fixture
def put(database: Engine, model: str, start: datetime) -> Put:
    """Insert predictions of one version, one a second: the first ones failed, durations spread over 50 ms."""

    def put(version: str, predictions: int, *, failed: int = 0, duration_ms: float = 100, days: int = 0) -> None:
        values = {
            "model": model,
            "version": version,
            "predictions": predictions,
            "failed": failed,
            "duration_ms": duration_ms,
        }
        with database.connect() as connection:
            connection.exec_driver_sql(INSERT, {**values, "start": start + days * DAY})

    return put


@pytest.fixture
def compare(client: FlaskClient, model: str) -> Callable[..., dict[str, Any]]:
    """Compare predictions of `model`; the answer is what the documentation promises."""

    def compare(**query: Any) -> dict[str, Any]:
        response = client.get(URL, query_string={"model_name": model, **query})
        assert response.status_code == 200, response.text
        assert ComparisonSchema().validate(response.json) == {}
        return dict(response.json)

    return compare


def same(side: dict[str, Any], stats: dict[str, Any]) -> bool:
    return all(side[key] == stats[key] for key in stats if key not in ("freshness", "percentile_relative_error"))


def test_each_side_has_the_statistics_of_its_version(client: FlaskClient, model: str, put: Put, compare: Any) -> None:
    put("1.4", 300, failed=9)
    put("1.5", 200, failed=2, duration_ms=110)
    put("1.6", 100)
    answer = compare(version_a="1.4", version_b="1.5")
    for side, version in (("a", "1.4"), ("b", "1.5")):
        query = {"model_name": model, "model_version": version, "to": answer[side]["range"]["to"]}
        assert same(answer[side], client.get("/api/v1/stats", query_string=query).json or {})
        assert answer[side]["model_version"] == version


def test_each_side_has_the_statistics_of_its_range(client: FlaskClient, model: str, put: Put, compare: Any) -> None:
    put("1.4", 300, failed=9)
    put("1.5", 200, failed=2, days=7)
    bounds = {"from_a": "2025-06-02", "to_a": "2025-06-08", "from_b": "2025-06-09", "to_b": "2025-06-15"}
    answer = compare(**bounds)
    assert [answer[side]["total_requests"] for side in "ab"] == [300, 200]
    assert [answer[side]["model_version"] for side in "ab"] == [None, None]
    for side in "ab":
        query = {"model_name": model, "from": bounds[f"from_{side}"], "to": bounds[f"to_{side}"]}
        assert same(answer[side], client.get("/api/v1/stats", query_string=query).json or {})
    assert [compare(**bounds, model_version="1.5")[side]["total_requests"] for side in "ab"] == [0, 200]


def test_two_versions_may_have_a_range_each(put: Put, compare: Any) -> None:
    put("1.4", 300)
    put("1.4", 50, days=7)
    put("1.5", 200, days=7)
    bounds = {"from_a": "2025-06-02", "to_a": "2025-06-08", "from_b": "2025-06-09", "to_b": "2025-06-15"}
    answer = compare(version_a="1.4", version_b="1.5", **bounds)
    assert [answer[side]["total_requests"] for side in "ab"] == [300, 200]


def test_one_version_is_compared_with_itself_over_other_ranges(put: Put, compare: Any) -> None:
    put("1.4", 300)
    put("1.4", 200, days=7)
    bounds = {"from_a": "2025-06-02", "to_a": "2025-06-08", "from_b": "2025-06-09", "to_b": "2025-06-15"}
    answer = compare(version_a="1.4", version_b="1.4", **bounds)
    assert [answer[side]["total_requests"] for side in "ab"] == [300, 200]


def test_a_common_range_bounds_both_versions(put: Put, compare: Any, start: datetime) -> None:
    put("1.4", 300)
    put("1.5", 300)
    query = {"version_a": "1.4", "version_b": "1.5", "to": (start + timedelta(seconds=101)).isoformat()}
    for name in ("from", "from_date"):
        answer = compare(**query, **{name: (start + timedelta(seconds=11)).isoformat()})
        assert [answer[side]["total_requests"] for side in "ab"] == [90, 90]


def test_dates_are_days_of_the_time_zone(put: Put, compare: Any) -> None:
    put("1.4", 300)
    # In Auckland it is the third of June already.
    bounds = {"from_a": "2025-06-02", "to_a": "2025-06-02", "from_b": "2025-06-03", "to_b": "2025-06-03"}
    assert [compare(**bounds)[side]["total_requests"] for side in "ab"] == [300, 0]
    there = compare(**bounds, timezone="Pacific/Auckland")
    assert [there[side]["total_requests"] for side in "ab"] == [0, 300]
    assert there["a"]["range"] == {"from": "2025-06-01T12:00:00+00:00", "to": "2025-06-02T12:00:00+00:00"}


def test_versions_of_several_models_are_compared(client: FlaskClient, model: str, put: Put, log: Any) -> None:
    put("1.4", 30)
    log(model_name=f"{model}-too", model_version="1.5", timestamp="2025-06-02T12:00:00")
    names = [model, f"{model}-too"]
    answer = client.get(URL, query_string={"model_name": names, "version_a": "1.4", "version_b": "1.5"}).json or {}
    assert [answer[side]["total_requests"] for side in "ab"] == [30, 1]


def test_a_version_that_fails_more_often_is_found(put: Put, compare: Any) -> None:
    put("1.4", 4812, failed=144)
    put("1.5", 498, failed=33)
    answer = compare(version_a="1.4", version_b="1.5", percentiles="50,95")["success_rate"]
    assert {key: answer[key] for key in answer if key != "method"} == {
        "difference": -0.0363399,
        "confidence_interval": {"low": -0.062296, "high": -0.0154628},
        "more_than_chance": True,
        "verdict": "b succeeds less often",
    }
    turned = compare(version_a="1.5", version_b="1.4")["success_rate"]
    assert (turned["difference"], turned["verdict"]) == (0.0363399, "b succeeds more often")


def test_a_version_that_is_slower_is_found_at_each_percentile(put: Put, compare: Any) -> None:
    put("1.4", 1000)
    put("1.5", 1000, duration_ms=150)
    ratios = compare(version_a="1.4", version_b="1.5", percentiles="50,95")["duration"]["percentiles"]
    for percentile, true in (("50", 175 / 125), ("95", 197 / 147)):
        assert ratios[percentile]["ratio"] == pytest.approx(true, rel=GAMMA - 1)
        interval = ratios[percentile]["confidence_interval"]
        assert 1 < interval["low"] < true < interval["high"] < 1.6
        assert ratios[percentile]["more_than_chance"] is True
        assert ratios[percentile]["verdict"] == "b is slower"
    turned = compare(version_a="1.5", version_b="1.4")["duration"]["percentiles"]
    assert turned["50"]["verdict"] == "b is faster"


def test_no_difference_is_no_more_than_chance(put: Put, compare: Any) -> None:
    put("1.4", 1000, failed=30)
    put("1.5", 500, failed=15)
    answer = compare(version_a="1.4", version_b="1.5")
    for contrast in (answer["success_rate"], *answer["duration"]["percentiles"].values()):
        assert contrast["more_than_chance"] is False
        assert contrast["verdict"] == "no difference beyond chance"


def test_more_confidence_makes_wider_intervals(put: Put, compare: Any) -> None:
    put("1.4", 1000, failed=60)
    put("1.5", 1000, failed=40)
    widths = []
    for confidence in (0.8, 0.95, 0.99):
        answer = compare(version_a="1.4", version_b="1.5", confidence=confidence)
        assert answer["confidence"] == confidence
        interval = answer["success_rate"]["confidence_interval"]
        widths.append(interval["high"] - interval["low"])
        assert answer["success_rate"]["more_than_chance"] is not (interval["low"] < 0 < interval["high"])
    assert widths == sorted(widths)
    default = compare(version_a="1.4", version_b="1.5")
    assert default["confidence"] == 0.95


def test_a_side_without_predictions_is_no_error(put: Put, compare: Any) -> None:
    put("1.4", 10)
    for query, totals in [
        ({"version_a": "1.4", "version_b": "1.5"}, [10, 0]),
        ({"version_a": "1.5", "version_b": "1.6"}, [0, 0]),
    ]:
        answer = compare(**query)
        assert [answer[side]["total_requests"] for side in "ab"] == totals
        assert answer["b"]["success_rate"] is None
        assert answer["b"]["percentiles"] == {"50": None, "90": None, "95": None, "99": None}
        nothing = {"confidence_interval": None, "more_than_chance": None, "verdict": "not enough predictions"}
        method = answer["success_rate"]["method"]
        assert answer["success_rate"] == {"difference": None, **nothing, "method": method}
        assert answer["duration"]["percentiles"]["95"] == {"ratio": None, **nothing}


def test_a_few_predictions_leave_an_end_open_or_say_nothing(put: Put, compare: Any) -> None:
    put("1.4", 1000)
    put("1.5", 8, duration_ms=500)
    ratios = compare(version_a="1.4", version_b="1.5", percentiles="50,99")["duration"]["percentiles"]
    assert ratios["50"]["verdict"] == "b is slower"
    put("1.6", 3, duration_ms=500)
    three = compare(version_a="1.4", version_b="1.6", percentiles="50")["duration"]["percentiles"]["50"]
    assert three["ratio"] == pytest.approx(502 / 125, rel=GAMMA - 1)
    assert (three["confidence_interval"], three["more_than_chance"]) == (None, None)
    assert three["verdict"] == "not enough predictions"


def test_there_is_no_ratio_to_predictions_that_took_no_time(compare: Any, log: Any) -> None:
    for version, duration_ms in (("1.4", 0), ("1.5", 5)):
        log(model_version=version, duration_ms=duration_ms, timestamp="2025-06-02T12:00:00")
    ratio = compare(version_a="1.4", version_b="1.5", percentiles="50")["duration"]["percentiles"]["50"]
    assert (ratio["ratio"], ratio["verdict"]) == (None, "no ratio to 0 ms")


def test_the_tests_are_named_with_their_sources(put: Put, compare: Any) -> None:
    answer = compare(version_a="1.4", version_b="1.5")
    assert "Clopper-Pearson" in answer["success_rate"]["method"]
    assert "Newcombe 1998" in answer["success_rate"]["method"]
    assert "order statistics" in answer["duration"]["method"]
    assert answer["duration"]["ratio_relative_error"] == pytest.approx(GAMMA - 1, rel=1e-4)


def test_late_predictions_and_deleted_ones_count_at_once(
    put: Put, compare: Any, refresh: Callable[[], None], log: Any, model: str, database: Engine
) -> None:
    put("1.4", 100)
    put("1.5", 100)
    refresh()
    log(model_version="1.5", was_successful=False, timestamp="2025-06-02T12:31:00")
    assert compare(version_a="1.4", version_b="1.5")["success_rate"]["difference"] < 0
    with database.connect() as connection:
        connection.exec_driver_sql(
            "DELETE FROM prediction_log WHERE model_name = %(model)s AND NOT was_successful", {"model": model}
        )
    assert compare(version_a="1.4", version_b="1.5")["success_rate"]["difference"] == 0


RANGES = {"from_a": "2025-06-01", "to_a": "2025-06-02", "from_b": "2025-06-03", "to_b": "2025-06-04"}
VERSIONS = {"version_a": "1", "version_b": "2"}


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ({}, "version_a"),
        ({"from": "2025-06-01", "to": "2025-06-02"}, "version_a"),
        ({"model_version": "1"}, "version_a"),
        ({"version_a": "1"}, "version_b"),
        ({"version_b": "1"}, "version_a"),
        ({"version_a": "", "version_b": ""}, "version_b"),
        ({"version_a": "1", "version_b": "1"}, "version_b"),
        ({**VERSIONS, "model_version": "1"}, "model_version"),
        *(({name: RANGES[name] for name in RANGES if name != missing}, missing) for missing in RANGES),
        *(({**RANGES, name: "2025-06-01"}, name) for name in ("from", "to", "from_date", "to_date")),
        ({**VERSIONS, "from_a": "2025-06-01"}, "to_a"),
        ({**RANGES, "from_a": "2025-06-05", "to_a": "2025-06-01"}, "from_a"),
        ({**RANGES, "to_b": "2025-06-31"}, "to_b"),
        ({**RANGES, "from_b": "soon"}, "from_b"),
        ({**RANGES, "to_b": "10000-12-31"}, "to_b"),
        ({**RANGES, "from_b": "2025-06-02"}, "from_b"),
        ({**RANGES, "version_a": "1", "version_b": "1", "from_b": "2025-06-02"}, "from_b"),
        ({**VERSIONS, "from": "2025-06-05", "to": "2025-06-01"}, "from"),
        ({**VERSIONS, "confidence": "95"}, "confidence"),
        ({**VERSIONS, "confidence": "0.4"}, "confidence"),
        ({**VERSIONS, "confidence": "1"}, "confidence"),
        ({**VERSIONS, "confidence": "nan"}, "confidence"),
        ({**VERSIONS, "confidence": "high"}, "confidence"),
        ({**VERSIONS, "percentiles": "101"}, "percentiles"),
        ({**VERSIONS, "timezone": "Mars/Olympus"}, "timezone"),
        ({**VERSIONS, "group_by": "model_name"}, "group_by"),
    ],
)
def test_what_cannot_be_compared_is_refused_by_the_name_of_the_parameter(
    client: FlaskClient, query: dict[str, str], parameter: str
) -> None:
    response = client.get(URL, query_string=query)
    assert response.status_code == 422
    assert list((response.json or {})["errors"]["query"]) == [parameter]


def test_a_parameter_is_given_once(client: FlaskClient) -> None:
    response = client.get(URL, query_string={**VERSIONS, "version_a": ["1", "3"]})
    assert response.status_code == 422
    assert list((response.json or {})["errors"]["query"]) == ["version_a"]


def test_the_example_is_an_answer_as_documented() -> None:
    assert ComparisonSchema().validate(EXAMPLE) == {}


def test_the_document_has_all_parameters_and_both_sides(client: FlaskClient) -> None:
    document = client.get("/openapi.json").json or {}
    operation = document["paths"][URL]["get"]
    names: Sequence[str] = [parameter["name"] for parameter in operation["parameters"]]
    assert {"version_a", "version_b", "from_a", "to_a", "from_b", "to_b", "confidence", "model_name"} <= set(names)
    assert {"200", "422", "503"} <= set(operation["responses"])
