"""Measure the rules of the alerts, and keep the state of each alert."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple, Protocol
from uuid import UUID

from app.application.statistics import Answer, Question
from app.domain.alert_measures import Outcome, Sample, Verdict
from app.domain.alert_rules import Rule
from app.domain.alert_states import Alert, State, step
from app.domain.instants import TimeRange
from app.domain.statistics import Selection, Tally

# Of one rule, the first ones by their names.
MAX_MODELS = 1000
NOTHING = Tally()
# How much longer one of two compared windows may be than the other.
MAX_WIDENING = 1.1
UNEQUAL = Verdict(
    Outcome.UNKNOWN,
    None,
    "retention has left only whole hours or days of the earlier time, which are longer than the window",
)
# Its models were purged, or its patterns changed.
UNWATCHED = Verdict(Outcome.FINE, None, "the rule does not watch this model any more")


class AlertKey(NamedTuple):
    """An alert belongs to one rule and one model."""

    rule: str
    model_name: str


@dataclass(frozen=True)
class Measured:
    """An alert with its latest measurement."""

    key: AlertKey
    alert: Alert
    value: float | None
    text: str
    at: datetime


@dataclass(frozen=True)
class Event:
    """A change of an alert that is worth a message: the alert fires, is resolved, or cannot be measured."""

    key: AlertKey
    state: State
    value: float | None
    text: str
    at: datetime
    condition: str
    window: TimeRange


@dataclass(frozen=True)
class Message:
    """The body of the request to one webhook about an event."""

    webhook: str
    body: str


class Told(NamedTuple):
    """The state of one message of an event; `problem` says why the webhook did not accept the last attempt."""

    webhook: str
    id: UUID
    attempts: int
    delivered_at: datetime | None
    given_up_at: datetime | None
    problem: str | None


@dataclass(frozen=True)
class PastEvent:
    """An event of the history, with the states of its messages."""

    id: int
    key: AlertKey
    state: State
    value: float | None
    text: str
    at: datetime
    messages: Sequence[Told]


class Turn(Protocol):
    """One evaluation, in one transaction; while it lasts no other process evaluates."""

    now: datetime
    """The database's clock: those of the processes may differ."""

    def alerts(self) -> Mapping[AlertKey, Alert]: ...

    def model_names(self) -> Sequence[str]: ...

    def keep(self, alerts: Sequence[Measured], events: Sequence[tuple[Event, Sequence[Message]]]) -> None: ...


class AlertStore(Protocol):
    """The store of states and events."""

    def turn(self, every: timedelta) -> AbstractContextManager[Turn | None]: ...

    def measured(self) -> Sequence[Measured]: ...

    def model_names(self) -> Sequence[str]: ...

    def history(
        self, model_names: Sequence[str], rule: str | None, before: int | None, limit: int
    ) -> Sequence[PastEvent]: ...


