"""What a client is apart from what it logs: its options, its pipeline in this process, copies of it, and its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
from types import TracebackType
from typing import Any, Callable, TypeVar

from predlog import context, lifecycle
from predlog.connecting import Route
from predlog.counts import Stats
from predlog.environment import disabled
from predlog.forks import mine
from predlog.pipeline import Pipeline
from predlog.record_queue import Intake, Nowhere
from predlog.settings import Settings
from predlog.text import describe, describe_type
from predlog.throttled_log import show_debug
from predlog.tracking import Judge
from predlog.uuid7 import numbers

Self = TypeVar("Self", bound="ClientBase")

_OWN = ("_pipeline", "_intake", "_number", "_describe", "_judge", "_enrich")  # made anew by a copy


class ClientBase:
    """Opens a pipeline, a new one after a fork, and closes it."""

    _pipeline: Pipeline | None
    _intake: Intake
    _number: Callable[[], int]
    _describe: Callable[[object], str]
    _judge: Judge | None
    _enrich: context.Enrich | None

    def __init__(self, url: str | None, api_key: str | None, enabled: bool, settings: Settings) -> None:
        self._settings = settings
        self._rest()
        self._url = url or os.environ.get("PREDLOG_URL") or ("http://localhost" if self._settings.unix_socket else "")
        self._api_key = api_key or os.environ.get("PREDLOG_API_KEY") or None
        self._enabled = enabled and not disabled()
        if not self._enabled:
            return
        if not self._url:
            raise ValueError(
                "no Predlog service: pass url or set PREDLOG_URL, or set PREDLOG_DISABLED=1 to log nothing on purpose"
            )
        self._open()

    def flush(self, timeout: float = 5.0) -> bool:
        """Wait so many seconds at most; True once all that was logged before is acknowledged or counted as dropped."""
        pipeline = self._current()
        return pipeline is None or pipeline.flush(timeout)

    def close(self, timeout: float | None = None) -> bool:
        """Send waiting records for at most `timeout` seconds (default: exit_timeout) and stop.

        Returns True if every record was acknowledged, counted as dropped, or lies in the spool. Records that are logged
        later are dropped. The client calls this itself at exit.
        """
        pipeline = self._current()
        if pipeline is None:
            return True
        pipeline.begin_close(self._settings.exit_timeout if timeout is None else timeout)
        return pipeline.finish_close()

    async def aflush(self, timeout: float = 5.0) -> bool:
        """flush() for asyncio: the event loop goes on meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(None, self.flush, timeout)

    async def aclose(self, timeout: float | None = None) -> bool:
        """close() for asyncio: the event loop goes on meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(None, self.close, timeout)

    async def __aenter__(self: Self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    def stats(self) -> Stats:
        """What became of the records of this process so far."""
        pipeline = self._current()
        return Stats() if pipeline is None else pipeline.stats()

    def __getstate__(self) -> dict[str, Any]:
        """A copy, also in another process, has the options, and a queue and threads of its own."""
        return {name: value for name, value in self.__dict__.items() if name not in _OWN}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._rest()
        if self._url and self._enabled:
            self._open()

    def __enter__(self: Self) -> Self:
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

    def _rest(self) -> None:
        """What a client is before it is open, or if it is disabled."""
        settings = self._settings
        self._pipeline = None
        self._intake = Nowhere()
        self._number = numbers()
        self._describe = describe if settings.exception_text else describe_type
        self._judge = Judge(settings.ignore, settings.is_failure) if settings.ignore or settings.is_failure else None
        traced = context.traced() if settings.trace_ids is None else settings.trace_ids
        self._enrich = context.enrich_with_trace if traced else None

    def _open(self) -> None:
        if self._settings.debug:
            show_debug()
        Route.of(self._settings).check_files()
        if self._settings.spool_dir is not None:
            os.makedirs(self._settings.spool_dir, mode=0o700, exist_ok=True)
        self._connect()
        lifecycle.created(self)

    def _connect(self) -> Pipeline:
        self._pipeline = pipeline = Pipeline(self._settings, self._url, self._api_key)
        self._intake = pipeline.intake
        self._intake.enrich_by(self._enrich)
        self._number = numbers()
        return pipeline

    def _start_over(self) -> None:
        """In a forked child: the parent's queue, files, threads and connection stay the parent's."""
        parents = self._pipeline
        if parents is not None:
            parents.disown()
            parents.intake.heir = self._connect().intake

    def _current(self) -> Pipeline | None:
        """The pipeline of this process, a new one after a fork."""
        if not mine[0]:
            lifecycle.forked()
        return self._pipeline
