"""Send the messages of alerts until their webhooks have accepted them."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Protocol
from uuid import UUID

INITIAL_BACKOFF = timedelta(seconds=5)
MAX_BACKOFF = timedelta(minutes=15)
GIVE_UP_AFTER = timedelta(hours=24)
MAX_AT_ONCE = 100


class DeliveryFailed(Exception):
    """A webhook has not accepted a message; the text says why and has no secret in it.

    `retry_after` is how long the webhook asks the sender to wait.
    """

    def __init__(self, reason: str, retry_after: timedelta | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class Waiting(Protocol):
    """A message that is due; while this process holds it no other process sends it."""

    id: UUID
    webhook: str
    body: str
    attempts: int
    age: timedelta

    def delivered(self) -> None: ...

    def failed(self, reason: str, retry_in: timedelta | None) -> None:
        """Keep the reason; the message is given up if `retry_in` is None."""
        ...


class Outbox(Protocol):
    """The messages, which the evaluation committed together with the states of the alerts."""

    def due(self, but_not_to: Collection[str] = ()) -> AbstractContextManager[Waiting | None]: ...


class Delivery:
    """Sends messages in the order of their events; the messages of one alert to one webhook go one after the other.

    A message is sent at least once. It is sent again if the webhook did not answer 2xx, or if the process died between
    the answer and its commit. The id of the message stays the same, so the receiver can recognise a repetition.
    """

    def __init__(
        self,
        outbox: Outbox,
        send: Callable[[str, UUID, str], None],
        failed: Callable[[str, str], None] = lambda webhook, reason: None,
    ) -> None:
        """`send` takes a webhook's name, the message's id and its body; it raises DeliveryFailed."""
        self._outbox = outbox
        self._send = send
        self._failed = failed

    def deliver(self, go_on: Callable[[], bool] = lambda: True) -> int:
        """Send the due messages, as long as `go_on` returns true; return how many of them were accepted.

        A webhook that fails gets no more messages this time, because each may take its full timeout.
        """
        accepted = 0
        failed: set[str] = set()
        for _ in range(MAX_AT_ONCE):
            if not go_on():
                break
            with self._outbox.due(failed) as message:
                if message is None:
                    break
                if self._deliver(message):
                    accepted += 1
                else:
                    failed.add(message.webhook)
        return accepted

    def _deliver(self, message: Waiting) -> bool:
        try:
            self._send(message.webhook, message.id, message.body)
        except DeliveryFailed as error:
            wait = max(backoff(message.attempts), error.retry_after or timedelta())
            give_up = message.age + wait > GIVE_UP_AFTER
            message.failed(str(error), None if give_up else wait)
            self._failed(message.webhook, str(error))
            return False
        message.delivered()
        return True


def backoff(attempts: int) -> timedelta:
    """Return how long to wait after so many attempts: twice as long each time, and up to a tenth longer at random."""
    return min(INITIAL_BACKOFF * 2.0 ** min(attempts, 20), MAX_BACKOFF) * random.uniform(1, 1.1)
