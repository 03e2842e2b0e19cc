"""The keys as a worker knows them: read every few seconds, not for every request."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app.domain.errors import PredlogError, StorageUnavailable
from app.domain.keys import ApiKey

# A revocation takes effect after so long, plus the time of a query.
FRESH_S = 2.0
# How long a request waits at most for another one that is reading the keys.
TIMEOUT_S = 3.0
# While the database is away, the keys that were read last stay valid for so long.
KNOWN_S = 60.0

_NEVER = float("-inf")
_EVER = sys.float_info.max


@dataclass(frozen=True)
class Known:
    """The keys by their id, as they were at a moment of the clock."""

    keys: Mapping[str, ApiKey]
    moment: float


class KeyRing:
    """Caches the keys. One thread at a time reads them anew; the other threads go on with the cached ones."""

    def __init__(self, read: Callable[[], Sequence[ApiKey]], clock: Callable[[], float]) -> None:
        self._read = read
        self._clock = clock
        self._known = Known({}, _NEVER)
        self._reading = threading.Lock()
        self._deciding = threading.Lock()
        self._began = _NEVER
        self._failure = ""

    def keys(self, *, however_old: bool = False) -> Mapping[str, ApiKey]:
        """Return every key that was ever made, as of a few seconds ago. Raises StorageUnavailable if that is not known.

        With `however_old` the keys may be older: some may have been revoked while the database was away.
        """
        now = self._clock()
        if now - self._known.moment < FRESH_S:
            return self._known.keys
        if self._may_read(now):
            try:
                self._renew(now)
            finally:
                self._reading.release()
        elif now - self._known.moment >= 2 * FRESH_S:
            self._wait(now)
        if self._clock() - self._known.moment > (_EVER if however_old else KNOWN_S):
            raise StorageUnavailable(self._failure or "The keys cannot be read.")
        return self._known.keys

    def _may_read(self, now: float) -> bool:
        """Return whether this thread is to read the keys; it then holds the lock for that."""
        with self._deciding:  # a thread that finds the other lock taken must also find since when
            if now - self._began < FRESH_S or not self._reading.acquire(blocking=False):
                return False
            self._began = now
            return True

    def _renew(self, now: float) -> None:
        try:
            self._known = Known({str(key.id): key for key in self._read()}, now)
        except PredlogError as error:
            self._failure = str(error)

    def _wait(self, now: float) -> None:
        """Wait until another request has read the keys, because the cached ones are too old after a pause.

        If the database hangs, only the requests of the first few seconds wait.
        """
        timeout_s = self._began + TIMEOUT_S - now
        if timeout_s > 0 and self._reading.acquire(timeout=timeout_s):
            self._reading.release()
