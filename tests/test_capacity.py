"""`flask capacity`."""

from __future__ import annotations

from collections.abc import Callable

from app.domain.capacity import BYTES_ON_CITUS
from conftest import Server, make_app


def test_it_names_servers_and_what_it_assumes(servers: Callable[[str], Server]) -> None:
    runner = make_app(servers("plain").url).test_cli_runner()
    output = runner.invoke(args=["capacity", "--calls-per-day", "1e9", "--batch", "10000", "--peak", "2"]).output
    assert "11,574 predictions a second on average, 23,148 in the busiest" in output
    assert "TimescaleDB" in output and "Citus" in output and "1 coordinator" in output
    assert "2 × the predictions of a mean one; batches have 10,000 predictions" in output
    assert f"{BYTES_ON_CITUS} bytes" in output


def test_nonsense_is_refused(servers: Callable[[str], Server]) -> None:
    runner = make_app(servers("plain").url).test_cli_runner()
    for arguments in ([], ["--calls-per-day", "-1"], ["--calls-per-day", "many"]):
        assert runner.invoke(args=["capacity", *arguments]).exit_code == 2
