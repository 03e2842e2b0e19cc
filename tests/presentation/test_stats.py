"""GET /api/v1/stats"""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine

from app.application import statistics as statistics_module
from app.application.statistics import MAX_GROUPS
from app.domain.instants import DAY, HOUR, MINUTE, TimeRange, floor, parse_instant
from conftest import Server, make_app
from support.capture import statements

URL = "/api/v1/stats"
Log = Callable[..., dict[str, Any]]
Insert = Callable[[list[datetime]], None]
Refresh = Callable[[], None]
NUMBERS = (
    "total_requests", "successful_requests", "failed_requests", "success_rate",
    "average_duration_ms", "min_duration_ms", "max_duration_ms",
)  # fmt: skip


def ask(client: FlaskClient, **query: Any) -> dict[str, Any]:
    response = client.get(URL, query_string=query)
    assert response.status_code == 200, response.text
    return dict(response.json)


def total(client: FlaskClient, **query: Any) -> int:
    return int(ask(client, **query)["total_requests"])


def test_predictions_and_failures_are_counted_and_durations_measured(client: FlaskClient, log: Log, model: str) -> None:
    for duration_ms, was_successful in ((100, True), (200, True), (132.6, False), (0.4, True)):
        log(duration_ms=duration_ms, was_successful=was_successful)
    answer = ask(client, model_name=model)
    assert [answer[name] for name in NUMBERS] == [4, 3, 1, 0.75, 108.25, 0.4, 200]
    assert set(answer["percentiles"]) == {"50", "90", "95", "99"}
    assert answer["percentiles"]["50"] == pytest.approx((100 + 132.6) / 2, rel=0.01)
    assert answer["percentile_relative_error"] == 0.01


def test_a_model_that_nobody_has_logged_has_zeros_and_nulls(client: FlaskClient, model: str) -> None:
    answer = ask(client, model_name=model)
    assert [answer[name] for name in NUMBERS] == [0, 0, 0, None, None, None, None]
    assert answer["percentiles"] == {"50": None, "90": None, "95": None, "99": None}


def test_numbers_without_a_fraction_are_written_without_one(client: FlaskClient, log: Log, model: str) -> None:
    log(duration_ms=124)
    text = client.get(URL, query_string={"model_name": model}).text
    for name in ("average_duration_ms", "min_duration_ms", "max_duration_ms"):
        assert re.search(rf'"{name}":124[,}}]', text), text


def test_what_was_just_logged_is_counted_and_goes_on_to_be_after_a_refresh(
    client: FlaskClient, log: Log, model: str, refresh: Refresh
) -> None:
    log(duration_ms=1)
    log(duration_ms=3, timestamp=(datetime.now(timezone.utc) - 3 * HOUR).isoformat())
    before = ask(client, model_name=model)
    refresh()
    after = ask(client, model_name=model)
    assert [before[name] for name in NUMBERS] == [after[name] for name in NUMBERS] == [2, 2, 0, 1.0, 2, 1, 3]


def test_predictions_that_arrive_late_or_are_deleted_are_counted_at_once(
    client: FlaskClient, log: Log, insert: Insert, model: str, midnight: datetime, refresh: Refresh
) -> None:
    refresh()
    insert([midnight + n * HOUR for n in range(24)])
    refresh()
    assert total(client, model_name=model) == 24
    late = log(duration_ms=1000, timestamp=(midnight + 5 * HOUR + MINUTE).isoformat())
    assert ask(client, model_name=model)["max_duration_ms"] == 1000
    assert client.delete(f"/api/v1/predictions/{late['id']}").status_code == 200
    answer = ask(client, model_name=model)
    assert (answer["total_requests"], answer["max_duration_ms"]) == (24, 24)
    refresh()
    assert ask(client, model_name=model)["max_duration_ms"] == 24


