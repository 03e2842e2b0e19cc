"""A steady load of batches and single predictions, which knows what was acknowledged, and counts it at the end."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any, NamedTuple
from uuid import uuid4

import psycopg2
from sqlalchemy import make_url

from support.service import Service

CALLERS, BATCH = 4, 20
PAUSE_S = 0.05
TIMEOUT = 120.0  # seconds, for what takes a few
REFUSALS = (429, 503)
STORED = "SELECT request_id::text, count(*) FROM prediction_log WHERE model_name = %s GROUP BY 1"


class Answer(NamedTuple):
    """One request, as its caller saw it; the status is None if no answer came."""

    caller: int
    began: float
    ended: float
    status: int | None
    retry_after: str | None


@dataclass
class Load:
    """Callers that send what they have until it is acknowledged, each with the request ids it had the first time."""

    model: str
    ports: Sequence[int]
    headers: dict[str, str] = field(default_factory=dict)
    padding: int = 0

    def __post_init__(self) -> None:
        self.sent: dict[str, bool] = {}
        self.acknowledged: set[str] = set()
        self.answers: list[Answer] = []
        self.strange: list[str] = []
        self.silences: Counter[str] = Counter()
        self._ending = threading.Event()
        self._hurry = threading.Event()
        self._threads = [threading.Thread(target=self._call, args=(n,), daemon=True) for n in range(CALLERS)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._hurry.set()
        for thread in self._threads:
            thread.join(TIMEOUT)

    def finish(self) -> None:
        """Begin nothing new, and wait until all that was sent is acknowledged."""
        self._ending.set()
        for thread in self._threads:
            thread.join(TIMEOUT)
        assert self.acknowledged == set(self.sent), f"not taken, though sent again and again: {self.answers[-8:]}"

    def go_on(self, seconds: float) -> None:
        """Let it run for a while, and until each caller has been served."""
        began = time.monotonic()
        time.sleep(seconds)
        self.wait_until(lambda: len(self._callers(began, lambda status: status == 200)) == CALLERS)

    def wait_until_refused(self, since: float) -> None:
        """Wait until each caller has been told, of a request that began after this moment, to come again later."""
        self.wait_until(lambda: len(self._callers(since, lambda status: status == 503)) == CALLERS)

    def wait_until(self, happened: Callable[[], bool]) -> None:
        until = time.monotonic() + TIMEOUT
        while not happened():
            assert time.monotonic() < until, self.answers[-8:]
            time.sleep(0.05)

    def served_again_after(self, moment: float) -> float:
        """Return the seconds from this moment until the last failed request, 0 if none failed."""
        troubled = [answer.ended for answer in self.answers if answer.status != 200 and answer.ended > moment]
        if not troubled:
            return 0.0
        served = [answer.ended for answer in self.answers if answer.status == 200 and answer.began > max(troubled)]
        return (min(served) if served else float("inf")) - moment

    def slowest_s(self) -> float:
        """How long a caller waited at most."""
        return max(answer.ended - answer.began for answer in self.answers)

    def _callers(self, since: float, fits: Callable[[int | None], bool]) -> set[int]:
        return {answer.caller for answer in list(self.answers) if answer.began >= since and fits(answer.status)}

    def _call(self, caller: int) -> None:
        chance, port = random.Random(caller), 0
        while not self._ending.is_set():
            records = [self._record(chance) for _ in range(BATCH if caller % 2 else 1)]
            path, body = ("predict-logs", records) if caller % 2 else ("predict-log", records[0])
            while not self._hurry.is_set():
                began = time.monotonic()
                status, retry_after, text = self._post(self.ports[port % len(self.ports)], f"/api/v1/{path}", body)
                self.answers.append(Answer(caller, began, time.monotonic(), status, retry_after))
                if status == 200:
                    self.acknowledged |= {record["request_id"] for record in records}
                    break
                if status is not None and (status not in REFUSALS or retry_after is None):
                    self.strange.append(f"{status}, Retry-After: {retry_after}: {text}")
                port += 1
                time.sleep(0.2)
            time.sleep(chance.expovariate(1 / PAUSE_S))

    def _record(self, chance: random.Random) -> dict[str, Any]:
        late = timedelta(minutes=chance.uniform(0, 180)) if chance.random() < 0.2 else timedelta()
        record: dict[str, Any] = {
            "model_name": self.model,
            "duration_ms": chance.lognormvariate(3, 1),
            "was_successful": chance.random() > 0.1,
            "timestamp": (datetime.now(timezone.utc) - late).isoformat(),
            "request_id": str(uuid4()),
            **({"error": "x" * self.padding} if self.padding else {}),
        }
        self.sent[record["request_id"]] = record["was_successful"]
        return record

    def _post(self, port: int, path: str, body: Any) -> tuple[int | None, str | None, str]:
        headers = {"Content-Type": "application/json", **self.headers}
        try:
            with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)) as connection:
                connection.request("POST", path, json.dumps(body), headers)
                response = connection.getresponse()
                return response.status, response.headers["Retry-After"], response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            self.silences[type(error).__name__] += 1
            return None, None, repr(error)


def count_again(
    name: str, load: Load, url: str, service: Service, since: float, headers: dict[str, str] | None = None
) -> None:
    """Compare acknowledged predictions with stored ones, and with /stats; `since` is the end of the fault.

    Prints a line of figures.
    """
    load.finish()
    stored = stored_ids(url, load.model)
    stats = statistics(service, load.model, headers)
    lost = load.acknowledged - set(stored)
    doubled = {id for id, times in stored.items() if times != 1}
    statuses = Counter(answer.status for answer in load.answers)
    again = load.served_again_after(since)
    refused = sum(statuses[status] for status in REFUSALS)
    print(
        f"\nFIGURES | {name} | {len(load.acknowledged)} | {refused} | {statuses[None]} | {len(lost)} | {len(doubled)} "
        f"| {again:.1f} | {load.slowest_s():.1f} |"
    )
    assert not load.strange, load.strange[:5]
    assert not lost
    assert not doubled
    assert set(stored) <= set(load.sent), "what nobody has sent"
    assert stats["total_requests"] == len(stored)
    assert stats["failed_requests"] == sum(not load.sent[id] for id in stored)
    assert again < TIMEOUT


def stored_ids(url: str, model: str) -> dict[str, int]:
    """How often each request id of the model is in the log."""
    with closing(connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute(STORED, (model,))
        return dict(cursor.fetchall())


def statistics(service: Service, model: str, headers: dict[str, str] | None = None) -> dict[str, Any]:
    """What /stats says of the model."""
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=TIMEOUT)) as connection:
        connection.request("GET", f"/api/v1/stats?model_name={model}", headers=headers or {})
        response = connection.getresponse()
        assert response.status == 200, response.read()
        return dict(json.load(response))


def connect(url: str) -> Any:
    """A connection past the service, in autocommit."""
    address = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = psycopg2.connect(address, connect_timeout=60)
    connection.autocommit = True
    return connection
