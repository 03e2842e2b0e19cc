"""`flask capacity`."""

from __future__ import annotations

from collections.abc import Callable

import click
import pytest
from click.testing import CliRunner

from app.commands.capacity import command
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


RANGES = {
    each.opts[0]: each.type for each in command.params if isinstance(each.type, (click.FloatRange, click.IntRange))
}


@pytest.mark.parametrize("option", RANGES)
def test_a_number_that_nothing_can_be_reckoned_from_is_refused(option: str) -> None:
    for number in ("nan", "inf", "1e300", "9" * 400):
        refused = CliRunner().invoke(command, ["--calls-per-day", "1e9", option, number])
        assert refused.exit_code == 2, number
        assert f"Invalid value for '{option}'" in refused.stderr


@pytest.mark.parametrize("bound", ["min", "max"])
def test_the_largest_and_the_smallest_numbers_are_reckoned_with(bound: str) -> None:
    arguments = [word for option, kind in RANGES.items() for word in (option, str(getattr(kind, bound)))]
    done = CliRunner().invoke(command, arguments)
    assert done.exit_code == 0, done.output
    assert "1 coordinator" in done.output
