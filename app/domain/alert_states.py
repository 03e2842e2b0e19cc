"""The states of an alert, and how it passes from one to the next."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum

from app.domain.alert_measures import Outcome

RESOLVED_FOR = timedelta(hours=1)


class State(str, Enum):
    """PENDING is breached, but not for long enough to fire; RESOLVED is OK for an hour after it has fired."""

    OK = "ok"
    PENDING = "pending"
    FIRING = "firing"
    RESOLVED = "resolved"
    NO_DATA = "no data"


@dataclass(frozen=True)
class Alert:
    """A state and when it began. `told` is the state that was sent last; it is None again after RESOLVED was sent.

    `unreliable_since` is for NO_DATA: since when too many predictions are missing; None if there are too few of them.
    """

    state: State
    since: datetime
    told: State | None = None
    unreliable_since: datetime | None = None


def step(before: Alert, outcome: Outcome, now: datetime, hold: timedelta) -> tuple[Alert, State | None]:
    """Return the alert after one more measurement, and the state to send now (FIRING, NO_DATA, RESOLVED or None).

    A breach fires once it has lasted `hold`. NO_DATA is sent once too many predictions are missing for as long; a time
    with too few predictions does not count. An alert that has fired stays FIRING while nothing is known, so the next
    breach sends no second message.
    """
    if outcome is Outcome.FINE:
        if before.told:
            return Alert(State.RESOLVED, now), State.RESOLVED
        if before.state is State.RESOLVED and now - before.since < RESOLVED_FOR:
            return before, None
        return _entered(before, State.OK, now), None
    if outcome is Outcome.BREACHED:
        if before.told is State.FIRING:
            return _entered(before, State.FIRING, now), None
        pending = _entered(before, State.PENDING, now)
        if now - pending.since >= hold:
            return Alert(State.FIRING, now, State.FIRING), State.FIRING
        return pending, None
    silent = _entered(before, State.NO_DATA, now)
    if outcome is Outcome.UNKNOWN:
        return replace(silent, unreliable_since=None), None
    unreliable_since = silent.unreliable_since or now
    if before.told is None and now - unreliable_since >= hold:
        return Alert(State.NO_DATA, silent.since, State.NO_DATA, unreliable_since), State.NO_DATA
    return replace(silent, unreliable_since=unreliable_since), None


def _entered(before: Alert, state: State, now: datetime) -> Alert:
    """Return the alert in this state, which began now if the alert was in another one."""
    return before if before.state is state else Alert(state, now, before.told)
