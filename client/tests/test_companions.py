"""What stands beside the client: a client for tests, a collector for Prometheus, a handler of the standard logging."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

import predlog
from conftest import Program
from misbehaving import Service
from predlog import Client
from predlog.handler import Handler
from predlog.testing import MemoryClient, predlog_client

__all__ = ["predlog_client"]


def test_a_memory_client_keeps_what_would_be_sent(predlog_client: MemoryClient) -> None:
    predlog_client.log("a", duration_ms=1, was_successful=True, metadata={"x": {1}})
    with pytest.raises(ZeroDivisionError), predlog_client.track("b", version=3):
        raise ZeroDivisionError
    with predlog_client.context(user="u"), predlog_client.track("b"):
        pass
    assert predlog_client.flush() and predlog_client.close()
    (first,), failed, last = predlog_client.of("a"), *predlog_client.of("b")
    assert first["metadata"] == {"x": [1]} and first["request_id"] and first["timestamp"]
    assert (failed["error"], failed["model_version"]) == ("ZeroDivisionError", "3") and last["metadata"] == {
        "user": "u"
    }
    predlog_client.clear()
    assert predlog_client.records == []


def test_a_memory_client_raises_for_what_would_be_rejected() -> None:
    with pytest.raises(ValueError, match="duration_ms"):
        MemoryClient().log("a", duration_ms=cast(Any, "fast"), was_successful=True)


def test_a_memory_client_takes_the_options_of_a_client() -> None:
    client = MemoryClient(version="7", before_send=lambda record: None if record["model_name"] == "no" else record)
    for name in ("no", "yes"):
        client.log(name, duration_ms=1, was_successful=True)
    assert [(record["model_name"], record["model_version"]) for record in client.records] == [("yes", "7")]


def test_the_fixture_is_found_by_pytest_without_the_clients_own_tests(tmp_path: Path, program: Program) -> None:
    program.write("conftest.py", 'pytest_plugins = ["predlog.testing"]')
    program.write(
        "test_it.py",
        """
        def test_it(predlog_client):
            predlog_client.log("m", duration_ms=1, was_successful=True)
            assert len(predlog_client.records) == 1
        """,
    )
    process = program.start("-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py")
    out, _ = process.communicate(timeout=120)
    assert "1 passed" in out, out


def test_prometheus_reads_the_figures_of_a_client(service: Service, make_client: Callable[..., Client]) -> None:
    prometheus = pytest.importorskip("prometheus_client")
    from predlog.prometheus import Collector

    client = make_client()
    client.log("m", duration_ms=1, was_successful=True)
    client.log("m", duration_ms=-1, was_successful=True)
    assert client.flush()
    registry = prometheus.CollectorRegistry()
    registry.register(Collector(client, "prices"))
    labels = {"client": "prices"}
    assert registry.get_sample_value("predlog_client_sent_total", labels) == 1
    assert registry.get_sample_value("predlog_client_queued", labels) == 0
    assert registry.get_sample_value("predlog_client_dropped_total", {**labels, "reason": "rejected"}) == 1
    assert registry.get_sample_value("predlog_client_dropped_total", {**labels, "reason": "exit"}) == 0


def test_prometheus_reads_several_clients_by_name(make_client: Callable[..., Client]) -> None:
    prometheus = pytest.importorskip("prometheus_client")
    from predlog.prometheus import Collector

    prices, churn = make_client(), make_client()
    churn.log("m", duration_ms=1, was_successful=True)
    assert churn.flush()
    collector = Collector(prices, "prices")
    registry = prometheus.CollectorRegistry()
    registry.register(collector)
    collector.add(churn, "churn")
    assert registry.get_sample_value("predlog_client_sent_total", {"client": "prices"}) == 0
    assert registry.get_sample_value("predlog_client_sent_total", {"client": "churn"}) == 1
    families = [family.name for family in registry.collect()]
    assert len(families) == len(set(families))
    with pytest.raises(ValueError, match="churn"):
        collector.add(prices, "churn")


def test_the_client_itself_needs_nothing_but_the_standard_library(program: Program) -> None:
    out = (
        program.run("""
        import sys
        import predlog, predlog.handler
        others = {name.partition(".")[0] for name in sys.modules} - set(sys.stdlib_module_names) - {"predlog"}
        print(sorted(name for name in others if not name.startswith(("_", "sitecustomize"))))
    """)
        if hasattr(sys, "stdlib_module_names")
        else "[]"
    )
    assert out.strip() == "[]"


@pytest.fixture
def logger(predlog_client: MemoryClient) -> Any:
    logger = logging.Logger("m")
    logger.addHandler(Handler(predlog_client))
    return logger


def test_lines_that_carry_the_fields_of_a_call_are_logged_as_predictions(
    logger: logging.Logger, predlog_client: MemoryClient
) -> None:
    prediction = {"model_name": "m", "duration_ms": 12.5}
    logger.info("nothing about a prediction")
    logger.info("done", extra={"predlog": {**prediction, "metadata": {"rooms": 3}}})
    logger.error("no such %s", "street", extra={"predlog": prediction})
    try:
        raise ValueError("bad")
    except ValueError:
        logger.exception("failed", extra={"predlog": prediction})
    found = [(record["was_successful"], record.get("error")) for record in predlog_client.records]
    assert found == [(True, None), (False, "no such street"), (False, "ValueError: bad")]
    assert predlog_client.records[0]["metadata"] == {"rooms": 3}


def test_a_line_with_wrong_fields_is_an_error_of_logging_and_not_of_the_host(
    logger: logging.Logger, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.info("done", extra={"predlog": {"model": "m"}})
    assert "TypeError" in capsys.readouterr().err
    assert predlog.Client(enabled=False).flush()
