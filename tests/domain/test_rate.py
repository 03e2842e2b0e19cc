"""So many a second in the long run, so many at once after a pause."""

from __future__ import annotations

from itertools import accumulate

from hypothesis import given
from hypothesis import strategies as st

from app.domain.rate import Rate

RATES = st.floats(0.1, 1e5)
BURSTS = st.integers(1, 500)


def admitted(limit: Rate, times: list[float]) -> list[float]:
    """Those of the calls at these times that are let in."""
    tat, let_in = 0.0, []
    for time in times:
        tat, early = limit.admit(tat, time)
        if early == 0:
            let_in.append(time)
    return let_in


@given(RATES, BURSTS)
def test_the_first_calls_are_let_in_up_to_the_burst_and_no_more(rate: float, burst: int) -> None:
    assert len(admitted(Rate(rate, burst), [1000.0] * (burst + 5))) == burst


def test_after_a_burst_one_call_is_let_in_for_each_that_the_rate_allows() -> None:
    limit = Rate(rate=10, burst=5)
    assert len(admitted(limit, [1000.0] * 50 + [1001.0] * 50)) == 5 + 5
    assert len(admitted(limit, [1000.0] * 50 + [1000.25] * 50)) == 5 + 2
    assert len(admitted(limit, [1000.0] * 50 + [2000.0] * 50)) == 5 + 5, "a pause saves up no more than a burst"


@given(RATES, BURSTS, st.lists(st.floats(0, 10), max_size=200))
def test_in_no_span_of_time_is_more_let_in_than_allowed(rate: float, burst: int, pauses: list[float]) -> None:
    let_in = admitted(Rate(rate, burst), list(accumulate(pauses, initial=1000.0)))
    for first, start in enumerate(let_in):
        for last in range(first, len(let_in)):
            assert last - first + 1 <= burst + (let_in[last] - start) * rate + 0.01


@given(RATES, BURSTS, st.integers(0, 20))
def test_a_caller_that_waits_as_long_as_it_is_told_is_let_in(rate: float, burst: int, more: int) -> None:
    limit, tat, now = Rate(rate, burst), 0.0, 1000.0
    for _ in range(burst + more):
        tat, early = limit.admit(tat, now)
        if early:
            now += early + 1e-9
            tat, early = limit.admit(tat, now)
            assert early == 0


def test_a_call_that_is_not_let_in_is_not_counted() -> None:
    limit = Rate(rate=1, burst=1)
    tat, early = limit.admit(0.0, 1000.0)
    assert early == 0
    for _ in range(100):
        again, early = limit.admit(tat, 1000.5)
        assert again == tat
        assert 0 < early <= 0.5
    assert limit.admit(tat, 1001.0)[1] == 0
