"""The table of client/README.md: `python -m hosts.table [--write] [NAME…]` runs the hosts and prints how it went.

`pytest tests/hosts --write-table` runs them as tests, and writes the rows of those that passed.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping
from pathlib import Path

from hosts.hosts import HOSTS
from hosts.run import Host, Result, python_for, run
from hosts.service import running

README = Path(__file__).resolve().parents[2] / "README.md"
HEAD = "| host | what to do | sent | stored | dropped, and counted | exit |\n|---|---|---|---|---|---|\n"
TABLE = re.compile(re.escape(HEAD) + r"((?:\|.*\|\n)*)")


def row(host: Host, result: Result) -> str:
    """A row of the table."""
    figures = f"{result.sent:,} | {result.stored:,} | {result.dropped:,} | {result.seconds:.1f} s"
    return f"| {host.name} | {host.advice} | {figures} |\n"


def rows(readme: str) -> dict[str, str]:
    """The rows that the README has, by host."""
    table = TABLE.search(readme)
    assert table is not None, "the README has no table of hosts"
    return {line.split("|")[1].strip(): line for line in table[1].splitlines(keepends=True)}


def write(table: Mapping[str, str]) -> None:
    """Put these rows into the README, in the order of the hosts."""
    text = HEAD + "".join(table[host.name] for host in HOSTS if host.name in table)
    README.write_text(TABLE.sub(lambda _: text, README.read_text()))


def main() -> None:
    """Hosts that are not installed, or not asked for, keep the rows that they have."""
    parser = argparse.ArgumentParser(prog="python -m hosts.table", description=main.__doc__)
    parser.add_argument("--write", action="store_true", help="into client/README.md")
    parser.add_argument("name", nargs="*", help="of a host, or a part of it; default: all")
    arguments = parser.parse_args()
    table = rows(README.read_text())
    with running() as service:
        for host in HOSTS:
            if arguments.name and not any(name in host.name for name in arguments.name):
                continue
            if python_for(host) is None:
                print(f"not installed: {', '.join(host.needs)}: {host.name}")
                continue
            table[host.name] = row(host, run(host, service))
            print(table[host.name], end="", flush=True)
    if arguments.write:
        write(table)


if __name__ == "__main__":
    main()
