"""Every row of the README's table of hosts is a host that is run here, and whatever it loses is counted."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from hosts import service as real
from hosts.hosts import HOSTS
from hosts.run import python_for, run
from hosts.table import README, row, rows, write


@pytest.fixture(scope="module")
def real_service() -> Iterator[Any]:
    if not real.is_here():
        pytest.skip("the service is not beside the client")
    with real.running() as service:
        yield service


@pytest.fixture(scope="module")
def table(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The rows of the README, and with --write-table those that the tests have replaced are written back."""
    found = rows(README.read_text())
    yield found
    if request.config.getoption("--write-table"):
        write(found)


def assert_all_is_known(host: Any, sent: Any, stored: Any, dropped: Any, said: str = "") -> None:
    """What is in a request at the moment of a kill may be stored and counted as dropped all the same."""
    is_known = (stored, dropped) == (sent, 0) or (host.loses and stored + dropped >= sent)
    assert is_known, f"sent {sent}, stored {stored}, dropped {dropped}\n{said}"


@pytest.mark.timeout(300)
@pytest.mark.parametrize("host", HOSTS, ids=[host.name for host in HOSTS])
def test_what_a_host_sent_is_stored_or_counted_as_dropped(host: Any, real_service: Any, table: dict[str, str]) -> None:
    if python_for(host) is None:
        pytest.skip(f"not installed: {', '.join(host.needs)} (make test-hosts)")
    result = run(host, real_service)
    assert_all_is_known(host, result.sent, result.stored, result.dropped, result.said)
    table[host.name] = row(host, result)


def test_the_readme_has_a_row_for_each_host_and_none_else() -> None:
    readme = README.read_text()
    assert list(rows(readme)) == [host.name for host in HOSTS]
    for host in HOSTS:
        advice, *counts = (cell.strip() for cell in rows(readme)[host.name].split("|")[2:6])
        sent, stored, dropped = (int(count.replace(",", "")) for count in counts)
        assert advice == host.advice and sent == host.sent
        assert_all_is_known(host, host.sent, stored, dropped)
