"""Alerts in PostgreSQL: their states, their events, and the messages that wait to be sent.

The lock of a row decides which process works. The lock ends with its transaction, also if the process dies.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta, timezone
from typing import Any
from uuid import UUID

from psycopg2.extras import Json
from sqlalchemy import Connection

from app.application.alerts import AlertKey, Event, Measured, Message, PastEvent, Told
from app.domain.alert_states import Alert, State
from app.infrastructure.alerts.webhooks import MAX_RETRY_AFTER
from app.infrastructure.postgres.database import Database, Row

# If the clock was set back, moments that it has not reached again are taken for now: nothing waits for them.
# clock_timestamp() is compared, because an evaluation may have begun after this transaction and be over already.
TAKE_TURN = """
SELECT now() FROM alert_evaluation
WHERE  evaluated_at <= now() - %(every)s OR evaluated_at > clock_timestamp()
FOR    UPDATE SKIP LOCKED
"""
END_TURN = "UPDATE alert_evaluation SET evaluated_at = now()"
STATES = """
SELECT rule, model_name, state, least(since, now()), told,
       CASE WHEN unreliable_since IS NOT NULL THEN least(unreliable_since, now()) END
FROM   alert_state
"""
MODELS = "SELECT DISTINCT model_name FROM prediction_model"
MEASURED = """
SELECT rule, model_name, state, since, told, unreliable_since, value, measured, evaluated_at
FROM   alert_state
ORDER  BY rule, model_name
"""
KEEP_STATES = """
INSERT INTO alert_state (rule, model_name, state, since, told, unreliable_since, value, measured, evaluated_at)
SELECT rule, model_name, state, since, told, unreliable_since, value, measured, now()
FROM   json_to_recordset(%(alerts)s) AS alert
       (rule text, model_name text, state text, since timestamptz, told text, unreliable_since timestamptz,
        value double precision, measured text)
ON CONFLICT (rule, model_name) DO UPDATE
SET    state = excluded.state, since = excluded.since, told = excluded.told,
       unreliable_since = excluded.unreliable_since, value = excluded.value, measured = excluded.measured,
       evaluated_at = excluded.evaluated_at
"""
# States of rules and models that are not watched any more, and old events.
FORGET = (
    "DELETE FROM alert_state WHERE evaluated_at < now() - INTERVAL '7 days'",
    "DELETE FROM alert_event WHERE at < now() - INTERVAL '90 days'",
)
ADD_EVENT = """
INSERT INTO alert_event (rule, model_name, state, value, measured, at)
VALUES (%(rule)s, %(model_name)s, %(state)s, %(value)s, %(measured)s, now())
RETURNING id
"""
ADD_MESSAGE = """
INSERT INTO alert_message (event_id, rule, model_name, webhook, body)
VALUES (%(event_id)s, %(rule)s, %(model_name)s, %(webhook)s, %(body)s)
"""
# A message waits for the earlier messages of the same alert to the same webhook. The first attempt needs no wait, and
# no wait is longer than `longest`: if the clock was set back, a message does not wait until it is right again.
TAKE_MESSAGE = """
SELECT id, webhook, body, attempts, now() - created_at
FROM   alert_message m
WHERE  delivered_at IS NULL AND given_up_at IS NULL
  AND  (attempts = 0 OR next_try_at <= now() OR next_try_at > now() + %(longest)s)
  AND  webhook <> ALL (%(but_not_to)s::text[]) AND NOT EXISTS (
    SELECT FROM alert_message e
    WHERE  e.delivered_at IS NULL AND e.given_up_at IS NULL AND e.event_id < m.event_id
      AND  e.webhook = m.webhook AND e.rule = m.rule AND e.model_name = m.model_name
)
ORDER  BY event_id, webhook
LIMIT  1
FOR    UPDATE SKIP LOCKED
"""
DELIVERED = """
UPDATE alert_message SET delivered_at = clock_timestamp(), attempts = attempts + 1, problem = NULL WHERE id = %(id)s
"""
FAILED = """
UPDATE alert_message
SET    attempts = attempts + 1, problem = %(problem)s, next_try_at = clock_timestamp() + %(retry_in)s
WHERE  id = %(id)s
"""
GIVEN_UP = """
UPDATE alert_message SET attempts = attempts + 1, problem = %(problem)s, given_up_at = clock_timestamp()
WHERE  id = %(id)s
"""
HISTORY = """
SELECT id, rule, model_name, state, value, measured, at,
       (SELECT json_agg(json_build_object('webhook', webhook, 'id', id, 'attempts', attempts, 'problem', problem,
                                          'delivered_at', delivered_at, 'given_up_at', given_up_at) ORDER BY webhook)
        FROM   alert_message m WHERE m.event_id = e.id)
FROM   alert_event e
WHERE  (%(models)s::text[] IS NULL OR model_name = ANY (%(models)s::text[]))
  AND  (%(rule)s::text IS NULL OR rule = %(rule)s) AND (%(before)s::bigint IS NULL OR id < %(before)s)
