"""`predlog send`: the records of an NDJSON file, each once, however often the command is run."""

from __future__ import annotations

import argparse
import random
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from predlog import response
from predlog.cli.checkpoint import State, of_file, of_stream, size_of
from predlog.cli.console import CommandError, Exit, Progress, flatten, open_to_read, service_of
from predlog.cli.ndjson import InvalidLine, Line
from predlog.response import Acknowledged, Later
from predlog.text import printable
from predlog.transport import Transport

BATCH_LINES = 1000
BATCH_BYTES = 1024 * 1024
INITIAL_BACKOFF = 0.5
MAX_BACKOFF = 10.0


def send_file(transport: Transport, options: argparse.Namespace) -> int:
    """Send a file or standard input; the exit code says whether every record was stored."""
    if options.file == "-":
        return Sending(transport, *of_stream(sys.stdin.buffer), None, options.retry_timeout).run()
    with open_to_read(options.file) as file:
        size = size_of(file)
        if size is None:
            return Sending(transport, *of_stream(file), None, options.retry_timeout).run()
        state, lines, why = of_file(options.file, file, service_of(options), options.restart)
        sending = Sending(transport, state, lines, size, options.retry_timeout)
        if why:
            sending.say(f"{options.file} {why}: starting from its first line")
        elif lines.line:
            sending.say(f"{lines.line:,} lines were sent before, going on from there (--restart sends them again)")
        return sending.run()


class Source(Protocol):
    """Lines to send, and how far they were read: bytes, lines, and a hash of the lines."""

    line: int
    digest: Any
    unfinished: bool

    @property
    def offset(self) -> int: ...

    def __iter__(self) -> Iterator[Line | InvalidLine]: ...


class Sending:
    """The records of one source on their way to the service, with a progress bar."""

    def __init__(
        self, transport: Transport, state: State, lines: Source, size: int | None, retry_timeout: float
    ) -> None:
        self._transport = transport
        self._state = state
        self._done = state.progressed
        self._lines = lines
        self._retry_timeout = retry_timeout
        self._progress = Progress(size)
        self._at_once = BATCH_LINES
        self._sent = 0

    def run(self) -> int:
        self._state.save(self._lines)  # the time that records without one get must be the same in the next try
        batch: list[Line] = []
        size = 0
        for line in self._lines:
            if isinstance(line, InvalidLine):
                self._reject(line.number, line.why)
                continue
            batch.append(line)
            size += len(line.body)
            if len(batch) >= BATCH_LINES or size >= BATCH_BYTES:
                self._deliver(batch)
                batch, size = [], 0
        self._deliver(batch, last=True)
        if self._lines.unfinished:
            self.say(f"line {self._lines.line + 1} is not whole yet: it is left for the next run")
        done = self._done
        print(f"{done.stored:,} stored, {done.duplicates:,} were there already, {done.rejected:,} rejected")
        return Exit.REJECTED if done.rejected else Exit.DONE

    def say(self, text: str) -> None:
        self._progress.say(f"predlog: {printable(text)}")

    def _deliver(self, batch: list[Line], last: bool = False) -> None:
        """Send the batch in as many requests as it takes, then remember that it is sent."""
        while batch:
            part = batch[: self._at_once]
            said = self._send(part)
            if isinstance(said, Acknowledged):
                self._acknowledged(said, part)
            elif len(part) > 1:
                self._at_once = len(part) // 2
                continue
            elif said.is_predlogs:
                self._reject(part[0].number, f"the service answered {said.status}")
            else:
                why = f"it answered {said.status} to line {part[0].number}, and not as Predlog does: check the URL"
                raise CommandError(self._stopped(why))
            del batch[: len(part)]
        self._state.save(self._lines)
        self._progress.show(self._lines.offset, self._lines.line, self._sent, last)

    def _acknowledged(self, said: Acknowledged, part: Sequence[Line]) -> None:
        self._done.stored += said.stored
        self._done.duplicates += said.duplicates
        self._sent += len(part)
        self._at_once = min(BATCH_LINES, self._at_once * 2)
        for index, errors in said.rejected:
            self._reject(part[index].number, "; ".join(f"{field}: {text}" for field, text in flatten(errors)))

    def _send(self, part: Sequence[Line]) -> Acknowledged | response.Refused:
        """One request, repeated until it is answered; raises CommandError after `retry_timeout` seconds."""
        began = time.monotonic()
        wait = INITIAL_BACKOFF
        while True:
            said = response.send(self._transport, [line.body for line in part])
            if not isinstance(said, Later):
                return said
            pause = random.uniform(0, wait) if said.retry_after is None else said.retry_after
            if said.misconfigured or time.monotonic() + pause - began > self._retry_timeout:
                raise CommandError(self._stopped(said.why))
            self.say(f"{said.why}; trying again")
            time.sleep(pause)
            wait = min(MAX_BACKOFF, wait * 2)

    def _stopped(self, why: str) -> str:
        again = ", run the same command again to go on" if self._state.kept else ""
        return f"{why}; {self._done.line:,} lines are sent{again}"

    def _reject(self, number: int, why: str) -> None:
        self._done.rejected += 1
        self._progress.say(f"line {number}: {printable(why)}")
