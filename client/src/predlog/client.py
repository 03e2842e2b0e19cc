"""The client: what a model server calls, and all it needs to know."""

from __future__ import annotations

import contextlib
import os
import signal
from time import time_ns
from types import TracebackType
from typing import Any, Callable, Protocol, SupportsFloat, TypeVar, overload

from predlog import lifecycle
from predlog.counts import Stats
from predlog.forks import mine
from predlog.metadata import snapshot
from predlog.moments import Timestamp
from predlog.pipeline import Pipeline
from predlog.record import Record
from predlog.record_queue import Intake, Nowhere
from predlog.settings import Settings, disabled_by_environment
from predlog.text import ERROR_CHARACTERS, NAME_CHARACTERS, describe
from predlog.tracking import Call, own, track_function
from predlog.uuid7 import numbers

Function = TypeVar("Function", bound=Callable[..., Any])

_new = object.__new__


class SupportsBool(Protocol):
    """NumPy's bool."""

    def __bool__(self) -> bool:
        """Whether it is true."""


class Client:
    """Logs calls of ML models to a Predlog service, from a thread of its own.

    Make one for each process or before forking, and keep it. `log` and `track` only put a record on a queue: they
    never wait and never raise for the sake of the network or of a value that cannot be logged.

    url: where the service is, `http://logs:8000`; default: PREDLOG_URL.
    api_key: sent as a bearer token; default: PREDLOG_API_KEY.
    enabled: False, or PREDLOG_DISABLED=1, makes every method do nothing; then no URL is needed.
    queue_size: records that may wait in memory; what comes beyond is discarded and counted (`queue_full`).
    batch_size: records in one request, at most 10,000.
    flush_interval: seconds after which records are sent though the batch is not full.
    timeout: seconds for a request.
    spool_dir: directory, best shared by all processes of a host, for what has not been acknowledged.
    spool_max_bytes: cap of that directory; the oldest records give way and are counted (`spool_full`).
    max_age: seconds after which a record that could not be delivered is discarded and counted (`expired`).
    exit_timeout: seconds that the end of the process may be held up.
    ledger_dir: directory for the counts, without payload, of what is in memory: the next process with the same url and
        key reports what a killed one has lost. Default: PREDLOG_LEDGER_DIR, or shared memory; "" keeps no counts.

    Raises ValueError where an option, the URL or the key is not usable, and OSError where spool_dir cannot be made.
    """

    def __init__(
        self,
        url: str | None = None,
        api_key: str | None = None,
        *,
        enabled: bool = True,
        queue_size: int = 10_000,
        batch_size: int = 500,
        flush_interval: float = 1.0,
        timeout: float = 10.0,
        spool_dir: str | os.PathLike[str] | None = None,
        spool_max_bytes: int = 100 * 1024 * 1024,
        max_age: float = 7 * 24 * 3600.0,
        exit_timeout: float = 2.0,
        ledger_dir: str | os.PathLike[str] | None = None,
    ) -> None:
        self._pipeline: Pipeline | None = None
        self._intake: Intake = Nowhere()
        self._number = numbers()
        self._settings = Settings(
            queue_size=queue_size,
            batch_size=batch_size,
            flush_interval=flush_interval,
            timeout=timeout,
            spool_dir=None if spool_dir is None else os.fspath(spool_dir),
            spool_max_bytes=spool_max_bytes,
            max_age=max_age,
            exit_timeout=exit_timeout,
            **({} if ledger_dir is None else {"ledger_dir": os.fspath(ledger_dir)}),
        )
        self._url = url or os.environ.get("PREDLOG_URL") or ""
        self._api_key = api_key or os.environ.get("PREDLOG_API_KEY") or None
        self._enabled = enabled and not disabled_by_environment()
        if not self._enabled:
            return
        if not self._url:
            raise ValueError(
                "no Predlog service: pass url or set PREDLOG_URL, or set PREDLOG_DISABLED=1 to log nothing on purpose"
            )
        self._open()

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
        """Log one call that the caller has timed itself.

        duration_ms: milliseconds, finite, 0 or more.
        version: logged as its text; nothing if that is empty.
        error: an exception, or text.
        metadata: a mapping, dataclass, pydantic model or named tuple; anything else becomes its field `value`. What
            JSON cannot say is replaced, and a warning names it.
        timestamp: when the call began, as a datetime, date, ISO 8601 text, seconds since 1970 or numpy.datetime64
            (UTC if it has no offset); default: now.
        request_id: default: a new UUIDv7; the service stores the same id and timestamp once. One that is no UUID is
            kept in metadata, and a UUIDv5 is made of it.

        A value that cannot be logged does not raise: the record is counted as rejected, and a warning says which
        field was wrong.
        """
        if error is not None:
            error = error[:ERROR_CHARACTERS] if type(error) is str else describe(error)
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
        if len(queue) < intake.short and intake.running[0]:  # Intake.put() here: a call less
            try:
                intake.marks[number & intake.mask] = intake.codes[model_name]
                queue.append(record)
                return
            except (KeyError, TypeError, ValueError):
                pass
        intake.put(record)

    def track(self, model_name: str, version: object = None, metadata: object = None) -> Call:
        """Time a `with` block and log it, as a failure if it raises; the exception goes on."""
        call = _new(Call)  # and filled in here: calling the class takes longer than all of this
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

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait, at most that many seconds; True once all that was logged before is acknowledged or counted as lost."""
        pipeline = self._current()
        return pipeline is None or pipeline.flush(timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Send what waits within that many seconds (default: exit_timeout) and stop; what is logged later is dropped.

        True when every record was acknowledged, counted as lost, or lies in the spool. At exit this is called for you.
        """
        pipeline = self._current()
        if pipeline is None:
            return True
        pipeline.begin_close(self._settings.exit_timeout if timeout is None else timeout)
        return pipeline.finish_close()

    def stats(self) -> Stats:
        """What became of the records of this process so far."""
        pipeline = self._current()
        return Stats() if pipeline is None else pipeline.stats()

    def install_signal_handler(self, *numbers: int) -> None:
        """Send what waits when a signal comes, within exit_timeout, and then hand it on to the handler before.

        For processes that are ended by a signal whose default action runs no exit handlers: workers of
        `multiprocessing.Pool` and uvicorn. It is for all clients of the process, since a spawned worker has this one as
        a copy. Call it in the main thread. numbers: default: SIGTERM.
        """
        for number in numbers or (signal.SIGTERM,):
            lifecycle.on_signal(number, lambda: lifecycle.flush(self._settings.exit_timeout))

    def __getstate__(self) -> dict[str, Any]:
        """A copy, also in another process, has the options, and a queue and threads of its own."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_pipeline", "_intake", "_number")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._pipeline = None
        self._intake = Nowhere()
        self._number = numbers()
        self.__dict__.update(state)
        if self._url and self._enabled:
            self._open()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return "predlog.Client(enabled=False)" if self._pipeline is None else f"predlog.Client({self._url!r})"

    def __del__(self) -> None:
        # Forgotten without close(): let its threads end, without waiting for them here.
        with contextlib.suppress(Exception):
            if self._pipeline is not None:
                self._pipeline.begin_close(self._settings.exit_timeout)

    def _open(self) -> None:
        if self._settings.spool_dir is not None:
            os.makedirs(self._settings.spool_dir, mode=0o700, exist_ok=True)
        self._connect()
        lifecycle.created(self)

    def _connect(self) -> Pipeline:
        self._pipeline = pipeline = Pipeline(self._settings, self._url, self._api_key)
        self._intake = pipeline.intake
        self._number = numbers()
        return pipeline

    def _start_over(self) -> None:
        """In a forked child: the parent's queue, files, threads and connection stay the parent's."""
        parents = self._pipeline
        if parents is not None:
            parents.disown()
            parents.intake.heir = self._connect().intake

    def _current(self) -> Pipeline | None:
        """The pipeline of this process, whoever forked it."""
        if not mine[0]:
            lifecycle.forked()
        return self._pipeline
