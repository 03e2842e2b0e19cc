"""Write the dashboards: `python grafana/build.py` makes dashboards/*.json anew.

To change a panel, change it here or in queries.py, run this, and commit both; a test holds them together.
"""

from __future__ import annotations

import json
from pathlib import Path

import panels as p
import queries as q

FOLDER = Path(__file__).parent / "dashboards"

ERRORS = p.levels(0.01, 0.05)
COMPLETE = p.levels(0.99, 0.9999, p.LOWER_IS_WORSE)
WITHIN_1_PERCENT = "Read from the latency sketch: each percentile is within 1 % of the true one."
SHARE = "At most $under_ms ms"
SHARE_OF = (
    "Share of the predictions that took at most so long, any number of ms: only those within 1 % of it are in doubt."
)
FAST = p.levels(0.95, 0.99, p.LOWER_IS_WORSE)
UNDER_MS = p.number("under_ms", "At most (ms)", "200")
BY_POINT = "One bar for each point of time."
LOGGED = "Predictions that were logged in the range."
FAILED = "Share of the predictions that failed."
SILENT = "Models with predictions within a day, but none lately. Neither the range nor the choice of models matters."

SEAMS = [
    p.query_variable("step", q.STEP, hidden=True),
    p.query_variable("hours_from", q.HOURS_FROM, hidden=True),
    p.query_variable("hours_to", q.HOURS_TO, hidden=True),
    p.query_variable("days_from", q.DAYS_FROM, hidden=True),
    p.query_variable("days_to", q.DAYS_TO, hidden=True),
]


def overview() -> p.Json:
    """All models side by side, and how complete their predictions are."""
    where = q.MODELS
    link = {
        "title": "Show this model",
        "url": "/d/predlog-model?var-model=${__value.raw:percentencode}&${__url_time_range}",
    }
    variables = [
        *SEAMS,
        p.query_variable("model", q.MODEL_NAMES, label="Model", multi=True),
        UNDER_MS,
        p.choice("silent_after", "Silent after", ["5 minutes", "15 minutes", "1 hour", "6 hours"], "15 minutes"),
    ]
    rows = [
        [
            p.stat("Predictions", q.totals(q.PREDICTIONS, where), 3, LOGGED, "short"),
            p.stat("Error rate", q.totals(q.ERROR_RATE, where), 3, FAILED, "percentunit", ERRORS, decimals=2),
            p.stat("Latency", q.percentiles(where), 7, WITHIN_1_PERCENT, "ms"),
            p.stat(
                "Completeness", q.COMPLETENESS, 3,
                "Logged predictions as a share of these and of those that clients had to drop and reported.",
                "percentunit", COMPLETE, decimals=3,
            ),
            p.stat("Silent models", q.SILENT_COUNT, 3, SILENT, "short", p.levels(1, 3)),
            p.stat(
                "Aggregates", q.AGGREGATES, 5,
                "How far the aggregates lag behind, which is up to two minutes on TimescaleDB and nothing on plain "
                "PostgreSQL; and how many hours changed since they were materialised and wait to be repaired.",
                "short", decimals=0,
                columns={
                    "Lag": {"unit": "s", "thresholds": p.levels(180, 600)},
                    "Hours to repair": {"thresholds": p.levels(24, 240)},
                },
            ),
        ],
        [
            p.time_series(
                "Predictions", q.outcomes_over_time(where), 12, BY_POINT, "short",
                {"Succeeded": p.PREDICTIONS, "Failed": p.FAILURES}, bars=True,
            ),
            p.time_series("Latency", q.percentiles_over_time(where), 12, WITHIN_1_PERCENT, "ms", p.LATENCIES),
        ],
        p.heading("By model"),
        [
            p.table(
                "Models", q.MODELS_TABLE, 24, 9, "A click on a name shows that model.",
                {
                    "Model": {"links": [link]}, "Predictions": p.WHOLE, "Error rate": p.share(ERRORS),
                    "p50": p.MILLISECONDS, "p95": p.MILLISECONDS, "p99": p.MILLISECONDS, "Dropped": p.WHOLE,
                    "Completeness": p.share(COMPLETE), "Last prediction": p.AGO,
                },
            ),
        ],
        [
            p.time_series(
                "Error rate by model", q.series_over_time(q.FAILED_SHARE, "model_name", where), 8,
                FAILED, "percentunit",
            ),
            p.time_series("p95 by model", q.p95_over_time("model_name", where), 8, WITHIN_1_PERCENT, "ms"),
            p.time_series(
                f"{SHARE}, by model", q.share_under_over_time("model_name", where), 8, SHARE_OF, "percentunit"
            ),
        ],
        p.heading("What may be missing"),
        [
            p.table(
                "Silent models", q.SILENT_MODELS, 12, 9, SILENT,
                {"Last prediction": p.MOMENT, "Silent for": {"unit": "s", "decimals": 0}},
            ),
            p.time_series(
                "Dropped predictions", q.DROPPED_OVER_TIME, 12,
                "Predictions that clients could not log, by reason, at the time of each.", "short", bars=True,
            ),
        ],
    ]  # fmt: skip
    return p.dashboard(
        "predlog-overview", "Predlog: overview", "All models that log their predictions.", variables, rows
    )


