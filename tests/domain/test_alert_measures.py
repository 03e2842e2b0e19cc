"""What an alert measures, and when that is a breach."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.alert_changes import Change
from app.domain.alert_measures import Completeness, ErrorRate, Outcome, Percentile, ShareUnder, Silence, duration
from app.domain.alert_rules import Rule
from app.domain.burn_rate import FAST, SLOW, BurnRate
from app.domain.instants import MINUTE
from app.domain.sketch import LatencySketch, bin_of
from app.domain.statistics import Tally

NOW = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
FINE, BREACHED, UNKNOWN, UNRELIABLE = Outcome.FINE, Outcome.BREACHED, Outcome.UNKNOWN, Outcome.UNRELIABLE


def predictions(total: int, failed: int = 0, dropped: int = 0) -> Tally:
    return Tally(total=total, successful=total - failed, dropped=dropped)


def timed(durations: Sequence[float]) -> Tally:
    sketch = LatencySketch(Counter(map(bin_of, durations)).items())
    number = len(durations)
    return Tally(number, number, round(sum(durations) * 1e6), min(durations), max(durations), sketch=sketch)


def outcome(measure: object, *tallies: Tally, **rule: object) -> Outcome:
    return Rule("r", ("m",), measure, **rule).judge(tallies).outcome  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("failed", "total", "expected"),
    [(1, 1, FINE), (3, 20, FINE), (20, 100, BREACHED), (100, 1000, BREACHED), (55, 1000, FINE), (0, 1000, FINE)],
)
def test_an_error_rate_is_a_breach_if_it_is_above_the_limit_by_more_than_chance(
    failed: int, total: int, expected: Outcome
) -> None:
    assert outcome(ErrorRate(HOUR, 0.05, 0.95), predictions(total, failed)) is expected


def test_few_predictions_say_nothing() -> None:
    assert outcome(ErrorRate(HOUR, 0.01, 0.95), predictions(0)) is UNKNOWN
    assert outcome(ErrorRate(HOUR, 0.01, 0.95), predictions(49, 49), min_predictions=50) is UNKNOWN
    assert outcome(ErrorRate(HOUR, 0.01, 0.95), predictions(50, 50), min_predictions=50) is BREACHED


def test_figures_of_which_too_many_predictions_are_missing_are_not_believed() -> None:
    verdict = Rule("r", ("m",), ErrorRate(HOUR, 0.01, 0.95)).judge([predictions(80, 80, dropped=20)])
    assert verdict.outcome is UNRELIABLE and verdict.value is None
    assert "80 %" in verdict.text and "20 were dropped" in verdict.text
    assert outcome(ErrorRate(HOUR, 0.01, 0.95), predictions(80, 80, dropped=20), min_completeness=0.7) is BREACHED


def test_figures_of_a_version_are_believed_if_enough_of_the_predictions_of_all_versions_were_logged() -> None:
    rule = Rule("r", ("m",), ErrorRate(HOUR, 0.01, 0.95), model_version="2")
    canary = predictions(1000, 500, dropped=500)
    assert rule.judge([canary], [predictions(100_000, 500, dropped=500)]).outcome is BREACHED
    verdict = rule.judge([canary], [predictions(1500, 500, dropped=500)])
    assert verdict.outcome is UNRELIABLE
    assert "only 75 % of the predictions of all versions" in verdict.text and "500 were dropped" in verdict.text
    assert rule.judge([predictions(0, dropped=500)], [predictions(100_000, dropped=500)]).outcome is UNKNOWN


def test_the_share_of_fast_predictions_and_a_percentile_say_the_same_of_the_same_limit() -> None:
    slow, fast = timed([100.0] * 900 + [900.0] * 100), timed([100.0] * 990 + [900.0] * 10)
    for tally, expected in ((slow, BREACHED), (fast, FINE)):
        assert outcome(ShareUnder(HOUR, 500, 0.95, 0.95), tally) is expected
        assert outcome(Percentile(HOUR, 95, 500, 0.95), tally) is expected


def test_a_percentile_that_the_sketch_cannot_tell_from_the_limit_is_no_breach() -> None:
    tally = timed([500.0] * 1000 + [501.0] * 1000)
    assert outcome(Percentile(HOUR, 50, 500, 0.95), tally) is FINE
    assert outcome(Percentile(HOUR, 50, 490, 0.95), tally) is BREACHED


def test_silence_is_a_breach_unless_predictions_were_lost() -> None:
    assert outcome(Silence(HOUR), predictions(0)) is BREACHED
    assert outcome(Silence(HOUR), predictions(1, dropped=100)) is FINE
    assert outcome(Silence(HOUR), predictions(0, dropped=3)) is UNRELIABLE


def test_a_version_is_silent_also_if_predictions_of_other_versions_were_lost() -> None:
    assert outcome(Silence(HOUR), predictions(0, dropped=3), predictions(1000, dropped=3)) is BREACHED
    assert outcome(Silence(HOUR), predictions(0, dropped=3), predictions(0, dropped=3)) is UNRELIABLE
    assert outcome(Silence(HOUR), predictions(1, dropped=3), predictions(1000, dropped=3)) is FINE
    assert [sample.model_version for sample in Silence(HOUR).samples(NOW, "2")] == ["2", None]
    assert [sample.model_version for sample in Silence(HOUR).samples(NOW, None)] == [None]


def test_completeness_is_that_of_all_versions() -> None:
    assert [sample.model_version for sample in Completeness(HOUR, 0.99).samples(NOW, "2")] == [None]


def test_completeness_itself_can_be_a_breach() -> None:
    assert outcome(Completeness(HOUR, 0.99), predictions(98, dropped=2)) is BREACHED
    assert outcome(Completeness(HOUR, 0.99), predictions(0, dropped=2)) is BREACHED
    assert outcome(Completeness(HOUR, 0.99), predictions(99, dropped=1)) is FINE
    assert outcome(Completeness(HOUR, 0.99), predictions(0)) is UNKNOWN


def test_more_errors_than_before_are_a_breach_if_that_is_more_than_chance() -> None:
    change = Change(HOUR, None, 0.0, 0.95, ago=7 * DAY)
    assert outcome(change, predictions(1000, 50), predictions(1000, 10)) is BREACHED
    assert outcome(change, predictions(1000, 12), predictions(1000, 10)) is FINE
    assert outcome(change, predictions(1000, 10), predictions(1000, 50)) is FINE, "better is no breach"
    assert outcome(Change(HOUR, None, 0.05, 0.95, ago=7 * DAY), predictions(1000, 50), predictions(1000, 10)) is FINE
    assert outcome(change, predictions(1000, 50), predictions(0)) is UNKNOWN
    assert outcome(change, predictions(1000, 50), predictions(1000, 10, dropped=900)) is UNRELIABLE


def test_slower_than_another_version_is_a_breach_if_that_is_more_than_chance() -> None:
    change = Change(HOUR, 50, 1.2, 0.95, against_version="1")
    assert outcome(change, timed([150.0] * 500), timed([100.0] * 500)) is BREACHED
    assert outcome(change, timed([110.0] * 500), timed([100.0] * 500)) is FINE
    assert outcome(change, timed([150.0] * 500), timed([0.0] * 500)) is UNKNOWN
    now, before = change.samples(NOW, "2")
    assert (now.range, now.model_version, before.model_version) == (before.range, "2", "1")
    now, before = Change(HOUR, 50, 1.2, 0.95, ago=7 * DAY).samples(NOW, "2")
    assert (before.range.start, before.range.end) == (NOW - 7 * DAY - HOUR, NOW - 7 * DAY)
    assert now.model_version == before.model_version == "2"


@given(
    st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(timezone.utc)),
    st.timedeltas(timedelta(seconds=10), 90 * DAY),
    st.timedeltas(timedelta(), 400 * DAY),
)
def test_a_window_is_of_whole_minutes_and_less_than_a_minute_longer_at_each_end(
    now: datetime, window: timedelta, more: timedelta
) -> None:
    ago = max(window + more, MINUTE)
    change = Change(window, None, 0.0, 0.95, ago=ago)
    current, before = (sample.range for sample in change.samples(now, None))
    (silent,) = Silence(window).samples(now, None)
    *_, budget = BurnRate(0.999, window, SLOW).samples(now, None)
    assert silent.range == budget.range == current
    assert now - window - MINUTE < current.start <= now - window and now <= current.end < now + MINUTE
    for edge in (current.start, current.end, before.start, before.end):
        assert (edge.second, edge.microsecond) == (0, 0)
    assert before.length == current.length and before.end <= current.start
    assert timedelta() <= current.start - before.start - ago < 2 * MINUTE


def test_the_burn_rates_are_those_of_the_workbook() -> None:
    month = 30 * DAY
    assert [burn.factor(month) for burn in (*FAST, *SLOW)] == pytest.approx([14.4, 6, 1])
    lengths = [sample.range.length for sample in BurnRate(0.999, month, FAST).samples(NOW, None)]
    assert lengths == [HOUR, HOUR / 12, 6 * HOUR, HOUR / 2, month]
    lengths = [sample.range.length for sample in BurnRate(0.999, month, SLOW).samples(NOW, None)]
    assert lengths == [3 * DAY, 6 * HOUR, month]


@pytest.mark.parametrize(
    ("hour", "five_minutes", "six_hours", "half_an_hour", "expected"),
    [
        (15, 15, 0, 0, BREACHED),
        (15, 14, 5, 5, FINE),
        (14, 15, 5, 5, FINE),
        (0, 0, 7, 7, BREACHED),
        (0, 0, 7, 5, FINE),
        (14, 14, 5, 5, FINE),
    ],
)
def test_a_budget_burns_if_both_windows_of_a_pair_do(
    hour: int, five_minutes: int, six_hours: int, half_an_hour: int, expected: Outcome
) -> None:
    tallies = [predictions(1000, rate) for rate in (hour, five_minutes, six_hours, half_an_hour)]
    assert outcome(BurnRate(0.999, 30 * DAY, FAST), *tallies, predictions(10_000, 2)) is expected


def test_a_budget_counts_slow_predictions_if_the_objective_has_a_duration() -> None:
    burning = [timed([100.0] * 90 + [900.0] * 10)] * 5
    assert outcome(BurnRate(0.999, 30 * DAY, FAST, under_ms=500), *burning) is BREACHED
    assert outcome(BurnRate(0.999, 30 * DAY, FAST), *burning) is FINE


def test_the_rest_of_a_budget_is_told_and_old_drops_hide_nothing() -> None:
    rule = Rule("r", ("m",), BurnRate(0.99, 30 * DAY, SLOW))
    assert "75 % of it is left" in rule.judge([predictions(1000), predictions(1000), predictions(10_000, 25)]).text
    verdict = rule.judge([predictions(1000, 50), predictions(1000, 50), predictions(1000, 50, dropped=9000)])
    assert verdict.outcome is BREACHED and "used up 5 times" in verdict.text


def test_a_rule_watches_what_it_names_and_what_its_patterns_fit() -> None:
    rule = Rule("r", ("price_*", "Other"), Silence(HOUR))
    assert rule.has_patterns and rule.watched(["price_a", "xprice_b", "PRICE_c"]) == ["Other", "price_a"]
    assert not Rule("r", ("a", "b"), Silence(HOUR)).has_patterns


@pytest.mark.parametrize(
    ("length", "words"),
    [(HOUR, "1 hour"), (DAY, "1 day"), (90 * HOUR / 60, "90 minutes"), (timedelta(seconds=30), "30 seconds")],
)
def test_lengths_of_time_are_written_as_people_say_them(length: timedelta, words: str) -> None:
    assert duration(length) == words
