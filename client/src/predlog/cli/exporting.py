"""`predlog export`: all predictions of a range into a file, whatever breaks off meanwhile."""

from __future__ import annotations

import argparse
import contextlib
import csv
import http.client
import json
import os
import random
import time
import zlib
from collections.abc import Iterator
from typing import IO, Any
from urllib.parse import urlencode

from predlog.cli.console import CommandError, Exit, Progress, ServiceAway, service_of
from predlog.cli.show import fetch
from predlog.response import ADVICE, reason
from predlog.text import printable
from predlog.transport import Transport

PATH = "/api/v1/predictions/export"
ENDS = {"ndjson": b"\n", "csv": b"\n", "parquet": b"PAR1"}
SUFFIXES = {".ndjson": "ndjson", ".jsonl": "ndjson", ".csv": "csv", ".parquet": "parquet"}
READ_TIMEOUT = 60.0
READ_BYTES = 256 * 1024
INITIAL_BACKOFF = 0.5
MAX_BACKOFF = 10.0
CUT = "the service has cut the export"


class Broken(Exception):
    """The export has ended before its end; it may be gone on with."""


def export(transport: Transport, options: argparse.Namespace) -> int:
    """Write the predictions of a range to a file; a file that is there already is left alone."""
    name = options.format or SUFFIXES.get(os.path.splitext(options.file)[1].lower())
    if name is None:
        raise CommandError("the file's name ends in none of .ndjson, .csv and .parquet: add --format", Exit.USAGE)
    if os.path.exists(options.file):
        raise CommandError(f"{printable(options.file)} exists already", Exit.USAGE)
    query = {"model_name": options.model, "from": options.from_, "to": options.to}
    query = {name: value for name, value in query.items() if value is not None}
    _begin_part(f"{options.file}.part", {"service": service_of(options), "format": name, **query})
    return _Exporting(transport, name, query, options.file, options.retry_timeout).run()


def _begin_part(part: str, export: dict[str, str]) -> None:
    """Note beside the part which export it is of. Raises CommandError if it is of another one, whose rows it holds."""
    note = f"{part}.query"
    try:
        if not os.path.exists(part) or not os.path.getsize(part):
            with open(note, "w", encoding="utf-8") as file:
                json.dump(export, file)
        elif (begun := _noted(note)) != export:
            text = ", ".join(f"{name} {value}" for name, value in begun.items()) or "it is not known which"
            advice = "repeat that one to go on with it, or remove it, or export to another file"
            raise CommandError(f"{printable(part)} is of another export ({printable(text)}): {advice}", Exit.USAGE)
    except OSError as error:
        raise CommandError(f"{printable(part)}: {error.strerror}", Exit.USAGE) from None


def _noted(note: str) -> dict[str, str]:
    with contextlib.suppress(FileNotFoundError, ValueError, TypeError), open(note, encoding="utf-8") as file:
        return dict(json.load(file))
    return {}


