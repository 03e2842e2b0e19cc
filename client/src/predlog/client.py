"""The client: what a model server calls, and all it needs to know."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from contextlib import AbstractContextManager
from time import time_ns
from typing import Any, Callable, Protocol, SupportsFloat, TypeVar, overload

from predlog import context, lifecycle
from predlog.checking import Check, check
from predlog.client_base import ClientBase
from predlog.connecting import Route
from predlog.decorating import track_function
from predlog.metadata import snapshot
from predlog.moments import Timestamp
from predlog.record import Record
from predlog.settings import BeforeSend, Exceptions, IsFailure, OnError, Settings
from predlog.text import ERROR_CHARACTERS, NAME_CHARACTERS
from predlog.tracking import Call, own
from predlog.transport import Transport

Function = TypeVar("Function", bound=Callable[..., Any])


class SupportsBool(Protocol):
    """NumPy's bool."""

    def __bool__(self) -> bool:
        """Whether it is true."""


class Client(ClientBase):
    """Logs predictions of ML models to a Predlog service, from a thread of its own.

    Make one for each process or before forking, and keep it. `log` and `track` only put a record on a queue: they
    never wait and never raise for the sake of the network or of a value that cannot be logged.

    Every option but the functions and `ignore` can be set in the environment, as PREDLOG_FLUSH_INTERVAL or PREDLOG_URL;
    `metadata` and `headers` as JSON objects there, and booleans as 1 or 0. Defaults are in brackets.

    url: the address of the service, `http://logs:8000`.
    api_key: sent as a bearer token.
    enabled: False, or PREDLOG_DISABLED=1, makes every method do nothing; then no URL is needed.
    queue_size: records that may wait in memory (10,000); further ones are dropped and counted (`queue_full`).
    batch_size: records in one request (500), at most 10,000.
    flush_interval: seconds after which records are sent though the batch is not full (1).
    timeout: seconds for a request (10).
    spool_dir: directory, best shared by all processes of a host, for what has not been acknowledged.
    spool_max_bytes: cap of that directory (100 MiB); the oldest records give way and are counted (`spool_full`).
    max_age: seconds after which a record that could not be delivered is dropped and counted (`expired`; 7 days).
    exit_timeout: seconds that the end of the process may be held up (2).
    ledger_dir: directory for the counts, without payload, of records in memory: the next process with the same url and
        key reports what a killed one has lost (in shared memory); "" keeps no counts.
    mode: `sync` sends each record when it is logged, within `timeout`, and has no threads: for serverless functions,
        which are frozen between two calls (`thread`).
    version: of predictions that give none.
    metadata: fields of every record; what a prediction says itself has precedence.
    environment, release, host: the same as fields of metadata; host=True takes the name of this machine.
    trace_ids: log OpenTelemetry's current trace_id and span_id (True if opentelemetry was imported before).
    exception_text: False logs of an exception its type alone.
    sample: share of the successful predictions that are sent whole, from 0 to 1 (1). The others are counted here, by
        model, version and minute, and sent as summaries, so that all statistics stay as exact; failures are sent whole.
    sample_keep_slow_ms: predictions that took at least so many milliseconds are sent whole, too.
    before_send: a function that is given each record as a dict with the names of log(), in the client's thread, and
        returns it, changed or not, or None to withhold it. A record for which it raises is rejected.
    ignore: exceptions that leave no record.
    is_failure: a function that is given an exception, and says whether the prediction failed; ignored ones excepted.
    on_error: a function that is given each warning that the client logs, as text.
    debug: log to standard error what the client does.
    headers: sent along with each request.
    proxy: `http://proxy:3128`, with user and password if it wants them.
    ca_file: certificates (PEM) to trust instead of the system's.
    client_certificate, client_key: certificate (PEM) to show, and its key if that is a file of its own.
    unix_socket: path of a socket to connect to instead of the URL's host; the URL may be left out.

    Raises ValueError if an option, the URL or the key is not usable, and OSError if spool_dir or a certificate
    cannot be read.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        enabled: bool = True,
        queue_size: int | None = None,
        batch_size: int | None = None,
        flush_interval: float | None = None,
        timeout: float | None = None,
        spool_dir: str | os.PathLike[str] | None = None,
        spool_max_bytes: int | None = None,
        max_age: float | None = None,
        exit_timeout: float | None = None,
        ledger_dir: str | os.PathLike[str] | None = None,
        mode: str | None = None,
        version: object = None,
        metadata: Mapping[str, Any] | None = None,
        environment: str | None = None,
        release: str | None = None,
        host: bool | None = None,
        trace_ids: bool | None = None,
        exception_text: bool | None = None,
        sample: float | None = None,
        sample_keep_slow_ms: float | None = None,
        before_send: BeforeSend | None = None,
        ignore: type[BaseException] | Exceptions | None = None,
        is_failure: IsFailure | None = None,
        on_error: OnError | None = None,
        debug: bool | None = None,
        headers: Mapping[str, str] | None = None,
        proxy: str | None = None,
        ca_file: str | os.PathLike[str] | None = None,
        client_certificate: str | os.PathLike[str] | None = None,
        client_key: str | os.PathLike[str] | None = None,
        unix_socket: str | os.PathLike[str] | None = None,
    ) -> None:
        super().__init__(url, api_key, enabled, Settings.made_of(locals()))

    # Not keyword-only: Python looks up each default of such a parameter by its name, a third of what a call costs.
    def log(
        self,
        model_name: str,
        duration_ms: SupportsFloat,
        was_successful: bool | SupportsBool,
        version: object = None,
        error: object = None,
        metadata: object = None,
        timestamp: Timestamp | None = None,
        request_id: object = None,
    ) -> None:
        """Log one prediction that the caller has timed itself.

        duration_ms: milliseconds, finite, 0 or more.
        version: logged as its text; nothing if that is empty.
        error: an exception, or text.
        metadata: a mapping, dataclass, pydantic model or named tuple; anything else becomes its field `value`. What
            JSON cannot say is replaced, and a warning names it.
        timestamp: when the prediction began, as a datetime, date, ISO 8601 text, seconds since 1970 or numpy.datetime64
            (UTC if it has no offset); default: now.
        request_id: default: a new UUIDv7; the service stores the same id and timestamp once. One that is no UUID is
            kept in metadata, and a UUIDv5 is made of it.

        A value that cannot be logged does not raise: the record is counted as rejected, and a warning says which
        field was wrong.
        """
        if error is not None:
            error = error[:ERROR_CHARACTERS] if type(error) is str else self._describe(error)
        if metadata is not None:
            metadata = metadata.copy() if type(metadata) is dict else snapshot(metadata)
        number = self._number()
        record: Record = (
            time_ns(),
            number,
            model_name,
            duration_ms,
            was_successful,
            version,
            error,
            metadata,
            timestamp,
            request_id,
        )
        intake = self._intake
        queue = intake.queue
        if len(queue) < intake.quick and intake.running[0]:  # Intake.put() here: a call less
            try:
                intake.marks[number & intake.mask] = intake.codes[model_name]
                queue.append(record)
                return
            except (KeyError, TypeError, ValueError):
                pass
        intake.put(record)

    def track(self, model_name: str, version: object = None, metadata: object = None) -> Call:
        """Time a `with` block and log it, as a failure if it raises; the exception goes on."""
        call = Call()  # and filled in here: an __init__ would take longer than all of this
        call._client = self
        call._metadata = None if metadata is None else own(metadata)
        call._started = 0.0
        call.model_name = model_name
        call.version = version
        call.error = None
        return call

    @overload
    def tracked(self, model_name: str, version: object = None) -> Callable[[Function], Function]: ...

    @overload
    def tracked(self, model_name: Function) -> Function: ...

    def tracked(self, model_name: Any, version: object = None) -> Any:
        """Decorate a function, async function, generator or async generator so that each call of it is logged.

        Without parentheses (`@log.tracked`) the model has the function's name. It may stand above or below
        `staticmethod` and `classmethod`. A generator is timed from its first step until it is exhausted, closed or
        raises; a function that returns a coroutine or a future, until its result is there.
        """
        if callable(model_name) or isinstance(model_name, (staticmethod, classmethod)):
            function = getattr(model_name, "__func__", model_name)
            name = getattr(function, "__name__", type(function).__name__)
            return track_function(self, name[:NAME_CHARACTERS], version)(model_name)
        return track_function(self, model_name, version)

    def start(self, model_name: str, version: object = None, metadata: object = None) -> Call:
        """Begin to time a call that no block can hold; `finish()` of what it returns logs it."""
        return self.track(model_name, version, metadata).__enter__()

    def context(self, **fields: Any) -> AbstractContextManager[None]:
        """Add these fields to the metadata of records that are logged inside the block, also by tasks started there."""
        if self._enrich is None:  # not before it is needed: it takes time of each call
            self._enrich = context.enrich
            self._intake.enrich_by(context.enrich)
        return context.fields(**fields)

    def check(self) -> Check:
        """Ask the service whether it accepts records of this client, and return a problem in words.

        `print(log.check())` at the start of a program; the answer is true or false, too. It waits for the service.
        """
        if not self._enabled:
            return Check(True, "This client is disabled and sends nothing.")
        return check(Transport(self._url, self._api_key, self._settings.timeout, Route.of(self._settings)))

    def install_signal_handler(self, *numbers: int) -> None:
        """Send what waits when a signal comes, within exit_timeout, and then hand it on to the handler before.

        For processes that are ended by a signal whose default action runs no exit handlers, such as uvicorn. It is for
        all clients of the process. Call it in the main thread, and not in workers of pools: CPython runs the handler of
        a signal that comes just before a wait only after it, so the pool may wait for its worker for ever. numbers:
        default: SIGTERM.
        """
        for number in numbers or (signal.SIGTERM,):
            lifecycle.on_signal(number, lambda: lifecycle.flush(self._settings.exit_timeout))
