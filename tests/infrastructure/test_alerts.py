"""Alerts on real databases, told to a real HTTP receiver that fails."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, NamedTuple
from uuid import UUID, uuid4

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine

from app.application.alert_delivery import GIVE_UP_AFTER, Delivery, DeliveryFailed, backoff
from app.application.alerts import AlertKey, Alerts
from app.commands.extensions import ALERTS
from app.domain.alert_states import State
from app.domain.instants import MINUTE, floor
from app.infrastructure.alerts import store
from app.infrastructure.alerts.store import PostgresAlertStore
from app.infrastructure.alerts.webhooks import Webhook, Webhooks
from app.infrastructure.postgres.database import Database
from conftest import Server, make_app
from support.alerts import errors_of, forget_alerts, wait_longer, write_alerts
from support.receiver import HANG_UP, REDIRECT, STORE_AND_HANG_UP, Receiver, receiving
from support.summaries import prediction, summary

NOW = timedelta()


class Watch(NamedTuple):
    """One instance of a service that watches."""

    app: Flask
    alerts: Alerts
    delivery: Delivery


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as receiver:
        yield receiver


@pytest.fixture
def watch(
    server: Server, database: Engine, tmp_path: Path, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], Watch]]:
    """Make an instance with these rules, as the role that answers requests. What has failed waits until it may go."""
    monkeypatch.setattr("app.application.alert_delivery.INITIAL_BACKOFF", timedelta(minutes=10))
    if not server.concurrent:
        pytest.skip("one session for all: nobody can hold a lock while another one looks")
    forget_alerts(database)

    def watch(rules: str, **settings: Any) -> Watch:
        file = write_alerts(tmp_path, receiver, rules)
        app = make_app(server.service_url, alerts_file=file, public_url="https://logs.example.org", **settings)
        alerts, delivery, _ = app.extensions[ALERTS]
        return Watch(app, alerts, delivery)

    yield watch
    forget_alerts(database)


@pytest.fixture
def log_many(client: FlaskClient, model: str) -> Callable[..., None]:
    """Log so many predictions at once."""

    def log_many(number: int, *, was_successful: bool, name: str = model, **fields: str) -> None:
        record = {"model_name": name, "duration_ms": 1, "was_successful": was_successful, **fields}
        assert client.post("/api/v1/predict-logs", json=[record] * number).status_code == 200

    return log_many


@pytest.fixture
def fail(log_many: Callable[..., None]) -> Callable[[], None]:
    return lambda: log_many(20, was_successful=False)


@pytest.fixture
def recover(log_many: Callable[..., None]) -> Callable[[], None]:
    return lambda: log_many(400, was_successful=True)


def drop(client: FlaskClient, model: str, count: int) -> None:
    """Report that so many predictions were dropped just now."""
    minute = datetime.now(timezone.utc).replace(second=0, microsecond=0).isoformat()
    report = {"id": str(uuid4()), "model_name": model, "timestamp": minute, "reason": "queue_full", "count": count}
    assert client.post("/api/v1/dropped", json=[report]).status_code == 200


def told(watch: Watch) -> list[str]:
    return [event.state.value for event in watch.alerts.evaluate(NOW) or []]


def test_a_breach_is_told_once_with_what_was_measured_and_a_link(
    watch: Callable[[str], Watch], receiver: Receiver, fail: Callable[[], None], model: str
) -> None:
    instance = watch(errors_of(model))
    fail()
    assert told(instance) == ["firing"]
    assert told(instance) == []
    assert [instance.delivery.deliver(), instance.delivery.deliver()] == [1, 0]
    ((key, body),) = receiver.accepted
    assert UUID(key)
    text = body["text"]
    assert text.startswith(
        f"FIRING: errors, model {model}\nerror rate 100 % (20 of 20 predictions in 1 hour), limit 10 %"
    )
    assert f"https://logs.example.org/dashboard/model?model_name={model}&amp;from=" in text


def test_the_end_of_a_breach_is_told_too(
    watch: Callable[[str], Watch], receiver: Receiver, fail: Any, recover: Any, model: str
) -> None:
    instance = watch(errors_of(model))
    fail()
    recover_told = [told(instance)]
    recover()
    recover_told += [told(instance), told(instance)]
    assert recover_told == [["firing"], ["resolved"], []]
    assert instance.delivery.deliver() == 2
    assert receiver.texts == ["FIRING", "Resolved"]
    (measured,) = instance.alerts.measured()
    assert (measured.alert.state, measured.alert.told) == (State.RESOLVED, None)


MEASURES = (
    'measure = "error_rate"\nabove = 0.1\n',
    'measure = "silence"\n',
    'measure = "change"\nof = "error_rate"\nago = "5m"\n',
)


@pytest.mark.parametrize(("window", "second"), [("30s", 55), ("30s", 40), ("1m", 5), ("2m", 0), ("5m", 5)])
def test_a_model_whose_successes_are_summarised_measures_the_same_as_one_whose_predictions_all_come_whole(
    watch: Callable[[str], Watch], client: FlaskClient, model: str, monkeypatch: pytest.MonkeyPatch, window: str,
    second: int,
) -> None:  # fmt: skip
    now = floor(datetime.now(timezone.utc), MINUTE) - 5 * MINUTE + timedelta(seconds=second)
    whole, sampled = f"{model}-whole", f"{model}-sampled"
    records: list[dict[str, Any]] = []
    for minute in (floor(now, MINUTE) - MINUTE * number for number in range(12)):
        moments = [at for number in range(20) if (at := minute + timedelta(seconds=3 * number)) <= now]
        calls = {name: [prediction(name, at, was_successful=at.second % 30 > 0) for at in moments]
                 for name in (whole, sampled)}  # fmt: skip
        successes = [call for call in calls[sampled] if call["was_successful"]]
        records += calls[whole] + [call for call in calls[sampled] if not call["was_successful"]]
        records += [summary(successes)] if successes else []
    assert client.post("/api/v1/predict-logs", json=records).status_code == 200
    rule = f'models = ["{model}-*"]\nwindow = "{window}"\n'
    instance = watch("".join(f'[[rule]]\nname = "{n}"\n{rule}{measure}' for n, measure in enumerate(MEASURES)))
    monkeypatch.setattr(store, "TAKE_TURN", store.TAKE_TURN.replace("SELECT now()", f"SELECT timestamptz '{now}'"))
    told(instance)
    measured = {each.key: (each.value, each.text) for each in instance.alerts.measured()}
    for number in map(str, range(len(MEASURES))):
        assert measured[AlertKey(number, whole)] == measured[AlertKey(number, sampled)]
        assert measured[AlertKey(number, whole)][0] is not None


def test_a_breach_waits_for_as_long_as_the_rule_says_by_the_clock_of_the_database(
    watch: Callable[[str], Watch], database: Engine, fail: Any, model: str
) -> None:
    instance = watch(errors_of(model, 'for = "5m"'))
    fail()
    assert told(instance) == []
    (pending,) = instance.alerts.measured()
    assert pending.alert.state is State.PENDING
    with database.connect() as connection:
        connection.exec_driver_sql("UPDATE alert_state SET since = now() - INTERVAL '240 seconds'")
        assert told(instance) == []
        connection.exec_driver_sql("UPDATE alert_state SET since = now() - INTERVAL '300 seconds'")
        assert told(instance) == ["firing"]


def test_with_too_many_predictions_lost_it_says_so_instead_of_firing(
    watch: Callable[[str], Watch], client: FlaskClient, receiver: Receiver, fail: Any, model: str
) -> None:
    instance = watch(errors_of(model))
    fail()
    drop(client, model, 80)
    assert told(instance) == ["no data"]
    assert told(instance) == []
    instance.delivery.deliver()
    ((_, body),) = receiver.accepted
    assert body["text"].startswith(
        f"Cannot be measured: errors, model {model}\nonly 20 % of the predictions were logged"
    )


RULES_OF_A_CANARY = {
    "error_rate": 'measure = "error_rate"\nabove = 0.1\n',
    "change": 'measure = "change"\nof = "error_rate"\nagainst_version = "1"\n',
    "silence": 'measure = "silence"\n',
}


@pytest.mark.parametrize("measure", RULES_OF_A_CANARY)
def test_a_canary_is_watched_although_its_model_dropped_more_predictions_than_the_canary_has(
    watch: Callable[[str], Watch], client: FlaskClient, log_many: Any, model: str, measure: str
) -> None:
    instance = watch(
        f'[[rule]]\nname = "canary"\nmodels = ["{model}"]\nversion = "2"\nwindow = "1h"\nwebhooks = ["team"]\n'
        + RULES_OF_A_CANARY[measure]
    )
    log_many(900, was_successful=True, model_version="1")
    if measure != "silence":
        log_many(20, was_successful=False, model_version="2")
    drop(client, model, 50)
    assert told(instance) == ["firing"]
    drop(client, model, 900)
    assert told(instance) == []
    (measured,) = instance.alerts.measured()
    assert measured.alert.state is (State.FIRING if measure == "silence" else State.NO_DATA)


def test_that_too_many_are_missing_is_not_told_at_once_after_a_time_without_predictions(
    watch: Callable[[str], Watch], client: FlaskClient, database: Engine, model: str
) -> None:
    instance = watch(errors_of(model, 'for = "30m"'))
    assert told(instance) == []
    with database.connect() as connection:
        connection.exec_driver_sql("UPDATE alert_state SET since = since - INTERVAL '8 hours'")
    (idle,) = instance.alerts.measured()
    drop(client, model, 80)
    assert [told(instance), told(instance)] == [[], []]
    (unreliable,) = instance.alerts.measured()
    assert unreliable.alert.since == idle.alert.since, "since when there is no data"
    with database.connect() as connection:
        connection.exec_driver_sql("UPDATE alert_state SET unreliable_since = now() - INTERVAL '29 minutes'")
        assert told(instance) == []
        connection.exec_driver_sql("UPDATE alert_state SET unreliable_since = now() - INTERVAL '30 minutes'")
        assert told(instance) == ["no data"]


def test_each_model_that_fits_a_pattern_is_watched_by_itself(
    watch: Callable[[str], Watch], log_many: Any, model: str
) -> None:
    instance = watch(errors_of(f"{model}-*"))
    for name, works in ((f"{model}-a", False), (f"{model}-b", True), (f"{model}", False)):
        log_many(20, was_successful=works, name=name)
    assert told(instance) == ["firing"]
    assert {measured.key.model_name: measured.alert.state.value for measured in instance.alerts.measured()} == {
        f"{model}-a": "firing",
        f"{model}-b": "ok",
    }


def test_an_alert_of_a_model_that_was_purged_is_resolved(
    watch: Callable[[str], Watch], receiver: Receiver, client: FlaskClient, fail: Any, model: str
) -> None:
    instance = watch(errors_of(f"{model}*"))
    fail()
    assert told(instance) == ["firing"]
    assert client.delete("/api/v1/predictions", query_string={"model_name": model}).status_code == 200
    assert [told(instance), told(instance)] == [["resolved"], []]
    assert instance.delivery.deliver() == 2
    assert receiver.texts == ["FIRING", "Resolved"]


def test_an_alert_of_a_model_that_its_rule_does_not_name_any_more_is_resolved(
    watch: Callable[[str], Watch], database: Engine, fail: Any, model: str
) -> None:
    fail()
    assert told(watch(errors_of(model))) == ["firing"]
    instance = watch(errors_of(f"{model}-other"))
    assert told(instance) == ["resolved"]
    (event, _) = instance.alerts.history()
    assert event.text == "the rule does not watch this model any more"
    with database.connect() as connection:
        connection.exec_driver_sql("UPDATE alert_state SET since = since - INTERVAL '61 minutes'")
    assert told(instance) == []
    assert {measured.alert.state for measured in instance.alerts.measured()} <= {State.OK, State.NO_DATA}


@pytest.mark.parametrize("mood", [500, 404, HANG_UP, REDIRECT, 429])
def test_a_message_that_is_not_accepted_is_sent_again_later_with_the_same_id(
    watch: Callable[[str], Watch], receiver: Receiver, database: Engine, fail: Any, model: str, mood: int | str
) -> None:
    instance = watch(errors_of(model))
    fail()
    told(instance)
    receiver.moods = [mood, mood]
    assert instance.delivery.deliver() == 0
    assert instance.delivery.deliver() == 0 and len(receiver.attempts) == 1, "not before its time"
    for _ in range(2):
        wait_longer(database)
        instance.delivery.deliver()
    assert len(receiver.attempts) == 3 and len(set(receiver.attempts)) == 1
    assert len(receiver.accepted) == 1
    (event,) = instance.alerts.history()
    (message,) = event.messages
    assert (message.attempts, message.problem) == (3, None) and message.delivered_at


def test_if_the_answer_is_lost_the_receiver_can_tell_the_repetition_by_its_id(
    watch: Callable[[str], Watch], receiver: Receiver, database: Engine, fail: Any, model: str
) -> None:
    instance = watch(errors_of(model))
    fail()
    told(instance)
    receiver.moods = [STORE_AND_HANG_UP]
    assert instance.delivery.deliver() == 0
    wait_longer(database)
    assert instance.delivery.deliver() == 1
    assert len(receiver.accepted) == 2 and len({key for key, _ in receiver.accepted}) == 1


def test_a_webhook_that_fails_is_tried_once_a_round_and_holds_up_no_other(
    watch: Callable[[str], Watch], receiver: Receiver, log_many: Any, model: str
) -> None:
    other = f'[[webhook]]\nname = "other"\nurl = "{receiver.url}"\n'
    rule = errors_of(f"{model}-*")
    instance = watch(other + rule + rule.replace('"errors"', '"others"').replace('["team"]', '["other"]'))
    for number in range(3):
        log_many(20, was_successful=False, name=f"{model}-{number}")
    assert len(told(instance)) == 6
    receiver.moods = [HANG_UP] * 2
    assert instance.delivery.deliver() == 0
    assert len(receiver.attempts) == 2, "one message to each"
    receiver.moods = [HANG_UP]
    assert instance.delivery.deliver() == 2
    assert len(receiver.attempts) == 5


def test_that_it_is_over_is_not_told_before_that_it_began(
    watch: Callable[[str], Watch], receiver: Receiver, database: Engine, fail: Any, recover: Any, model: str
) -> None:
    instance = watch(errors_of(model))
    fail()
    told(instance)
    receiver.moods = [503]
    instance.delivery.deliver()
    recover()
    assert told(instance) == ["resolved"]
    assert instance.delivery.deliver() == 0
    wait_longer(database)
    assert instance.delivery.deliver() == 2
    assert receiver.texts == ["FIRING", "Resolved"]


def test_a_message_is_given_up_after_a_day_and_that_can_be_seen(
    watch: Callable[[str], Watch], receiver: Receiver, database: Engine, fail: Any, model: str
) -> None:
    instance = watch(errors_of(model))
    fail()
    told(instance)
    with database.connect() as connection:
        connection.exec_driver_sql("UPDATE alert_message SET created_at = now() - %s", (GIVE_UP_AFTER,))
    receiver.moods = [500]
    instance.delivery.deliver()
    wait_longer(database)
    assert instance.delivery.deliver() == 0 and len(receiver.attempts) == 1
    (message,) = instance.alerts.history()[0].messages
    assert message.given_up_at and message.problem == "It answered 500."


def test_instances_that_evaluate_and_send_at_once_tell_once(
    watch: Callable[[str], Watch], receiver: Receiver, fail: Any, model: str
) -> None:
    instances = [watch(errors_of(model)) for _ in range(4)]
    fail()
    receiver.delay_s = 1.0
    events: list[Any] = []
    together = threading.Barrier(len(instances))

    def work(instance: Watch) -> None:
        together.wait()
        events.extend(instance.alerts.evaluate(NOW) or [])
        together.wait()
        instance.delivery.deliver()

    threads = [threading.Thread(target=work, args=(instance,)) for instance in instances]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(events) == len(receiver.attempts) == len(receiver.accepted) == 1


def test_while_one_instance_evaluates_no_other_one_does(watch: Callable[[str], Watch], model: str) -> None:
    one, other = watch(errors_of(model)), watch(errors_of(model))
    with one.alerts._store.turn(NOW) as turn:
        assert turn is not None
        assert other.alerts.evaluate(NOW) is None
    assert other.alerts.evaluate(NOW) == []
    assert one.alerts.evaluate(timedelta(hours=1)) is None, "it was done just now"


def test_an_uncommitted_evaluation_was_neither_measured_nor_told(
    watch: Callable[[str], Watch], receiver: Receiver, fail: Any, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = watch(errors_of(model))
    fail()
    keep = "app.infrastructure.alerts.store.PostgresTurn.keep"

    def keep_and_die(*arguments: Any) -> None:
        original(*arguments)
        raise ZeroDivisionError

    from app.infrastructure.alerts.store import PostgresTurn

    original = PostgresTurn.keep
    monkeypatch.setattr(keep, keep_and_die)
    with pytest.raises(ZeroDivisionError):
        instance.alerts.evaluate(NOW)
    monkeypatch.undo()
    assert instance.alerts.measured() == [] and instance.delivery.deliver() == 0
    assert told(instance) == ["firing"], "the lock was given back"


def test_a_rule_that_cannot_be_measured_keeps_its_state_and_hinders_no_other(
    watch: Callable[[str], Watch], fail: Any, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from app.domain.errors import StorageUnavailable

    instance = watch(errors_of(model) + errors_of(model).replace('"errors"', '"others"'))
    fail()
    ask = instance.alerts._ask
    questions: list[Any] = []

    def ask_but_once(question: Any) -> Any:
        questions.append(question)
        if len(questions) == 1:
            raise StorageUnavailable("away")
        return ask(question)

    monkeypatch.setattr(instance.alerts, "_ask", ask_but_once)
    events = instance.alerts.evaluate(NOW) or []
    assert [event.key.rule for event in events] == ["others"]


def test_a_rule_that_fails_by_a_mistake_hinders_no_other(
    watch: Callable[[str], Watch], fail: Any, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    instance = watch(errors_of(model).replace('"error_rate"', '"silence"').replace("above = 0.1\n", "").replace(
        '"errors"', '"quiet"') + errors_of(model))  # fmt: skip
    fail()
    monkeypatch.setattr("app.domain.alert_measures.Silence.judge", lambda *_: 1 // 0)
    assert told(instance) == ["firing"]


def test_a_ratio_that_no_number_can_hold_is_told_without_one(
    watch: Callable[[str], Watch], client: FlaskClient, receiver: Receiver, model: str
) -> None:
    rule = (
        f'[[rule]]\nname = "slower"\nmodels = ["{model}"]\nmeasure = "change"\nof = "percentile"\npercentile = 50\n'
        'version = "2"\nagainst_version = "1"\nwindow = "1h"\nabove = 1.5\nwebhooks = ["team"]\n'
    )
    instance = watch(rule)
    for version, duration in (("1", 1e-100), ("2", 1e292)):
        record = {"model_name": model, "model_version": version, "duration_ms": duration, "was_successful": True}
        assert client.post("/api/v1/predict-logs", json=[record] * 50).status_code == 200
    assert told(instance) == ["firing"]
    assert instance.delivery.deliver() == 1
    assert [measured.value for measured in instance.alerts.measured()] == [None]


def test_no_secret_of_a_webhook_is_written_to_the_log_or_the_database(
    watch: Callable[[str], Watch], receiver: Receiver, server: Server, database: Engine, fail: Any, model: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    instance = watch(errors_of(model))
    fail()
    told(instance)
    for mood in (500, HANG_UP):
        receiver.moods = [mood]
        wait_longer(database)
        instance.delivery.deliver()
    receiver.shutdown()
    receiver.server_close()
    wait_longer(database)
    instance.delivery.deliver()
    said = capsys.readouterr()
    assert "message not sent" in said.err and "No connection: ConnectionRefusedError." in said.err
    assert "s3cret" not in said.out + said.err
    with database.connect() as connection:
        for name in ("alert_state", "alert_event", "alert_message"):
            assert "s3cret" not in str(connection.exec_driver_sql(f"SELECT * FROM {name}").fetchall())


def test_unwatched_models_are_forgotten_and_old_history_too(
    watch: Callable[[str], Watch], database: Engine, fail: Any, model: str
) -> None:
    instance = watch(errors_of(model))
    fail()
    told(instance)
    with database.connect() as connection:
        connection.exec_driver_sql("UPDATE alert_state SET rule = 'old', evaluated_at = now() - INTERVAL '8 days'")
        connection.exec_driver_sql("UPDATE alert_event SET at = now() - INTERVAL '91 days'")
    assert told(instance) == ["firing"]
    assert [measured.key.rule for measured in instance.alerts._store.measured()] == ["errors"]
    assert len(instance.alerts.history()) == 1


def test_names_that_sql_and_slack_would_take_for_commands_are_only_names(
    watch: Callable[[str], Watch], receiver: Receiver, log_many: Any, model: str
) -> None:
    hostile = f"<!channel> %s '{model}' & $rule"
    instance = watch(errors_of(f"*{model}*"))
    log_many(20, was_successful=False, name=hostile)
    assert told(instance) == ["firing"]
    instance.delivery.deliver()
    ((_, body),) = receiver.accepted
    assert "<!channel>" not in body["text"] and f"&lt;!channel&gt; %s '{model}' &amp; $rule" in body["text"]


def test_alerts_go_on_at_once_if_the_clock_of_the_database_is_set_back(
    watch: Callable[[str], Watch], receiver: Receiver, database: Engine, fail: Any, model: str
) -> None:
    instance = watch(errors_of(model, 'for = "5m"'))
    fail()
    assert told(instance) == []
    with database.connect() as connection:
        connection.exec_driver_sql("UPDATE alert_evaluation SET evaluated_at = now() + INTERVAL '59 minutes'")
        connection.exec_driver_sql("UPDATE alert_state SET since = now() + INTERVAL '59 minutes'")
        assert instance.alerts.evaluate(timedelta(seconds=30)) == []
        assert instance.alerts.evaluate(timedelta(seconds=30)) is None, "the clock is right again"
        connection.exec_driver_sql("UPDATE alert_state SET since = since - INTERVAL '5 minutes'")
        assert told(instance) == ["firing"]
        connection.exec_driver_sql("UPDATE alert_message SET next_try_at = next_try_at + INTERVAL '59 minutes'")
        receiver.moods = [500]
        assert instance.delivery.deliver() == 0 and len(receiver.attempts) == 1
        connection.exec_driver_sql("UPDATE alert_message SET next_try_at = next_try_at + INTERVAL '1 hour'")
        assert instance.delivery.deliver() == 1


def test_an_evaluation_that_began_earlier_than_another_one_does_not_follow_it_at_once(
    watch: Callable[[str], Watch], model: str
) -> None:
    one, other = watch(errors_of(model)), watch(errors_of(model))
    assert isinstance(one.alerts._store, PostgresAlertStore)
    with one.alerts._store._database.write_transaction() as connection:
        connection.exec_driver_sql("SELECT 1")
        assert other.alerts.evaluate(NOW) == []
        taken = connection.exec_driver_sql(store.TAKE_TURN, {"every": timedelta(seconds=30)})
        assert taken.one_or_none() is None


def test_a_webhook_that_answers_byte_by_byte_is_left_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.infrastructure.alerts.webhooks.TIMEOUT_S", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, suppress(OSError):
                connection.recv(65_536)
                connection.sendall(b"HTTP/1.1 200 OK\r\nX: ")
                for _ in range(20):
                    connection.sendall(b"x")
                    time.sleep(0.1)
                connection.sendall(b"\r\nContent-Length: 0\r\n\r\n")

        thread = threading.Thread(target=answer)
        thread.start()
        webhook = Webhook("team", f"http://127.0.0.1:{server.getsockname()[1]}/", {})
        with pytest.raises(DeliveryFailed, match="No answer: TimeoutError"):
            Webhooks([webhook], None).send("team", uuid4(), "{}")
        thread.join()


def test_the_server_does_not_end_the_transaction_of_a_message_that_takes_long(
    watch: Callable[[str], Watch], database: Engine, receiver: Receiver, fail: Any, model: str
) -> None:
    instance = watch(errors_of(model))
    fail()
    assert told(instance) == ["firing"]
    with database.connect() as connection:
        name = connection.exec_driver_sql("SELECT quote_ident(current_database())").scalar_one()
        connection.exec_driver_sql(f"ALTER DATABASE {name} SET idle_in_transaction_session_timeout = '200ms'")
    try:
        receiver.delay_s = 1.0
        slow = watch(errors_of(model))
        assert slow.delivery.deliver() == 1
    finally:
        with database.connect() as connection:
            connection.exec_driver_sql(f"ALTER DATABASE {name} RESET idle_in_transaction_session_timeout")
    assert len(receiver.attempts) == 1


def test_the_wait_between_attempts_doubles_up_to_a_limit() -> None:
    waits = [backoff(attempts).total_seconds() for attempts in range(40)]
    assert 5 <= waits[0] < 5.6 and 10 <= waits[1] < 11.1 and 900 <= waits[39] < 991


def test_a_database_that_is_away_is_said_to_be_so(server: Server) -> None:
    from app.domain.errors import StorageUnavailable
    from support.scratch import url_where_nobody_listens

    store = PostgresAlertStore(Database(url_where_nobody_listens()))
    with pytest.raises(StorageUnavailable), store.turn(NOW):
        pass