@pytest.mark.parametrize("last", [timedelta(minutes=10), timedelta(hours=5), timedelta(hours=10, seconds=30)], ids=str)
def test_a_refresh_loses_nothing_if_the_last_invalidation_lies_on_a_round_time(
    client: FlaskClient, insert: Insert, model: str, midnight: datetime, refresh: Refresh, last: timedelta
) -> None:
    refresh()
    for predictions in (2, 4):  # late both times; the second time into buckets that are there already
        insert([midnight, midnight + last])
        refresh()
        assert total(client, model_name=model) == predictions


def test_dates_include_both_of_their_ends(client: FlaskClient, insert: Insert, model: str, midnight: datetime) -> None:
    tick = timedelta(microseconds=1)
    insert([midnight - tick, midnight, midnight + DAY - tick, midnight + DAY, midnight + 2 * DAY - tick])
    day, after = midnight.date().isoformat(), (midnight + DAY).date().isoformat()
    assert total(client, model_name=model, from_date=day, to_date=day) == 2
    assert total(client, model_name=model, from_date=day, to_date=after) == 4
    answer = ask(client, model_name=model, from_date=day, to_date=after)
    assert answer["range"] == {"from": f"{day}T00:00:00+00:00", "to": (midnight + 2 * DAY).isoformat()}
    assert answer["cut_to_request"] is True


def test_instants_bound_a_half_open_range(client: FlaskClient, insert: Insert, model: str, midnight: datetime) -> None:
    tick = timedelta(microseconds=1)
    start, end = midnight + timedelta(hours=1.2345), midnight + timedelta(hours=30.123)
    insert([start - tick, start, midnight + DAY, end - tick, end])
    answer = ask(client, model_name=model, from_date=start.isoformat(), to_date=end.isoformat())
    assert answer["total_requests"] == 3
    assert answer["range"] == {"from": start.isoformat(), "to": end.isoformat()}
    assert total(client, model_name=model, from_date=start.isoformat(), to_date=start.isoformat()) == 0


@pytest.mark.parametrize("start", ["from_date", "from"])
@pytest.mark.parametrize("end", ["to_date", "to"])
def test_either_spelling_of_the_bounds_says_the_same(
    client: FlaskClient, insert: Insert, model: str, midnight: datetime, start: str, end: str
) -> None:
    insert([midnight - HOUR, midnight, midnight + DAY])
    day = midnight.date().isoformat()
    assert total(client, **{"model_name": model, start: day, end: day}) == 1


@pytest.mark.parametrize(("one", "other"), [("from_date", "from"), ("to_date", "to")])
def test_both_spellings_of_a_bound_together_are_refused(client: FlaskClient, one: str, other: str) -> None:
    for values in (("2025-06-01", "2025-06-01"), ("2025-06-01", "2025-06-02")):
        refusal = client.get(URL, query_string=dict(zip((one, other), values)))
        assert refusal.status_code == 422
        assert set(refusal.json["errors"]["query"]) <= {one, other}


def test_the_days_are_those_of_the_time_zone(
    client: FlaskClient, insert: Insert, model: str, midnight: datetime
) -> None:
    insert([midnight - HOUR, midnight + 18 * HOUR, midnight + 19 * HOUR])
    day = midnight.date().isoformat()
    asked = {"model_name": model, "from": day, "to": day}
    assert total(client, **asked) == total(client, **asked, timezone="UTC") == 2
    assert total(client, **asked, timezone="Asia/Kolkata") == 2  # from 18:30 the day before to 18:30
    assert total(client, **asked, timezone="Asia/Tokyo") == 1
    assert ask(client, **asked, timezone="Asia/Kolkata")["range"]["from"] == (midnight - 5.5 * HOUR).isoformat()


def test_a_bound_that_is_left_out_is_the_beginning_or_now(
    client: FlaskClient, insert: Insert, model: str, midnight: datetime
) -> None:
    insert([midnight, datetime.now(timezone.utc), datetime.now(timezone.utc) + 4 * MINUTE])
    assert total(client, model_name=model) == 3
    assert total(client, model_name=model, to_date=midnight.date().isoformat()) == 1
    assert total(client, model_name=model, from_date=(midnight + DAY).isoformat()) == 2
    assert ask(client, model_name=model)["range"]["from"] == "2000-01-01T00:00:00+00:00"


