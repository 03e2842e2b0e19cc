"""Celery's signals: what a task's end means."""

from __future__ import annotations

from typing import Any

import pytest

from conftest import Program
from misbehaving import Service

celery = pytest.importorskip("celery")


def run(program: Program, service: Service, body: Any, tasks: Any = "None", options: Any = "", judge: Any = "") -> Any:
    program.run(f"""
        import celery, predlog
        from predlog.integrations.celery import TaskTracking
        app = celery.Celery("tasks", broker="memory://", backend="cache+memory://")
        log = predlog.Client({options})
        tracking = TaskTracking(log, {tasks}{judge})
        @app.task(bind=True, name="prices.predict", max_retries=1)
        def predict(self, rooms):
            tracking.call(self.request.id).metadata["rooms"] = rooms
            {body}
        predict.apply(args=[3])
        """)
    return list(service.records.values())


def test_a_task_is_a_prediction_of_the_model_with_its_name(program: Program, service: Service) -> None:
    [record] = run(program, service, "return 1")
    assert record["model_name"] == "prices.predict" and record["was_successful"]
    assert record["metadata"] == {"rooms": 3}


def test_tasks_may_be_named_and_the_others_are_not_logged(program: Program, service: Service) -> None:
    [record] = run(program, service, "return 1", {"prices.*": "apartment_price"})
    assert record["model_name"] == "apartment_price"


def test_a_task_that_raises_is_a_failure_with_its_exception(program: Program, service: Service) -> None:
    [record] = run(program, service, "raise ValueError('below zero')")
    assert record["error"] == "ValueError: below zero"


@pytest.mark.parametrize(
    ("is_success", "error"),
    [("True", None), ("False", "ValueError: below zero"), ("state != 'FAILURE'", "ValueError: below zero")],
)
def test_is_success_judges_a_task_that_raises(program: Program, service: Service, is_success: str, error: Any) -> None:
    judge = f", is_success=lambda state: {is_success}"
    [record] = run(program, service, "raise ValueError('below zero')", judge=judge)
    assert record["was_successful"] is (error is None) and record.get("error") == error


def test_an_ignored_exception_leaves_no_record(program: Program, service: Service) -> None:
    assert run(program, service, "raise ValueError('below zero')", options="ignore=ValueError") == []


def test_only_the_last_try_of_a_task_is_logged(program: Program, service: Service) -> None:
    [record] = run(program, service, "self.request.retries or self.retry(countdown=0)")
    assert record["was_successful"]