class _Exporting:
    def __init__(self, transport: Transport, name: str, query: dict[str, str], file: str, retry_timeout: float) -> None:
        self._transport, self._format, self._query = transport, name, query
        self._file, self._part = file, f"{file}.part"
        self._retry_timeout = retry_timeout
        self._rows = 0

    def run(self) -> int:
        """Fetch until it is whole."""
        self._progress = Progress(self._total())
        try:
            with open(self._part, "r+b" if os.path.exists(self._part) else "w+b") as part:
                self._fetch_all(part)
                if self._format == "csv":  # there are line ends within rows, too
                    part.seek(0)
                    self._rows = _last_row(part, quoted=True)[2] - 1
            os.replace(self._part, self._file)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{self._part}.query")
        except OSError as error:
            raise CommandError(f"{printable(self._part)}: {error.strerror}", Exit.USAGE) from None
        self._show(last=True)
        count = f"{self._rows:,} predictions" if self._format != "parquet" else "all predictions"
        print(f"{count} exported to {printable(self._file)}")
        return Exit.DONE

    def _total(self) -> int | None:
        """Return how many predictions there are; None if the service cannot say so now, which ends no export."""
        try:
            stats = fetch(self._transport, "/api/v1/stats", {**self._query, "percentiles": ""})
        except ServiceAway:
            return None
        return int(stats["total_requests"] - stats.get("summarized", 0))

    def _fetch_all(self, part: IO[bytes]) -> None:
        wait, quiet_since = INITIAL_BACKOFF, time.monotonic()
        while True:
            before = self._rows
            try:
                return self._fetch(part)
            except Broken as broken:
                if self._rows > before:
                    wait, quiet_since = INITIAL_BACKOFF, time.monotonic()
                pause = random.uniform(0, wait)
                if time.monotonic() + pause - quiet_since > self._retry_timeout:
                    raise CommandError(f"{broken}; run the same command again to go on") from None
                self._progress.say(f"predlog: {broken}; going on")
                time.sleep(pause)
                wait = min(MAX_BACKOFF, 2 * wait)

    def _fetch(self, part: IO[bytes]) -> None:
        """Fetch what is missing. Raises Broken, when `part` may be gone on with."""
        cursor = self._mend(part)
        query = {**self._query, **({"cursor": cursor} if cursor else {}), "format": self._format}
        start, rows = part.tell(), self._rows
        ended, is_blank = b"", self._format == "ndjson"
        with self._answer(query) as parts:
            rest = b"" if start == 0 or self._format != "csv" else None  # the names of the columns are there already
            for piece in parts:
                ended = (ended + piece)[-4:]
                if rest is None:
                    _, found, piece = piece.partition(b"\n")
                    rest = b"" if found else None
                part.write(piece)
                self._rows += piece.count(b"\n") if self._format != "parquet" else 0
                is_blank = is_blank and not piece.strip()
                self._show()
        is_empty = self._format == "ndjson" and not ended  # the others have names or a footer without any row, too
        if not is_empty and not ended.endswith(ENDS[self._format]):
            raise Broken(CUT)
        if is_blank:  # the service has found nothing, and sent spaces while it looked
            part.truncate(start)
            self._rows = rows

    def _mend(self, part: IO[bytes]) -> str | None:
        """Leave whole rows alone in the file; returns the cursor of the last one."""
        part.seek(0)
        if self._format == "parquet":
            part.truncate()
            return None
        end, last, self._rows = _last_row(part, quoted=self._format == "csv")
        part.truncate(end)
        part.seek(end)
        if self._format == "csv":
            self._rows -= end > 0
            row = next(csv.reader([last.decode()])) if self._rows > 0 else None
            return f"{row[1]},{row[0]}" if row else None
        return "{timestamp},{id}".format(**json.loads(last)) if last else None

    @contextlib.contextmanager
    def _answer(self, query: dict[str, str]) -> Iterator[Iterator[bytes]]:
        headers = {"Accept": "*/*", "Accept-Encoding": "gzip" if self._format != "parquet" else "identity"}
        try:
            answer = self._transport.stream(f"{PATH}?{urlencode(query)}", headers, READ_TIMEOUT)
        except (OSError, http.client.HTTPException) as error:
            raise Broken(reason(error)) from None
        try:
            if answer.status in (408, 429) or answer.status >= 500:
                raise Broken(f"the service answered {answer.status}")
            if answer.status != 200:
                raise CommandError(_refusal(answer.status, answer.read(READ_BYTES)), Exit.USAGE)
            yield _inflated(answer)
        finally:
            self._transport.close()

    def _show(self, last: bool = False) -> None:
        self._progress.show(self._rows, self._rows, self._rows, last)


def _inflated(answer: http.client.HTTPResponse) -> Iterator[bytes]:
    inflater = zlib.decompressobj(31) if answer.getheader("Content-Encoding") == "gzip" else None
    try:
        while piece := answer.read1(READ_BYTES):
            yield inflater.decompress(piece) if inflater else piece
    except (OSError, http.client.HTTPException, zlib.error) as error:
        raise Broken(reason(error)) from None
    if inflater and not inflater.eof:
        raise Broken(CUT)


def _last_row(file: IO[bytes], quoted: bool) -> tuple[int, bytes, int]:
    """Return the end of the last whole row, the row itself, and the number of rows; quotes may hold line ends."""
    end, last, count = 0, b"", 0
    row = b""
    for line in file:
        row += line
        if line.endswith(b"\n") and not (quoted and row.count(b'"') % 2):
            end, last, count, row = end + len(row), row, count + 1, b""
    return end, last, count


def _refusal(status: int, body: bytes) -> str:
    if status in ADVICE:
        return f"the service answered {status}: {ADVICE[status]}"
    with contextlib.suppress(ValueError, AttributeError):
        said: dict[str, Any] = json.loads(body)
        return f"the service refused: {printable(said.get('message') or said.get('errors'))}"
    return f"the service answered {status}"