def test_several_models_are_counted_together_and_all_if_none_is_named(
    client: FlaskClient, log: Log, model: str
) -> None:
    for name in (f"{model}-a", f"{model}-a", f"{model}-b", f"{model}-c"):
        log(model_name=name)
    names = [f"{model}-a", f"{model}-b"]
    assert client.get(URL, query_string={"model_name": names}).json["total_requests"] == 3
    assert client.get(URL, query_string={"model_name": names[:1] * 2}).json["total_requests"] == 2
    assert total(client) >= 4


def test_one_version_of_a_model_can_be_looked_at(client: FlaskClient, log: Log, model: str) -> None:
    for version in ({}, {"model_version": "1"}, {"model_version": "2"}, {"model_version": "2"}):
        log(**version)
    assert total(client, model_name=model, model_version="2") == 2
    assert total(client, model_name=model, model_version="3") == 0
    assert total(client, model_name=model) == 4


@pytest.mark.parametrize(
    ("group_by", "expected"),
    [
        ("model_name", [{"model_name": "{}-a"}, {"model_name": "{}-b"}]),
        ("model_version", [{"model_version": None}, {"model_version": "1"}]),
        (
            "model_version,model_name",
            [
                {"model_name": "{}-a", "model_version": None},
                {"model_name": "{}-a", "model_version": "1"},
                {"model_name": "{}-b", "model_version": "1"},
            ],
        ),
    ],
)
def test_groups_add_up_to_the_total(
    client: FlaskClient, log: Log, model: str, refresh: Refresh, group_by: str, expected: list[dict[str, str | None]]
) -> None:
    log(model_name=f"{model}-a", duration_ms=1)
    log(model_name=f"{model}-a", duration_ms=2, model_version="1", was_successful=False)
    log(model_name=f"{model}-b", duration_ms=3, model_version="1", timestamp=f"{datetime.now(timezone.utc) - DAY}")
    refresh()
    answer = ask(client, model_name=[f"{model}-a", f"{model}-b"], group_by=group_by)
    keys = [
        {name: group[name] for name in ("model_name", "model_version") if name in group} for group in answer["groups"]
    ]
    assert keys == [{k: v and v.format(model) for k, v in key.items()} for key in expected]
    for name in ("total_requests", "successful_requests", "failed_requests"):
        assert sum(group[name] for group in answer["groups"]) == answer[name]
    assert [answer[name] for name in NUMBERS] == [3, 2, 1, 2 / 3, 2, 1, 3]
    assert {*expected[0], *NUMBERS, "percentiles"} <= set(answer["groups"][0])


@pytest.fixture
def many(database: Engine) -> Callable[..., None]:
    """Log a prediction for each of so many models, or versions of one."""

    def many(model: str, versions: str, number: int) -> None:
        with database.connect() as connection:
            connection.exec_driver_sql(
                "INSERT INTO prediction_log (timestamp, model_name, model_version, duration_ms, was_successful) "
                f"SELECT now() - n * INTERVAL '1 second', %(model)s, {versions}, 1, true "
                "FROM generate_series(1, %(number)s) AS n",
                {"model": model, "number": number},
            )

    return many


@pytest.mark.parametrize("group_by", ["model_version", "model_name,model_version"])
def test_more_groups_than_an_answer_may_have_are_refused_with_what_to_do(
    client: FlaskClient, many: Callable[..., None], model: str, group_by: str
) -> None:
    query = {"model_name": model, "group_by": group_by, "percentiles": ""}
    many(model, "n::text", MAX_GROUPS)
    assert len(ask(client, **query)["groups"]) == MAX_GROUPS
    many(model, "'one more'", 1)
    for _ in range(2):
        response = client.get(URL, query_string=query)
        assert response.status_code == 422
        (message,) = (response.json or {})["errors"]["query"]["group_by"]
        assert f"{MAX_GROUPS} groups" in message and "`model_name`" in message and "/api/v1/models" in message


