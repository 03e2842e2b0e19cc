"""Timing a call: a `with` block."""

from __future__ import annotations

from time import perf_counter, time_ns
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable

from predlog.metadata import snapshot
from predlog.record import Record
from predlog.record_queue import Nowhere
from predlog.text import ERROR_CHARACTERS
from predlog.uuid7 import spell

if TYPE_CHECKING:
    from predlog.client import Client
    from predlog.settings import Exceptions, IsFailure


class Judge:
    """What an exception means for the call that it ends."""

    def __init__(self, ignore: Exceptions, is_failure: IsFailure | None) -> None:
        self._ignore = ignore
        self._is_failure = is_failure

    def __call__(self, raised: BaseException) -> bool | None:
        """Whether the call has failed; None if it is not to be logged at all."""
        if isinstance(raised, self._ignore):
            return None
        try:
            return self._is_failure is None or bool(self._is_failure(raised))
        except Exception:
            return True


class _Stand(Nowhere):
    """Stands for the client and its intake while a call is entered inside its own block."""

    _number: Callable[[], int]
    _describe: Callable[[object], str]
    _judge: Judge | None

    def __init__(self, client: Client | _Stand, restore: Callable[[], None]) -> None:
        super().__init__()
        self._client = client
        self._restore = restore
        self._intake = self
        self._number = client._number
        self._describe = client._describe
        self._judge = client._judge

    def put(self, record: Record | None) -> None:
        """Hand the record on, and go on with the outer block."""
        self._restore()
        if record is not None:
            self._client._intake.put(record)


class Call:
    """One call that is being timed. Attributes that are set inside the block are logged with it.

    error: set it to log a failure that is not raised. version: the model's, if it is known only inside.
    """

    __slots__ = ("_client", "_metadata", "_number", "_started", "_time_ns", "error", "model_name", "version")

    # Client.track() makes it and fills these in.
    _client: Client | _Stand
    _metadata: dict[Any, Any] | None
    _number: int
    _started: float
    _time_ns: int
    model_name: str
    version: object
    error: object

    @property
    def metadata(self) -> dict[Any, Any]:
        """A dict of the call's own, up to 4096 bytes of JSON, logged as it is when the block ends."""
        if self._metadata is None:
            self._metadata = {}
        return self._metadata

    @metadata.setter
    def metadata(self, value: object) -> None:
        self._metadata = None if value is None else own(value)

    @property
    def request_id(self) -> str:
        """The identifier that the record will have, to hand to the caller of the model."""
        return spell(self._time_ns, self._number)

    def __enter__(self) -> Call:
        if self._started:
            self._nest()
        self._time_ns = time_ns()
        self._number = self._client._number()
        self._started = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, raised: BaseException | None, traceback: TracebackType | None
    ) -> None:
        started = self._started
        if not started:  # finish() has logged it inside its block
            return
        duration_ms = (perf_counter() - started) * 1000
        error = self.error
        client = self._client
        # A consumer that closes a generator early has had what it wanted. Everything else that is raised, also
        # KeyboardInterrupt and asyncio's CancelledError, means that there was no answer: a failure.
        if raised is not None and not isinstance(raised, GeneratorExit):
            failed = True if client._judge is None else client._judge(raised)
            if failed is None:
                return self._forget()
            if failed:
                error = raised
        if error is not None:
            error = error[:ERROR_CHARACTERS] if type(error) is str else client._describe(error)
            self.error = None  # it may be entered again
        metadata = self._metadata
        if metadata is not None:
            metadata = metadata.copy()
        self._started = 0.0
        number = self._number
        name = self.model_name
        record: Record = (
            self._time_ns,
            number,
            name,
            duration_ms,
            error is None,
            self.version,
            error,
            metadata,
            None,
            None,
        )
        intake = client._intake
        queue = intake.queue
        if len(queue) < intake.quick and intake.running[0]:  # Intake.put() here: a call less
            try:
                intake.marks[number & intake.mask] = intake.codes[name]
                queue.append(record)
                return
            except (KeyError, TypeError, ValueError):
                pass
        intake.put(record)

    def finish(self, error: object = None) -> None:
        """Log the call that `Client.start()` began, as a failure if there is an error: an exception, or text.

        A call that is finished already is not logged again.
        """
        if not self._started:
            return
        if isinstance(error, BaseException):
            self.__exit__(type(error), error, error.__traceback__)
            return
        if error is not None:
            self.error = error
        self.__exit__(None, None, None)

    def mark(self, name: str) -> float:
        """Keep the milliseconds since the start as metadata, `first_token_ms` for `first_token`, and return them.

        If the call has not begun or is finished, nothing is kept, and 0 is returned.
        """
        if not self._started:
            return 0.0
        milliseconds = (perf_counter() - self._started) * 1000
        self.metadata[f"{name}_ms"] = round(milliseconds, 3)
        return milliseconds

    def _forget(self) -> None:
        """End the call without a record."""
        self.error = None
        self._started = 0.0
        if isinstance(self._client, _Stand):
            self._client.put(None)

    def _nest(self) -> None:
        """Entered inside its own block: once the inner one is logged, go on with the outer one."""
        client, outer = self._client, (self._time_ns, self._number, self._started)

        def restore() -> None:
            self._client = client
            self._time_ns, self._number, self._started = outer

        self._client = _Stand(client, restore)


def own(metadata: object) -> dict[Any, Any]:
    """A copy of metadata, one level deep."""
    own: dict[Any, Any] = metadata.copy() if type(metadata) is dict else snapshot(metadata)
    return own
