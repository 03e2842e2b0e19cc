"""Celery: `TaskTracking(log)`, in the module that makes the application, logs each run of a task."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Callable, Optional

from celery.signals import task_failure, task_postrun, task_prerun, worker_process_shutdown, worker_shutdown

if TYPE_CHECKING:
    from predlog.client import Client
    from predlog.tracking import Call

IsSuccess = Callable[[str], Optional[bool]]


def by_state(state: str) -> bool | None:
    """SUCCESS and FAILURE are what they say; RETRY, IGNORED and REJECTED (None) are not logged."""
    return {"SUCCESS": True, "FAILURE": False}.get(state)


class TaskTracking:
    """Logs the tasks of this process and of its workers.

    tasks: patterns of task names (`*` for anything) and names of models; None: every task but Celery's own is a model
        with the task's name.
    is_success: from the task's state; None means that it is not logged.

    Workers' children send what they have when they end, also by `worker_max_tasks_per_child`.
    """

    def __init__(self, log: Client, tasks: Mapping[str, str] | None = None, is_success: IsSuccess = by_state) -> None:
        self.log = log
        self._tasks = tasks
        self._is_success = is_success
        self._calls: dict[str, Call] = {}
        self._raised: dict[str, BaseException] = {}
        task_prerun.connect(self._begin, weak=False)
        task_failure.connect(self._note, weak=False)
        task_postrun.connect(self._end, weak=False)
        for ending in (worker_process_shutdown, worker_shutdown):
            ending.connect(self._flush, weak=False)

    def call(self, task_id: str) -> Call | None:
        """The call that a task is which runs now, to set metadata and so on of: `tracking.call(self.request.id)`."""
        return self._calls.get(task_id)

    def _model_of(self, task: str) -> str | None:
        if self._tasks is None:
            return None if task.startswith("celery.") else task
        return next((model for pattern, model in self._tasks.items() if fnmatchcase(task, pattern)), None)

    def _begin(self, task_id: str, task: Any, **_: Any) -> None:
        model = self._model_of(task.name)
        if model is not None:
            self._calls[task_id] = self.log.track(model).__enter__()

    def _note(self, task_id: str, exception: BaseException, **_: Any) -> None:
        if task_id in self._calls:
            self._raised[task_id] = exception

    def _end(self, task_id: str, state: str, **_: Any) -> None:
        call, raised = self._calls.pop(task_id, None), self._raised.pop(task_id, None)
        success = None if call is None else self._is_success(state)
        if call is None or success is None:
            return
        if success:
            raised = None
        elif raised is None and call.error is None:
            call.error = state
        call.__exit__(None if raised is None else type(raised), raised, None)

    def _flush(self, **_: Any) -> None:
        self.log.flush(self.log._settings.exit_timeout)