def model() -> p.Json:
    """One model: its durations, its versions compared, and predictions to look at."""
    where = q.VERSIONS
    variables = [
        *SEAMS,
        p.query_variable("model", q.MODEL_NAMES, label="Model"),
        p.query_variable("version", q.VERSION_NAMES, label="Version", multi=True),
        UNDER_MS,
    ]
    predictions: dict[str, p.Json] = {
        "Time": p.MOMENT, "Duration": p.MILLISECONDS, "Version": {"custom_width": 120}, "Id": {"custom_width": 120},
        "Outcome": {
            "custom_cellOptions": {"type": "color-text"}, "custom_width": 110,
            "mappings": [
                {"type": "value", "options": {"failed": {"color": p.FAILURES}, "succeeded": {"color": p.PREDICTIONS}}}
            ],
        },
    }  # fmt: skip
    rows = [
        [
            p.stat("Predictions", q.totals(q.PREDICTIONS, where), 4, LOGGED, "short"),
            p.stat("Error rate", q.totals(q.ERROR_RATE, where), 4, FAILED, "percentunit", ERRORS, decimals=2),
            p.stat("Latency", q.percentiles(where), 7, WITHIN_1_PERCENT, "ms"),
            p.stat(SHARE, q.share_under(where), 4, SHARE_OF, "percentunit", FAST, decimals=2),
            p.stat(
                "Mean and longest", q.totals(f"{q.MEAN},\n{q.LONGEST}", where), 5, "Exact, of all predictions.", "ms"
            ),
        ],
        [
            p.heat_map(
                "Latency heat map", q.heat_map(where), 16,
                "How many predictions took how long; the rows are a tenth of a power of ten high.",
            ),
            p.bars(
                "Histogram", q.histogram(where), 8, 10,
                "How many predictions of the range took how long; the bars are a tenth of a power of ten wide.",
                "Up to (ms)",
            ),
        ],
        [
            p.time_series(
                "Predictions", q.outcomes_over_time(where), 6, BY_POINT, "short",
                {"Succeeded": p.PREDICTIONS, "Failed": p.FAILURES}, bars=True,
            ),
            p.time_series(
                "Error rate", q.series_over_time(q.FAILED_SHARE, "'Error rate'", where), 6,
                FAILED, "percentunit", {"Error rate": p.FAILURES},
            ),
            p.time_series("Percentiles", q.percentiles_over_time(where), 6, WITHIN_1_PERCENT, "ms", p.LATENCIES),
            p.time_series(
                SHARE, q.share_under_over_time("'Share'", where), 6, SHARE_OF, "percentunit", {"Share": p.PREDICTIONS}
            ),
        ],
        p.heading("Versions"),
        [
            p.table(
                "Versions", q.VERSIONS_TABLE, 24, 7, "The chosen versions compared over the whole range.",
                {
                    "Predictions": p.WHOLE, "Share": p.share(), "Error rate": p.share(ERRORS), "Mean": p.MILLISECONDS,
                    "p50": p.MILLISECONDS, "p95": p.MILLISECONDS, "p99": p.MILLISECONDS,
                    "First prediction": p.MOMENT, "Last prediction": p.MOMENT,
                },
            ),
        ],
        [
            p.time_series(
                "Predictions by version", q.series_over_time("sum(total_requests)", q.VERSION, where), 8, BY_POINT,
                "short", bars=True,
            ),
            p.time_series(
                "Error rate by version", q.series_over_time(q.FAILED_SHARE, q.VERSION, where), 8,
                FAILED, "percentunit",
            ),
            p.time_series("p95 by version", q.p95_over_time(q.VERSION, where), 8, WITHIN_1_PERCENT, "ms"),
        ],
        p.heading("Single predictions"),
        [
            p.table(
                "Slowest predictions", q.SLOWEST_PREDICTIONS, 12, 11,
                "The 20 slowest of the range, as far as raw rows are kept.", predictions,
            ),
            p.table(
                "Failed predictions", q.FAILED_PREDICTIONS, 12, 11,
                "The 50 latest of the range, as far as raw rows are kept.",
                {**predictions, "Outcome": {"custom_hidden": True}},
            ),
        ],
    ]  # fmt: skip
    return p.dashboard("predlog-model", "Predlog: model", "One model and its versions.", variables, rows)


def files() -> dict[Path, str]:
    """The dashboards' files and what belongs into them."""
    dashboards = {"overview.json": overview(), "model.json": model()}
    return {FOLDER / name: json.dumps(body, indent=2, ensure_ascii=False) + "\n" for name, body in dashboards.items()}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
