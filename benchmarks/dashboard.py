"""How fast the overview of a thousand models is, in a headless Chromium with an empty cache, and again with a full one.

    [DATABASE_URL=postgresql://…] python -m benchmarks.dashboard [--engine plain] [--models 1000] [--rounds 7]

Times count from the opening of the address: `first paint` is the browser's first contentful paint, at `rows` the models
and their counts are shown, at `figures` their percentiles, too. `transferred` is all bytes over the wire until silence
and sparklines are shown.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.common import connect, database, migrate, server, service
from tests.support.browser import chromium, wait_for

FILL = """
INSERT INTO prediction_log (timestamp, model_name, model_version, duration_ms, was_successful)
SELECT now() - random() * INTERVAL '24 hours', 'model-' || m, '1', exp(3 + random() * 3), random() > 0.01
FROM   generate_series(1, %(models)s) AS m, generate_series(1, %(calls)s)
"""
TIMES = """
const paint = performance.getEntriesByName('first-contentful-paint')[0].startTime;
const figures = performance.getEntriesByName('figures')[0].startTime;
const rows = performance.getEntriesByName('rows')[0]?.startTime ?? figures;
const bytes = [...performance.getEntriesByType('navigation'), ...performance.getEntriesByType('resource')]
  .reduce((sum, entry) => sum + entry.transferSize, 0);
return [paint, rows, figures, bytes / 1000];
"""


def main() -> None:
    """Print the medians and the slowest."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = "timescale" if "DATABASE_URL" in os.environ else "plain"
    parser.add_argument("--engine", choices=["plain", "timescale"], default=default)
    parser.add_argument("--models", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    with server(options.engine) as admin, database(admin, "predlog_benchmark_dashboard") as dsn:
        migrate(dsn)
        with connect(dsn) as connection:
            connection.cursor().execute(FILL, vars(options))
            connection.cursor().execute("VACUUM ANALYZE")
        with service(dsn, 2) as port, tempfile.TemporaryDirectory() as profile, chromium(Path(profile)) as browser:
            url = f"http://127.0.0.1:{port}/dashboard"
            _open(browser, url)  # the first connections of the service
            print(f"{'':<12}{'first paint':>20}{'rows':>20}{'figures':>20}{'transferred':>20}")
            for name, is_cold in (("empty cache", True), ("full cache", False)):
                _print(name, [_open(browser, url, is_cold) for _ in range(options.rounds)])


def _open(browser: Any, url: str, is_cold: bool = False) -> list[float]:
    if is_cold:
        browser.execute_cdp_cmd("Network.clearBrowserCache", {})
    browser.get("about:blank")
    browser.get(url)
    wait_for(browser, "document.documentElement.dataset.state === 'ready'")
    return list(browser.execute_script(TIMES))


def _print(name: str, rounds: list[list[float]]) -> None:
    cells = []
    for unit, values in zip(("ms", "ms", "ms", "kB"), zip(*rounds)):
        cells.append(f"{statistics.median(values):.0f} ({max(values):.0f}) {unit}")
    print(f"{name:<12}" + "".join(f"{cell:>20}" for cell in cells))


if __name__ == "__main__":
    main()
