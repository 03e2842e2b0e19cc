"""Which questions the rules of alerts ask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone

import pytest

from app.application.alerts import AlertKey, Alerts
from app.application.statistics import Answer, GroupKey, Question
from app.domain.alert_changes import Change
from app.domain.alert_measures import ErrorRate, Measure
from app.domain.alert_rules import Rule
from app.domain.alert_states import Alert, State
from app.domain.cover import HOURS, MINUTES, RAW, Materialized, answerable
from app.domain.instants import DAY, floor
from app.domain.statistics import Freshness, Tally

NOW = datetime(2026, 6, 1, 12, tzinfo=timezone.utc)
HOUR = timedelta(hours=1)
ERRORS = ErrorRate(HOUR, 0.05, 0.95)
SLOWER = Change(HOUR, 50, 1.5, 0.95, against_version="1")
BUSY, CANARY = Tally(100_000, 100_000), Tally(1000, 500)


class FakeTurn:
    """Keeps the states in memory."""

    now = NOW

    def __init__(self) -> None:
        self.states: dict[str, State] = {}
        self.texts: dict[str, str] = {}

    @contextmanager
    def turn(self, every: timedelta) -> Iterator[FakeTurn]:
        yield self

    def alerts(self) -> Mapping[AlertKey, Alert]:
        return {}

    def keep(self, alerts: Sequence[object], events: Sequence[object]) -> None:
        self.states = {each.key.model_name: each.alert.state for each in alerts}  # type: ignore[attr-defined]
        self.texts = {each.key.model_name: each.text for each in alerts}  # type: ignore[attr-defined]


class Asked:
    """Answers for two models, of which one has dropped 500 predictions; version 2 is a canary of both."""

    def __init__(self, kept: Materialized | None = None) -> None:
        self.questions: list[Question] = []
        self.kept = kept or Materialized(NOW)

    def __call__(self, question: Question) -> Answer:
        self.questions.append(question)
        logged = CANARY if question.selection.model_version == "2" else BUSY
        tallies = {
            GroupKey(0, name): logged + Tally(dropped=500 if name == "lossy" else 0)
            for name in question.selection.model_names
        }
        return Answer(tallies, answerable(question.range, self.kept), Freshness(NOW, 0, 0))


def asked_by(
    measure: Measure, models: Sequence[str], version: str | None = None, kept: Materialized | None = None
) -> tuple[Asked, FakeTurn]:
    asked, turn = Asked(kept), FakeTurn()
    rule = Rule("r", tuple(models), measure, model_version=version)

    def fail(rule: str, error: Exception) -> None:
        raise error

    Alerts([rule], turn, asked, lambda event, webhooks: [], HOUR, fail).evaluate()  # type: ignore[arg-type]
    return asked, turn


def test_a_canary_is_judged_although_the_model_dropped_half_as_many_as_the_canary_has() -> None:
    asked, turn = asked_by(ERRORS, ["lossy", "tidy"], "2")
    assert turn.states == {"lossy": State.FIRING, "tidy": State.FIRING}
    canaries, all_versions = asked.questions
    assert (canaries.selection.model_names, canaries.selection.model_version) == (("lossy", "tidy"), "2")
    assert (all_versions.selection.model_names, all_versions.selection.model_version) == (("lossy",), None)
    assert all_versions.range == canaries.range and not all_versions.latency


@pytest.mark.parametrize(
    ("measure", "models", "version", "questions"),
    [
        (ERRORS, ["lossy", "tidy"], None, 1),
        (ERRORS, ["tidy"], "2", 1),
        (SLOWER, ["tidy"], "2", 2),
    ],
)
def test_all_versions_are_asked_about_only_if_a_rule_selects_one_and_predictions_were_dropped(
    measure: Measure, models: Sequence[str], version: str | None, questions: int
) -> None:
    asked, _ = asked_by(measure, models, version)
    assert len(asked.questions) == questions


@pytest.mark.parametrize(
    ("window", "ago", "state"),
    [
        (HOUR / 6, 7 * DAY, State.FIRING),
        (HOUR / 6, 60 * DAY, State.FIRING),
        (HOUR / 6, 100 * DAY, State.NO_DATA),
        (HOUR / 6, 380 * DAY, State.NO_DATA),
        (7 * DAY, 100 * DAY, State.FIRING),
    ],
)
def test_a_change_is_not_measured_against_a_longer_time_that_retention_has_left_of_a_window(
    window: timedelta, ago: timedelta, state: State
) -> None:
    edges = ((RAW, 30), (MINUTES, 90), (HOURS, 365))
    kept = Materialized(NOW, kept_from=tuple((level, floor(NOW - days * DAY, DAY)) for level, days in edges))
    change = Change(window, None, -0.5, 0.95, ago=ago)
    _, turn = asked_by(change, ["tidy"], kept=kept)
    assert turn.states == {"tidy": state}
    assert ("retention" in turn.texts["tidy"]) == (state is State.NO_DATA)
