"""The states of an alert: what it passes through, and what people are told."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from enum import Enum
from functools import partial
from itertools import accumulate, pairwise, takewhile
from operator import is_

from hypothesis import given
from hypothesis import strategies as st

from app.domain.alert_measures import Outcome
from app.domain.alert_states import RESOLVED_FOR, Alert, State, step

NOW = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
MINUTE = timedelta(minutes=1)
FINE, BREACHED, UNKNOWN, UNRELIABLE = Outcome.FINE, Outcome.BREACHED, Outcome.UNKNOWN, Outcome.UNRELIABLE
Found = tuple[State, datetime, State | None]


def after(outcomes: Sequence[Outcome], hold: int = 2) -> tuple[list[State], list[State]]:
    """Return the states that follow, a minute apart, and the states that are sent."""
    alert, states, told = Alert(State.OK, NOW), [], []
    for minute, outcome in enumerate(outcomes):
        alert, news = step(alert, outcome, NOW + minute * MINUTE, hold * MINUTE)
        states.append(alert.state)
        told += [news] if news else []
    return states, told


def test_a_breach_fires_when_it_has_lasted_and_is_resolved_when_it_is_over() -> None:
    states, told = after([FINE, BREACHED, BREACHED, BREACHED, BREACHED, FINE, FINE])
    assert states == [
        State.OK,
        State.PENDING,
        State.PENDING,
        State.FIRING,
        State.FIRING,
        State.RESOLVED,
        State.RESOLVED,
    ]
    assert told == [State.FIRING, State.RESOLVED]


def test_without_a_time_to_last_a_breach_fires_at_once() -> None:
    assert after([BREACHED], hold=0) == ([State.FIRING], [State.FIRING])


def test_a_breach_that_ends_early_is_told_to_nobody() -> None:
    assert after([BREACHED, BREACHED, FINE]) == ([State.PENDING, State.PENDING, State.OK], [])


def test_the_time_begins_anew_with_each_breach() -> None:
    assert after([BREACHED, BREACHED, FINE, BREACHED, BREACHED])[1] == []


def test_what_cannot_be_measured_neither_fires_nor_resolves() -> None:
    assert after([UNKNOWN] * 9) == ([State.NO_DATA] * 9, [])
    states, told = after([BREACHED, UNKNOWN, UNRELIABLE, BREACHED, FINE], hold=0)
    assert states == [State.FIRING, State.NO_DATA, State.NO_DATA, State.FIRING, State.RESOLVED]
    assert told == [State.FIRING, State.RESOLVED]


def test_missing_predictions_are_told_once_they_have_been_missing_for_as_long_as_a_breach_must_last() -> None:
    states, told = after([UNRELIABLE, UNRELIABLE, UNRELIABLE, UNRELIABLE, FINE])
    assert states == [State.NO_DATA] * 4 + [State.RESOLVED]
    assert told == [State.NO_DATA, State.RESOLVED]
    assert after([UNRELIABLE, FINE, UNRELIABLE, FINE])[1] == []


def test_a_time_with_too_few_predictions_is_not_part_of_the_time_with_missing_ones() -> None:
    assert after([UNKNOWN] * 9 + [UNRELIABLE] * 2 + [FINE]) == ([State.NO_DATA] * 11 + [State.OK], [])
    assert after([UNKNOWN] * 9 + [UNRELIABLE] * 3)[1] == [State.NO_DATA]
    assert after([UNRELIABLE, UNRELIABLE, UNKNOWN, UNRELIABLE, UNRELIABLE])[1] == []


def test_a_breach_that_comes_to_light_after_missing_predictions_fires_as_any_other() -> None:
    assert after([UNRELIABLE] * 3 + [BREACHED] * 3 + [FINE])[1] == [State.NO_DATA, State.FIRING, State.RESOLVED]


def test_resolved_is_ok_after_an_hour() -> None:
    resolved, _ = step(Alert(State.FIRING, NOW, State.FIRING), FINE, NOW, MINUTE)
    assert step(resolved, FINE, NOW + RESOLVED_FOR - MINUTE, MINUTE)[0].state is State.RESOLVED
    ok, _ = step(resolved, FINE, NOW + RESOLVED_FOR, MINUTE)
    assert ok == Alert(State.OK, NOW + RESOLVED_FOR)


def test_a_state_keeps_the_time_when_it_began() -> None:
    firing = Alert(State.FIRING, NOW, State.FIRING)
    assert step(firing, BREACHED, NOW + MINUTE, MINUTE)[0] == firing


def beginning(moments: Sequence[datetime], kinds: Sequence[Enum]) -> datetime:
    """Return when the last run of the same kind began."""
    return moments[-sum(1 for _ in takewhile(partial(is_, kinds[-1]), reversed(kinds)))]


def by_the_documented_rules(moments: Sequence[datetime], outcomes: Sequence[Outcome], hold: timedelta) -> list[Found]:
    """Return the state of each measurement, when it began and what is sent, each found in the whole past anew."""
    states, sent, found = list[State](), list[tuple[datetime, State]](), list[Found]()
    for place, (now, outcome) in enumerate(zip(moments, outcomes), 1):
        began = beginning(moments[:place], outcomes[:place])
        told_at, told = sent[-1] if sent else (now, State.RESOLVED)
        state, news = State.NO_DATA, None
        if outcome is FINE:
            news = State.RESOLVED if told is not State.RESOLVED else None
            is_resolved = news or (sent and told_at >= began and now - told_at < RESOLVED_FOR)
            state = State.RESOLVED if is_resolved else State.OK
        elif outcome is BREACHED:
            news = State.FIRING if told is not State.FIRING and now - began >= hold else None
            state = State.FIRING if news or told is State.FIRING else State.PENDING
        elif outcome is UNRELIABLE and told is State.RESOLVED and now - began >= hold:
            news = State.NO_DATA
        states.append(state)
        sent += [(now, news)] if news else []
        found.append((state, beginning(moments[:place], states), news))
    return found


STEPS = st.tuples(st.sampled_from([1, 5, 29, 60]), st.sampled_from(list(Outcome)))


@given(st.lists(STEPS, min_size=10, max_size=40), st.sampled_from([0, 1, 2, 30]))
def test_an_alert_follows_the_documented_rules(steps: list[tuple[int, Outcome]], hold: int) -> None:
    moments = [NOW + minutes * MINUTE for minutes in accumulate(minutes for minutes, _ in steps)]
    outcomes = [outcome for _, outcome in steps]
    alert, found = Alert(State.OK, NOW - MINUTE), list[Found]()
    for now, outcome in zip(moments, outcomes):
        alert, news = step(alert, outcome, now, hold * MINUTE)
        found.append((alert.state, alert.since, news))
    expected = by_the_documented_rules([NOW - MINUTE, *moments], [FINE, *outcomes], hold * MINUTE)
    assert found == expected[1:]


@given(st.lists(st.sampled_from(list(Outcome)), max_size=60), st.integers(0, 4))
def test_messages_begin_and_end_in_turn_and_none_is_sent_twice(outcomes: list[Outcome], hold: int) -> None:
    _, told = after(outcomes, hold)
    is_open = False
    for before, news in zip([None, *told], told):
        assert news is not before
        assert news is not State.RESOLVED or is_open
        is_open = news is not State.RESOLVED
    last = outcomes[-1] if outcomes else FINE
    assert not (is_open and last is FINE), "what has fired is over"


@given(st.lists(st.sampled_from(list(Outcome)), max_size=30), st.lists(st.integers(-300, 300), max_size=30))
def test_a_clock_that_jumps_tells_nothing_twice(outcomes: list[Outcome], jumps: list[int]) -> None:
    alert, now, told = Alert(State.OK, NOW), NOW, []
    for outcome, jump in zip(outcomes, jumps):
        now += jump * MINUTE
        alert, news = step(alert, outcome, now, 3 * MINUTE)
        told += [news] if news else []
    assert all(a is not b for a, b in pairwise(told))