def test_models_that_are_known_by_their_losses_alone_are_groups_too(
    client: FlaskClient, database: Engine, model: str
) -> None:
    with database.connect() as connection:
        connection.exec_driver_sql(
            "INSERT INTO prediction_dropped (id, timestamp, model_name, reason, count) "
            "SELECT gen_random_uuid(), '2003-04-05 06:07:00+00', %(model)s || n, 'expired', 1 "
            "FROM generate_series(1, %(number)s) AS n",
            {"model": model, "number": MAX_GROUPS + 1},
        )
    query = {"from": "2003-04-05", "to": "2003-04-05", "group_by": "model_name"}
    assert client.get(URL, query_string=query).status_code == 422
    with database.connect() as connection:
        connection.exec_driver_sql(
            "DELETE FROM prediction_dropped WHERE model_name = %(model)s", {"model": f"{model}1"}
        )
    assert len(ask(client, **query)["groups"]) == MAX_GROUPS


def test_groups_outside_of_the_range_do_not_count(
    client: FlaskClient, many: Callable[..., None], log: Log, model: str, refresh: Refresh
) -> None:
    many(model, "n::text", MAX_GROUPS + 1)
    log(model_version="old", timestamp="2025-06-09T12:00:00")
    refresh()
    query = {"model_name": model, "group_by": "model_version", "from": "2025-06-09", "to": "2025-06-09"}
    (group,) = ask(client, **query)["groups"]
    assert group["model_version"] == "old"


def test_deleted_groups_do_not_count(
    client: FlaskClient, many: Callable[..., None], database: Engine, model: str, refresh: Refresh
) -> None:
    many(model, "n::text", MAX_GROUPS + 1)
    refresh()
    with database.connect() as connection:
        connection.exec_driver_sql(
            "DELETE FROM prediction_log WHERE model_name = %(model)s AND model_version = '7'", {"model": model}
        )
    assert len(ask(client, model_name=model, group_by="model_version")["groups"]) == MAX_GROUPS


def test_without_group_by_there_are_no_groups(client: FlaskClient, model: str) -> None:
    assert "groups" not in ask(client, model_name=model)
    assert ask(client, model_name=model, group_by="model_name")["groups"] == []


def test_percentiles_are_within_a_percent_of_the_true_ones(
    client: FlaskClient, insert: Insert, model: str, midnight: datetime, refresh: Refresh
) -> None:
    refresh()
    insert([midnight + n * 2 * MINUTE for n in range(1001)])  # of 1 to 1001 ms
    for _ in range(2):
        percentiles = ask(client, model_name=model, percentiles="0,1,12.5,50,90,99,99.9,100")["percentiles"]
        assert list(percentiles) == ["0", "1", "12.5", "50", "90", "99", "99.9", "100"]
        for percentile, value in percentiles.items():
            assert value == pytest.approx(1 + 10 * float(percentile), rel=0.01)
        assert (percentiles["0"], percentiles["100"]) == (1, 1001)
        refresh()


def test_each_percentile_comes_back_under_the_number_it_was_asked_by(client: FlaskClient, log: Log, model: str) -> None:
    log()
    for asked in ("99.99999,100", "0.0000001,0", "50.000001,50"):
        percentiles = ask(client, model_name=model, percentiles=asked)["percentiles"]
        assert [float(key) for key in percentiles] == [float(text) for text in asked.split(",")]


def test_no_percentiles_are_computed_if_none_are_wanted(client: FlaskClient, log: Log, model: str) -> None:
    log(duration_ms=5)
    with statements() as sent:
        answer = ask(client, model_name=model, percentiles="")
    assert (answer["percentiles"], answer["max_duration_ms"]) == ({}, 5)
    assert not any("latency" in statement.text for statement in sent)


def test_an_answer_says_how_it_was_made(
    client: FlaskClient, log: Log, server: Server, model: str, refresh: Refresh
) -> None:
    refresh()
    log()
    freshness = ask(client, model_name=model)["freshness"]
    if server.engine != "timescale":
        assert freshness["materialized_to"] is None, "always exact"
    else:
        assert parse_instant(freshness["materialized_to"]) <= datetime.now(timezone.utc)
        assert freshness["raw_share"] == 1.0, "the newest predictions are read from raw rows"
    assert freshness["hours_pending_repair"] >= 0