class Alerts:
    """The rules, and the states of their alerts."""

    def __init__(
        self,
        rules: Sequence[Rule],
        store: AlertStore,
        ask: Callable[[Question], Answer],
        messages: Callable[[Event, Sequence[str]], Sequence[Message]],
        every: timedelta,
        failed: Callable[[str, Exception], None] = lambda rule, error: None,
        left_out: Callable[[str, int], None] = lambda rule, number: None,
    ) -> None:
        """`ask` answers questions; `messages` writes messages.

        `failed` is called for each rule that has no answer, and `left_out` for each that matches more than MAX_MODELS,
        when the number of those that it leaves out has changed.
        """
        self.rules = rules
        self._store = store
        self._ask = ask
        self._messages = messages
        self.every = every
        self._failed = failed
        self._left_out = left_out
        self._told_left_out: dict[str, int] = {}

    def evaluate(self, every: timedelta | None = None) -> list[Event] | None:
        """Measure all rules and return the new events; None if the last evaluation was less than `every` ago.

        One transaction keeps the states, the events and their messages; Delivery sends the messages later. The alerts
        of a rule whose predictions cannot be counted keep their states; those of models that a rule does not watch any
        more are resolved. Raises StorageUnavailable.
        """
        with self._store.turn(self.every if every is None else every) as turn:
            if turn is None:
                return None
            known = turn.model_names() if self._has_patterns else ()
            before = turn.alerts()
            measured, events = list[Measured](), list[tuple[Event, Sequence[Message]]]()
            for rule in self.rules:
                try:
                    judged = dict(self._judge(rule, known, turn.now))
                except Exception as error:  # even a bug in one rule must not silence the other rules
                    self._failed(rule.name, error)
                    continue
                judged |= dict.fromkeys(_unwatched(rule, before, judged), UNWATCHED)
                for model_name, verdict in judged.items():
                    key = AlertKey(rule.name, model_name)
                    alert, told = step(
                        before.get(key) or Alert(State.OK, turn.now), verdict.outcome, turn.now, rule.hold
                    )
                    measured.append(Measured(key, alert, verdict.value, verdict.text, turn.now))
                    if told:
                        event = _event(key, told, verdict, rule, turn.now)
                        events.append((event, self._messages(event, rule.webhooks)))
            turn.keep(measured, events)
            return [event for event, _ in events]

    def measured(self) -> Sequence[Measured]:
        """Return the latest measurement of each alert whose rule still exists."""
        names = {rule.name for rule in self.rules}
        return [measured for measured in self._store.measured() if measured.key.rule in names]

    def left_out(self) -> Mapping[str, int]:
        """Return by rule how many models match it that it does not watch, because they are more than MAX_MODELS."""
        known = self._store.model_names() if self._has_patterns else ()
        return {rule.name: max(len(rule.watched(known)) - MAX_MODELS, 0) for rule in self.rules}

    @property
    def _has_patterns(self) -> bool:
        return any(rule.has_patterns for rule in self.rules)

    def history(
        self, model_names: Sequence[str] = (), rule: str | None = None, before: int | None = None, limit: int = 100
    ) -> Sequence[PastEvent]:
        """Return past events, the latest first: of these models (any if none), and with ids below `before`."""
        return self._store.history(model_names, rule, before, limit)

    def _judge(self, rule: Rule, known: Sequence[str], now: datetime) -> Iterator[tuple[str, Verdict]]:
        watched = rule.watched(known)
        self._tell_left_out(rule.name, max(len(watched) - MAX_MODELS, 0))
        models = watched[:MAX_MODELS]
        if not models:
            return
        samples = rule.measure.samples(now, rule.model_version)
        answered = [self._answer(sample, models, latency=rule.measure.needs_latency) for sample in samples]
        lengths = [answer.range.length for answer in answered]
        if rule.measure.compares_windows and max(lengths) > MAX_WIDENING * min(lengths):
            yield from ((model_name, UNEQUAL) for model_name in models)
            return
        answers = [_by_model(answer) for answer in answered]
        all_versions = [self._all_versions(sample, answer) for sample, answer in zip(samples, answers)]
        for model_name in models:
            tallies = [answer.get(model_name, NOTHING) for answer in answers]
            yield model_name, rule.judge(tallies, [answer.get(model_name, NOTHING) for answer in all_versions])

    def _tell_left_out(self, rule: str, number: int) -> None:
        if number != self._told_left_out.get(rule, 0):
            self._told_left_out[rule] = number
            self._left_out(rule, number)

    def _answer(self, sample: Sample, models: Sequence[str], *, latency: bool) -> Answer:
        selection = Selection(tuple(models), sample.model_version)
        return self._ask(Question(selection, sample.range, ("model_name",), latency=latency))

    def _all_versions(self, sample: Sample, tallies: Mapping[str, Tally]) -> Mapping[str, Tally]:
        """Return the tallies with all versions of each model of which clients dropped predictions.

        The dropped ones are known by model, not by version, so only together with all versions they tell a share.
        """
        models = [model_name for model_name, tally in tallies.items() if tally.dropped]
        if sample.model_version is None or not models:
            return tallies
        return {**tallies, **_by_model(self._answer(Sample(sample.range), models, latency=False))}


def _by_model(answer: Answer) -> Mapping[str, Tally]:
    return {str(key.model_name): tally for key, tally in answer.tallies.items()}


def _unwatched(rule: Rule, alerts: Mapping[AlertKey, Alert], watched: Collection[str]) -> Sequence[str]:
    """Return the models of the rule's alerts that are not OK and that nobody measures."""
    return [
        model_name
        for (name, model_name), alert in alerts.items()
        if name == rule.name and model_name not in watched and alert.state is not State.OK
    ]


def _event(key: AlertKey, told: State, verdict: Verdict, rule: Rule, now: datetime) -> Event:
    window = rule.measure.samples(now, rule.model_version)[0].range
    return Event(key, told, verdict.value, verdict.text, now, rule.measure.condition, window)