ORDER  BY id DESC
LIMIT  %(limit)s
"""


class PostgresAlertStore:
    """The tables alert_state, alert_event and alert_message."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @contextmanager
    def turn(self, every: timedelta) -> Iterator[PostgresTurn | None]:
        """Lend the right to evaluate during the block; None if another process has it or had it just now."""
        with self._database.write_transaction() as connection:
            taken = connection.exec_driver_sql(TAKE_TURN, {"every": every}).one_or_none()
            if taken is None:
                yield None
                return
            yield PostgresTurn(connection, taken[0].astimezone(timezone.utc))
            connection.exec_driver_sql(END_TURN)

    @contextmanager
    def due(self, but_not_to: Collection[str] = ()) -> Iterator[PostgresMessage | None]:
        """Lend a due message, which no other process sends meanwhile; None if there is none.

        Messages to the webhooks `but_not_to` are left out.
        """
        with self._database.write_transaction() as connection:
            values = {"but_not_to": list(but_not_to), "longest": MAX_RETRY_AFTER}
            taken = connection.exec_driver_sql(TAKE_MESSAGE, values).one_or_none()
            yield None if taken is None else PostgresMessage(connection, *taken)

    def measured(self) -> Sequence[Measured]:
        """Return the latest measurement of each alert."""
        return [Measured(AlertKey(*row[:2]), _alert(row[2:6]), *row[6:]) for row in self._database.read(MEASURED)]

    def model_names(self) -> Sequence[str]:
        """Return the names of all models that were ever logged."""
        return [name for (name,) in self._database.read(MODELS)]

    def history(
        self, model_names: Sequence[str], rule: str | None, before: int | None, limit: int
    ) -> Sequence[PastEvent]:
        """Return past events, the latest first."""
        values = {"models": list(model_names) or None, "rule": rule, "before": before, "limit": limit}
        return [
            PastEvent(
                id, AlertKey(rule, model), State(state), value, text, at, [_told(each) for each in messages or ()]
            )
            for id, rule, model, state, value, text, at, messages in self._database.read(HISTORY, values)
        ]


class PostgresTurn:
    """One evaluation, in the transaction that has locked the row."""

    def __init__(self, connection: Connection, now: datetime) -> None:
        self._connection = connection
        self.now = now

    def alerts(self) -> Mapping[AlertKey, Alert]:
        """Return the states that the last evaluation kept."""
        rows = self._connection.exec_driver_sql(STATES).fetchall()
        return {AlertKey(*row[:2]): _alert(row[2:]) for row in rows}

    def model_names(self) -> Sequence[str]:
        """Return the names of all models that were ever logged."""
        return [name for (name,) in self._connection.exec_driver_sql(MODELS)]

    def keep(self, alerts: Sequence[Measured], events: Sequence[tuple[Event, Sequence[Message]]]) -> None:
        """Keep the alerts, the events, and their messages."""
        self._connection.exec_driver_sql(KEEP_STATES, {"alerts": Json([_written(each) for each in alerts])})
        for event, messages in events:
            values: dict[str, Any] = {**event.key._asdict(), "state": event.state.value, "value": event.value}
            event_id = self._connection.exec_driver_sql(ADD_EVENT, values | {"measured": event.text}).scalar_one()
            for message in messages:
                written = {**event.key._asdict(), "event_id": event_id, **vars(message)}
                self._connection.exec_driver_sql(ADD_MESSAGE, written)
        for statement in FORGET:
            self._connection.exec_driver_sql(statement)


class PostgresMessage:
    """A message in the transaction that has locked it."""

    def __init__(
        self, connection: Connection, message_id: UUID, webhook: str, body: str, attempts: int, age: timedelta
    ) -> None:
        self._connection = connection
        self.id, self.webhook, self.body, self.attempts, self.age = UUID(str(message_id)), webhook, body, attempts, age

    def delivered(self) -> None:
        """Keep that the webhook has accepted the message."""
        self._connection.exec_driver_sql(DELIVERED, {"id": str(self.id)})

    def failed(self, reason: str, retry_in: timedelta | None) -> None:
        """Keep the reason of a failure; the message is given up if `retry_in` is None."""
        values = {"id": str(self.id), "problem": reason, "retry_in": retry_in}
        self._connection.exec_driver_sql(GIVEN_UP if retry_in is None else FAILED, values)


def _alert(row: Row) -> Alert:
    state, since, told, unreliable_since = row
    return Alert(
        State(state),
        since.astimezone(timezone.utc),
        told and State(told),
        unreliable_since and unreliable_since.astimezone(timezone.utc),
    )


def _written(measured: Measured) -> dict[str, Any]:
    alert = measured.alert
    return {
        **measured.key._asdict(),
        "state": alert.state.value,
        "since": alert.since.isoformat(),
        "told": alert.told and alert.told.value,
        "unreliable_since": alert.unreliable_since and alert.unreliable_since.isoformat(),
        "value": measured.value,
        "measured": measured.text,
    }


def _told(message: Mapping[str, Any]) -> Told:
    moments = {
        name: message[name] and datetime.fromisoformat(message[name]) for name in ("delivered_at", "given_up_at")
    }
    return Told(message["webhook"], UUID(message["id"]), message["attempts"], problem=message["problem"], **moments)
