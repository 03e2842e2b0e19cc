"""How far a streaming replica is behind its primary."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

import structlog
from sqlalchemy.exc import DBAPIError

from app.domain.errors import StorageBusy, StorageUnavailable
from app.infrastructure.postgres.database import Database

log = structlog.get_logger(__name__)

CHECK_EVERY_S = 1.0
# After a failure one request in so many seconds checks the replica, and pays the time of the check.
TRY_AGAIN_AFTER_S = 5.0

WRITTEN = "SELECT system_identifier, current_database(), pg_current_wal_flush_lsn() - '0/0' FROM pg_control_system()"
REPLAYED = """
SELECT system_identifier, current_database(), pg_last_wal_replay_lsn() - '0/0', pg_is_in_recovery(),
       extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8
FROM   pg_control_system()
"""


class StreamingReplica:
    """Measures the latest moment whose every commit the replica surely has, in two ways; the later moment counts.

    First, if the replica has replayed the log up to the position that the primary reported, it has all commits from
    before that report; so there is no lag if nothing is written, even if the stream is broken. Second, the replica
    reports the time of the last commit that it replayed; that is exact enough if commits follow each other closely.
    """

    def __init__(
        self,
        primary: Database,
        replica: Database,
        max_lag_s: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._primary = primary
        self._replica = replica
        self._max_lag_s = max_lag_s
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._check_at = -math.inf
        self._as_of = -math.inf
        self._state = ""

    def lag_s(self) -> float:
        """Return by how many seconds an answer of the replica may be behind the primary; infinite if not known."""
        return self._monotonic() - self._as_of

    def keeps_up(self) -> bool:
        """Return whether the replica may answer; now and then one of the callers checks it."""
        if self._monotonic() >= self._check_at and self._lock.acquire(blocking=False):
            try:
                self._check()
            finally:
                self._lock.release()
        return self.lag_s() <= self._max_lag_s

    def distrust(self) -> None:
        """Check the replica before the next question, because it has failed to answer."""
        self._as_of = self._check_at = -math.inf

    def _check(self) -> None:
        self._check_at = self._monotonic() + TRY_AGAIN_AFTER_S
        written_at, written = self._monotonic(), self._written()
        replayed_at = self._monotonic()
        try:
            *cluster, replayed, is_replica, behind_s = self._replica.read(REPLAYED)[0]
        except StorageBusy:
            return None  # the server is there, so the last known position still holds, and ages
        except (StorageUnavailable, DBAPIError) as error:
            return self._give_up("away", cause=type(error.__cause__ or error).__name__)
        if not is_replica or (written and written[:2] != tuple(cluster)):
            self._replica.reconnect()  # by then the address may lead to another server
            return self._give_up("not a replica of DATABASE_URL's database")
        if written and replayed >= written[2]:
            self._as_of = max(self._as_of, written_at)
        if behind_s is not None:
            self._as_of = max(self._as_of, replayed_at - max(behind_s, 0.0))
        if written:
            self._check_at = self._monotonic() + min(CHECK_EVERY_S, self._max_lag_s / 2)
        return self._note("in use" if self.lag_s() <= self._max_lag_s else "too far behind")

    def _written(self) -> tuple[int, str, int] | None:
        """Return the primary's system, its database and the flushed position; None if it does not answer."""
        try:
            identifier, name, position = self._primary.read(WRITTEN)[0]
            return identifier, name, position
        except (StorageUnavailable, DBAPIError):
            return None

    def _give_up(self, state: str, **facts: str) -> None:
        self._as_of = -math.inf
        self._note(state, **facts)

    def _note(self, state: str, **facts: str) -> None:
        """Log a change of the state."""
        if state != self._state:
            self._state = state
            log.info("replica", state=state, **facts)
