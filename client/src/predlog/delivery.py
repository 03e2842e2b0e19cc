"""Delivers a batch: tries, halves, counts what became of it, and says when to try again."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from predlog import response
from predlog.batch import Batch
from predlog.counts import Tally
from predlog.dropped import EXPIRED, MAX_REPORTS, REJECTED, header
from predlog.record import SUMMARY, count_of
from predlog.response import Acknowledged, Later, Refused, Verdict
from predlog.settings import Settings
from predlog.throttled_log import Trouble, say
from predlog.transport import Transport

INITIAL_BACKOFF = 0.5  # seconds; doubled by every failure, and the wait is drawn between nothing and that (full jitter)
MAX_BACKOFF = 30.0
INITIAL_BACKOFF_IF_MISCONFIGURED = 5.0  # a key or a URL must be mended: slower, and never given up
MAX_BACKOFF_IF_MISCONFIGURED = 60.0

_FIELDS = (
    "model_name",
    "duration_ms",
    "was_successful",
    "timestamp",
    "request_id",
    "model_version",
    "error",
    "metadata",
)

_jitter = random.SystemRandom()  # whole fleets seed the shared generator alike, and would retry in step


class Wait(NamedTuple):
    """How long to wait before the next attempt."""

    seconds: float
    asked_for: bool = False  # by the service, in Retry-After: then flush() and close() respect it too


class Delivery:
    """Sends batches over one transport, starting small after trouble and growing again."""

    def __init__(self, settings: Settings, transport: Transport, tally: Tally, trouble: Trouble):
        self._transport = transport
        self._tally = tally
        self._trouble = trouble
        self._max_age_ns = int(settings.max_age * 1e9)
        self._most = self._at_once = settings.batch_size
        self._reports_at_once = MAX_REPORTS
        self._failures = 0

    def attempt(self, batch: Batch, time_left: Callable[[], float]) -> Wait | None:
        """Send the batch, removing what is stored or dropped; None once it is empty, else how long to wait.

        `time_left` says, before each request, how many seconds it may take; none left ends the attempt.
        """
        if batch.lines and time.time_ns() - batch.youngest_ns > self._max_age_ns:
            batch.dropped.add_lines(batch.lines, EXPIRED)
            batch.lines = []
        with_reports = True
        while batch.lines or batch.reports:
            timeout = time_left()
            if timeout <= 0:
                return Wait(0.0)
            lines = batch.lines[: self._at_once]
            with_reports = with_reports or not lines
            dropped, reported = None, 0
            if with_reports and batch.reports:
                dropped, reported = header(batch.reports, self._reports_at_once)
            said = self._send(lines, dropped, timeout)
            if isinstance(said, Later):
                return self._later(said)
            if isinstance(said, Acknowledged):
                del batch.lines[: len(lines)], batch.reports[:reported]  # first: they are done, whatever follows
                self._acknowledged(said, batch, lines)
            elif dropped and lines and said.status != 413:
                with_reports = False  # which of the two it could not read is seen once they go apart
            elif len(lines) > 1:
                self._at_once = len(lines) // 2
            elif not lines and reported > 1:
                self._reports_at_once = reported // 2
            else:
                self._refused(said, batch, lines)
                del batch.lines[: len(lines)]
                if not lines:
                    del batch.reports[:reported]
        return None

    def _send(self, lines: Sequence[bytes], dropped: str | None, timeout: float) -> Verdict:
        began = time.monotonic()
        try:
            said = response.send(self._transport, lines, dropped, timeout)
        except Exception as error:  # whatever it is, it must not come back for ever: parts are tried, then given up
            self._trouble.warn("content", "Predlog: records cannot be sent (%s)", type(error).__name__)
            return Refused(0)
        milliseconds = (time.monotonic() - began) * 1000
        say(logging.DEBUG, "Predlog: %d records in %.0f ms: %s", len(lines), milliseconds, response.summary(said))
        return said

    def _acknowledged(self, said: Acknowledged, batch: Batch, lines: Sequence[bytes]) -> None:
        self._failures = 0
        self._at_once = min(self._most, self._at_once * 2)
        self._reports_at_once = MAX_REPORTS
        self._count(said, lines)
        batch.dropped.add_lines([lines[index] for index, _ in said.rejected], REJECTED)
        self._trouble.back()
        if said.rejected:
            fields = _names(errors for _, errors in said.rejected)
            text = "Predlog: the service rejected %d records for their %s; they are counted as rejected"
            self._trouble.warn(f"rejected {fields}", text, len(said.rejected), fields)

    def _count(self, said: Acknowledged, lines: Sequence[bytes]) -> None:
        """Add up what was stored; of a summary the predictions count that it stands for, and not itself."""
        refused = {index for index, _ in said.rejected}
        accepted = [line for place, line in enumerate(lines) if place not in refused]
        summaries = [line for line in accepted if line.startswith(SUMMARY)]
        self._tally.summarized += sum(map(count_of, summaries))
        stored = max(0, said.stored - len(summaries))
        self._tally.sent += stored
        self._tally.duplicates += said.stored + said.duplicates - len(summaries) - stored

    def _refused(self, said: Refused, batch: Batch, lines: Sequence[bytes]) -> None:
        batch.dropped.add_lines(lines, REJECTED)
        what = "a record by itself" if lines else "a report of dropped records"
        self._trouble.warn(f"refused {said.status}", "Predlog: the service answered %d to %s", said.status, what)

    def _later(self, said: Later) -> Wait:
        self._at_once = max(1, self._at_once // 2)
        self._trouble.away(said.why, said.misconfigured)
        doublings = min(self._failures, 16)
        self._failures += 1
        if said.retry_after is not None:
            # A little later than asked, so that not every client comes in the same moment.
            return Wait(said.retry_after * (1 + 0.1 * _jitter.random()), asked_for=True)
        if said.misconfigured:
            longest = min(MAX_BACKOFF_IF_MISCONFIGURED, INITIAL_BACKOFF_IF_MISCONFIGURED * 2**doublings)
            return Wait(_jitter.uniform(longest / 2, longest))
        return Wait(_jitter.uniform(0, min(MAX_BACKOFF, INITIAL_BACKOFF * 2**doublings)))


def _names(errors: Any) -> str:
    """The fields that errors are about, as far as they are a record's: their values and texts may be payload."""
    named = {name for error in errors if isinstance(error, Mapping) for name in error if name in _FIELDS}
    return ", ".join(sorted(named)) or "content"
