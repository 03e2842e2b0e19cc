"""The states of an alert, and how it passes from one to the next."""

from __future__ import annotations

from dataclasses import dataclass
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
    """A state and when it began. `told` is what people were told last, until they are told that it is over."""

    state: State
    since: datetime
    told: State | None = None


def step(before: Alert, outcome: Outcome, now: datetime, hold: timedelta) -> tuple[Alert, State | None]:
    """The alert after one more measurement, and what people are to be told now (FIRING, NO_DATA or RESOLVED).

    A breach fires once it has lasted `hold`. If too many calls are missing for as long, that is told instead. An alert
    that has fired goes on having fired while nothing is known: no second message comes when it is breached again.
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
    if outcome is Outcome.UNRELIABLE and before.told is None and now - silent.since >= hold:
        return Alert(State.NO_DATA, silent.since, State.NO_DATA), State.NO_DATA
    return silent, None


def _entered(before: Alert, state: State, now: datetime) -> Alert:
    """The alert in this state, since now if it was in another one."""
    return before if before.state is state else Alert(state, now, before.told)