def test_the_largest_durations_can_be_added_up(client: FlaskClient, log: Log, model: str) -> None:
    for duration in (1e292, 1e292, 5e-324, 0):
        log(duration_ms=duration)
    answer = ask(client, model_name=model, percentiles="0,100")
    assert answer["average_duration_ms"] == pytest.approx(5e291)
    assert answer["percentiles"] == {"0": 0, "100": 1e292}


BOUNDS = re.compile(r"\"?timestamp\"? (>=|<|>|<=) '([^']+)'")


def ranges_of_the_log_read_by(client: FlaskClient, path: str, **query: Any) -> list[TimeRange]:
    """The ranges of time that the plan of a question reads from rows; each scan of rows must have both bounds.

    A question is asked again if the state has changed since the one before, because its plan is then made twice.
    """
    for _ in range(3):
        with statements() as sent:
            response = client.get(path, query_string=query)
            assert response.status_code == 200, response.text
        if len(sent) == 1:
            break
    found = []
    for scan in sent[-1].scans_of_the_log():
        bounds = dict(BOUNDS.findall(scan.conditions))
        assert {">=", "<"} <= set(bounds), scan
        found.append(TimeRange(parse_instant(bounds[">="]), parse_instant(bounds["<"])))
    assert len(sent) == 1, "one statement answers the question"
    return found


@pytest.mark.parametrize("path", [URL, f"{URL}/timeseries"])
@pytest.mark.parametrize("named", [True, False])
def test_rows_are_read_at_the_cut_ends_and_behind_the_watermark_alone(
    server: Server,
    client: FlaskClient,
    insert: Insert,
    model: str,
    midnight: datetime,
    refresh: Refresh,
    path: str,
    named: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(statistics_module, "RECENT_S", 3600.0)
    refresh()
    insert([midnight + n * 10 * MINUTE for n in range(2 * 144)])
    refresh()
    fresh = make_app(server.url, pool_size=1).test_client()  # has not seen any state yet
    query = {"model_name": model} if named else {}
    start, end = midnight + timedelta(hours=1, seconds=7), datetime.now(timezone.utc)
    with ExitStack() as stack:
        statistics = fresh.application.extensions["predlog"].readers._primary.statistics
        stack.callback(statistics._store._run.__self__.engine.dispose)
        whole = {**query, "from": start.isoformat(), "to": end.isoformat()}
        fresh.get(path, query_string=whole | {"model_name": "another"})  # the first question asks for the state
        read = sorted(ranges_of_the_log_read_by(fresh, path, **whole))
        answer = fresh.get(path, query_string=whole).json
    watermark = answer["freshness"]["materialized_to"]
    mark = parse_instant(watermark) if watermark else floor(end, MINUTE)
    pending = answer["freshness"]["hours_pending_repair"]
    assert mark > midnight + DAY, "most of the range is materialised"
    assert TimeRange(start, start + 53 * timedelta(seconds=1)) in read
    behind = [part.intersection(TimeRange(start, mark)).length for part in read if part.start < mark]
    assert sum(behind, timedelta()) <= MINUTE + pending * HOUR, read
    assert all(a.end <= b.start or a == b for a, b in pairwise(read)), "no row is read twice"


def test_a_range_of_whole_hours_that_is_materialized_reads_no_row_at_all(
    client: FlaskClient, insert: Insert, model: str, midnight: datetime, refresh: Refresh
) -> None:
    refresh()
    insert([midnight + n * 10 * MINUTE for n in range(144)])
    refresh()
    query = {"model_name": model, "from": midnight.isoformat(), "to": (midnight + 20 * HOUR).isoformat()}
    answer = ask(client, **query)
    if answer["freshness"]["hours_pending_repair"]:
        refresh()
    ask(client, **query)
    assert ranges_of_the_log_read_by(client, URL, **query) == []
    assert ask(client, **query)["total_requests"] == 120
