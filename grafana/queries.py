"""The SQL of the dashboards. Predictions are counted in the aggregates; raw rows are read only to list single ones.

A range of time is covered as the service covers it: whole days from the day level, whole hours beside them, minutes
at both ends. Hidden variables hold the seams between them as literals, so that chunks are left out while planning:

    $__timeFrom()   $hours_from     $days_from      $days_to       $hours_to    $__timeTo()
         |  minutes      |    hours      |     days     |     hours    |   minutes   |

`$step` is the coarsest level in use (1m, 1h or 1d): no point of a series can be shorter.
"""

from __future__ import annotations


def sql(template: str, **parts: str) -> str:
    """Fill in the parts; each further line of a part is indented like the line that the part stands in."""
    lines = []
    for line in template.strip("\n").splitlines():
        indent = "\n" + line[: len(line) - len(line.lstrip())]
        for name, part in parts.items():
            line = line.replace(f"{{{name}}}", part.replace("\n", indent))
        lines.append(line)
    return "\n".join(lines)


COVER = """
SELECT {columns} FROM prediction_{family}_minute WHERE bucket >= $__timeFrom() AND bucket < '$hours_from'
UNION ALL
SELECT {columns} FROM prediction_{family}_hour   WHERE bucket >= '$hours_from' AND bucket < '$days_from'
UNION ALL
SELECT {columns} FROM prediction_{family}_day    WHERE bucket >= '$days_from'  AND bucket < '$days_to'
UNION ALL
SELECT {columns} FROM prediction_{family}_hour   WHERE bucket >= '$days_to'    AND bucket < '$hours_to'
UNION ALL
SELECT {columns} FROM prediction_{family}_minute WHERE bucket >= '$hours_to'   AND bucket < $__timeTo()
"""


def cover(name: str, columns: str, *families: str) -> str:
    """The rows of these families of tables over the range, as one relation."""
    parts = [sql(COVER, columns=columns, family=family) for family in families]
    return sql("(\n    {parts}\n) AS {name}", parts="\nUNION ALL\n".join(parts), name=name)


# What clients have summarised counts as predictions do.
STATS = cover(
    "stats",
    "bucket, model_name, model_version, total_requests, successful_requests, duration_ns_sum, duration_ms_min, "
    "duration_ms_max",
    "stats",
    "summary",
)
LATENCY = cover("latency", "bucket, model_name, model_version, bin, calls", "latency", "summary_latency")
DROPPED = cover("dropped", "*", "dropped")

# The selected predictions. An empty selection of models is an empty array, because IN () would be an error.
MODELS = "model_name = ANY (ARRAY[${model:sqlstring}]::text[])"
MODEL = "model_name = ${model:sqlstring}"
VERSION = "coalesce(nullif(model_version, ''), '(none)')"
VERSIONS = f"{MODEL}\n  AND  {VERSION} = ANY (ARRAY[${{version:sqlstring}}]::text[])"


# --- hidden variables -------------------------------------------------------------------------------------------------

STEP = """
SELECT CASE WHEN $__timeTo()::timestamptz - $__timeFrom() > INTERVAL '60 days' OR $__timeFrom() < hour_from   THEN '1d'
            WHEN $__timeTo()::timestamptz - $__timeFrom() > INTERVAL '2 days'  OR $__timeFrom() < minute_from THEN '1h'
            ELSE '1m'
       END
FROM   prediction_stats_state
"""

HOURS_FROM = """
SELECT CASE '$step'
       WHEN '1m'
       THEN $__timeTo()::timestamptz
       ELSE least($__timeTo(), date_trunc('hour', $__timeFrom()::timestamptz + INTERVAL '59:59.999999', 'UTC'))
       END::text
"""

HOURS_TO = """
SELECT greatest('$hours_from', date_trunc('hour', least($__timeTo(), watermark), 'UTC'))::text
FROM   prediction_stats_state
"""

DAYS_FROM = """
SELECT CASE '$step'
       WHEN '1d'
       THEN least('$hours_to', date_trunc('day', $__timeFrom()::timestamptz + INTERVAL '23:59:59.999999', 'UTC'))
       ELSE '$hours_to'
       END::text
"""

DAYS_TO = """
SELECT greatest('$days_from', date_trunc('day', least($__timeTo(), watermark), 'UTC'))::text
FROM   prediction_stats_state
"""

# --- variables to choose from -----------------------------------------------------------------------------------------

MODEL_NAMES = sql(
    """
SELECT DISTINCT model_name
FROM   {stats}
ORDER  BY 1
""",
    stats=STATS,
)

VERSION_NAMES = sql(
    """
SELECT DISTINCT {version} AS version
FROM   {stats}
WHERE  {where}
ORDER  BY 1
""",
    version=VERSION,
    stats=STATS,
    where=MODEL,
)


# --- counts -----------------------------------------------------------------------------------------------------------


def totals(columns: str, where: str) -> str:
    """One row of sums over all selected predictions."""
    query = "SELECT\n    {columns}\nFROM   {stats}\nWHERE  {where}"
    return sql(query, columns=columns, stats=STATS, where=where)


PREDICTIONS = 'coalesce(sum(total_requests), 0) AS "Predictions"'
ERROR_RATE = 'sum(total_requests - successful_requests) / nullif(sum(total_requests), 0) AS "Error rate"'
FAILED_SHARE = "sum(total_requests - successful_requests) / sum(total_requests)"
# Nanoseconds are rounded, and the mean must not be below the smallest duration.
MEAN_MS = (
    "least(greatest((sum(duration_ns_sum) / nullif(sum(total_requests), 0) / 1e6)::float8, min(duration_ms_min)), "
    "max(duration_ms_max))"
)
MEAN = f'{MEAN_MS} AS "Mean"'
LONGEST = 'max(duration_ms_max) AS "Longest"'


def outcomes_over_time(where: str) -> str:
    """Predictions that succeeded and predictions that failed, by point of time."""
    return sql(
        """
SELECT $__timeGroupAlias(bucket, $__interval),
       sum(successful_requests)                  AS "Succeeded",
       sum(total_requests - successful_requests) AS "Failed"
FROM   {stats}
WHERE  {where}
GROUP  BY 1
ORDER  BY 1
""",
        stats=STATS,
        where=where,
    )


def series_over_time(value: str, series: str, where: str) -> str:
    """A value by point of time, one series for each value of an expression."""
    return sql(
        """
SELECT $__timeGroupAlias(bucket, $__interval),
       {series} AS metric,
       {value} AS value
FROM   {stats}
WHERE  {where}
GROUP  BY 1, 2
ORDER  BY 1, 2
""",
        value=value,
        series=series,
        stats=STATS,
        where=where,
    )


COMPLETENESS = sql(
    """
SELECT predictions / nullif(predictions + dropped, 0) AS "Completeness"
FROM   (
    SELECT coalesce(sum(total_requests), 0) AS predictions
    FROM   {stats}
    WHERE  {where}
) AS counted
CROSS  JOIN (
    SELECT coalesce(sum(dropped), 0) AS dropped
    FROM   {dropped}
    WHERE  {where}
) AS lost
""",
    stats=STATS,
    dropped=DROPPED,
    where=MODELS,
)

DROPPED_OVER_TIME = sql(
    """
SELECT $__timeGroupAlias(bucket, $__interval),
       reason       AS metric,
       sum(dropped) AS value
FROM   {dropped}
WHERE  {where}
GROUP  BY 1, 2
ORDER  BY 1, 2
""",
    dropped=DROPPED,
    where=MODELS,
)


# --- percentiles ------------------------------------------------------------------------------------------------------

# A percentile is defined as for PostgreSQL's percentile_cont: of n predictions the one with rank p * (n - 1), counted
# from 0. If that rank lies between the last prediction of a bin and the first of the next bin, the percentile is
# interpolated. latency_of_bin() is within 1 % of every duration in a bin, and so is the percentile.
RANKED = """
WITH sketch AS (
    SELECT {columns},
           bin,
           sum(calls)::float8 AS predictions
    FROM   {latency}
    WHERE  {where}
    GROUP  BY {keys}, bin
), ranked AS (
    SELECT {keys},
           bin,
           coalesce(lead(bin) OVER up, bin)                AS next_bin,
           sum(predictions) OVER up                        AS up_to,
           sum(predictions) OVER (PARTITION BY {keys}) - 1 AS last
    FROM   sketch
    WINDOW up AS (PARTITION BY {keys} ORDER BY bin ROWS UNBOUNDED PRECEDING)
)
"""
PERCENTILE = """
min(
    latency_of_bin(bin)
    + greatest({p} * last - up_to + 1, 0) * (latency_of_bin(next_bin) - latency_of_bin(bin))
) FILTER (WHERE up_to > {p} * last)
"""
P50, P95, P99 = (sql(PERCENTILE, p=p) for p in ("0.50", "0.95", "0.99"))
PERCENTILES = f'{P50} AS "p50",\n{P95} AS "p95",\n{P99} AS "p99"'


def ranked(keys: str, columns: str, where: str) -> str:
    """The head of a query: bins of the sketch, by these keys, with the rank of the last prediction of each."""
    return sql(RANKED, keys=keys, columns=columns, latency=LATENCY, where=where)


def percentiles(where: str) -> str:
    """p50, p95 and p99 of all selected predictions."""
    return sql(
        """
{ranked}
SELECT
    {percentiles}
FROM   ranked
""",
        ranked=ranked("part", "'all' AS part", where),
        percentiles=PERCENTILES,
    )


def percentiles_over_time(where: str) -> str:
    """p50, p95 and p99 by point of time."""
    return sql(
        """
{ranked}
SELECT
    time,
    {percentiles}
FROM   ranked
GROUP  BY time
ORDER  BY time
""",
        ranked=ranked("time", "$__timeGroupAlias(bucket, $__interval)", where),
        percentiles=PERCENTILES,
    )


def p95_over_time(series: str, where: str) -> str:
    """p95 by point of time, one series for each value of an expression."""
    return sql(
        """
{ranked}
SELECT
    time,
    metric,
    {p95} AS value
FROM   ranked
GROUP  BY time, metric
ORDER  BY time, metric
""",
        ranked=ranked("time, metric", f"$__timeGroupAlias(bucket, $__interval),\n       {series} AS metric", where),
        p95=P95,
    )


def heat_map(where: str) -> str:
    """Predictions by point of time and duration, ten rows to a power of ten; each row is named by its upper edge in ms.

    The lowest row holds all that took less than 0.1 ms.
    """
    return sql(
        """
WITH cells AS (
    SELECT $__timeGroupAlias(bucket, $__interval),
           ceil(10 * log(greatest(latency_of_bin(bin), 0.1)))::integer AS edge,
           sum(calls)                                                  AS predictions
    FROM   {latency}
    WHERE  {where}
    GROUP  BY 1, 2
), edges AS (
    SELECT generate_series(min(edge), max(edge)) AS edge FROM cells
)
SELECT time,
       round(power(10, edge / 10.0), 4)::text AS metric,
       coalesce(predictions, 0)               AS value
FROM   (SELECT DISTINCT time FROM cells) AS times
CROSS  JOIN edges
LEFT   JOIN cells USING (time, edge)
ORDER  BY time, edge
""",
        latency=LATENCY,
        where=where,
    )


# --- share of fast predictions, histogram -----------------------------------------------------------------------------

# The share of predictions that took at most so many ms, as the service estimates it: of the bin that holds this
# duration, the predictions are divided as if they lay evenly in it. A bin ends at latency_of_bin() / 0.99.
LIMIT_MS = "${under_ms:sqlstring}::float8"
SHARE_UNDER = sql(
    """
sum(CASE
    WHEN bin < latency_bin({limit}) THEN calls
    WHEN bin = latency_bin({limit})
    THEN calls * coalesce(
        ({limit} - latency_of_bin(bin - 1) / 0.99) / nullif((latency_of_bin(bin) - latency_of_bin(bin - 1)) / 0.99, 0),
        1
    )
    ELSE 0
    END) / nullif(sum(calls), 0)
""",
    limit=LIMIT_MS,
)


def share_under(where: str) -> str:
    """The share of the selected predictions that took at most `$under_ms` milliseconds."""
    query = 'SELECT\n    {share} AS "Share"\nFROM   {latency}\nWHERE  {where}'
    return sql(query, share=SHARE_UNDER, latency=LATENCY, where=where)


def share_under_over_time(series: str, where: str) -> str:
    """The same by point of time, one series for each value of an expression."""
    return sql(
        """
SELECT $__timeGroupAlias(bucket, $__interval),
       {series} AS metric,
       {share}
       AS value
FROM   {latency}
WHERE  {where}
GROUP  BY 1, 2
ORDER  BY 1, 2
""",
        series=series,
        share=SHARE_UNDER,
        latency=LATENCY,
        where=where,
    )


def histogram(where: str) -> str:
    """Predictions by duration, ten bars to a power of ten; each is named by its upper edge in ms."""
    return sql(
        """
WITH bars AS (
    SELECT ceil(10 * log(greatest(latency_of_bin(bin), 0.1)))::integer AS edge,
           sum(calls)                                                  AS predictions
    FROM   {latency}
    WHERE  {where}
    GROUP  BY 1
), edges AS (
    SELECT generate_series(min(edge), max(edge)) AS edge FROM bars
)
SELECT to_char(power(10, edge / 10.0), 'FM999999990.0999') AS "Up to (ms)",
       coalesce(predictions, 0)                            AS "Predictions"
FROM   edges
LEFT   JOIN bars USING (edge)
ORDER  BY edge
""",
        latency=LATENCY,
        where=where,
    )


# --- tables -----------------------------------------------------------------------------------------------------------

MODELS_TABLE = sql(
    """
{ranked}, percentiles AS (
    SELECT
        model_name,
        {percentiles}
    FROM   ranked
    GROUP  BY model_name
), counted AS (
    SELECT model_name,
           sum(total_requests)                       AS predictions,
           sum(total_requests - successful_requests) AS failed,
           max(bucket)                               AS last_prediction
    FROM   {stats}
    WHERE  {where}
    GROUP  BY model_name
), lost AS (
    SELECT model_name,
           sum(dropped) AS dropped
    FROM   {dropped}
    WHERE  {where}
    GROUP  BY model_name
)
SELECT model_name                                                      AS "Model",
       coalesce(predictions, 0)                                        AS "Predictions",
       failed / predictions                                            AS "Error rate",
       "p50",
       "p95",
       "p99",
       coalesce(dropped, 0)                                            AS "Dropped",
       1 - coalesce(dropped / (coalesce(predictions, 0) + dropped), 0) AS "Completeness",
       last_prediction                                                 AS "Last prediction"
FROM   counted
LEFT   JOIN percentiles USING (model_name)
FULL   JOIN lost        USING (model_name)
ORDER  BY 2 DESC, 1
""",
    ranked=ranked("model_name", "model_name", MODELS),
    percentiles=PERCENTILES,
    stats=STATS,
    dropped=DROPPED,
    where=MODELS,
)

VERSIONS_TABLE = sql(
    """
{ranked}, percentiles AS (
    SELECT
        version,
        {percentiles}
    FROM   ranked
    GROUP  BY version
), counted AS (
    SELECT {version} AS version,
           sum(total_requests)                       AS predictions,
           sum(total_requests - successful_requests) AS failed,
           {mean}
                                                     AS mean_ms,
           min(bucket)                               AS first_prediction,
           max(bucket)                               AS last_prediction
    FROM   {stats}
    WHERE  {where}
    GROUP  BY 1
)
SELECT version                                AS "Version",
       predictions                            AS "Predictions",
       predictions / sum(predictions) OVER () AS "Share",
       failed / predictions                   AS "Error rate",
       mean_ms                                AS "Mean",
       "p50",
       "p95",
       "p99",
       first_prediction                       AS "First prediction",
       last_prediction                        AS "Last prediction"
FROM   counted
JOIN   percentiles USING (version)
ORDER  BY predictions DESC, version
""",
    ranked=ranked("version", f"{VERSION} AS version", VERSIONS),
    percentiles=PERCENTILES,
    version=VERSION,
    mean=MEAN_MS,
    stats=STATS,
    where=VERSIONS,
)

# Silence is measured up to the watermark, so that aggregates that lag behind make no model look silent. Citus joins
# nothing with a union of tables: so that is materialized.
SILENT_MODELS = """
WITH seen AS MATERIALIZED (
    SELECT model_name,
           max(bucket) AS last_prediction
    FROM  (SELECT model_name, bucket FROM prediction_stats_minute   WHERE bucket >= now() - INTERVAL '1 day'
           UNION ALL
           SELECT model_name, bucket FROM prediction_summary_minute WHERE bucket >= now() - INTERVAL '1 day') AS minutes
    GROUP  BY model_name
)
SELECT model_name                                                    AS "Model",
       last_prediction                                               AS "Last prediction",
       extract(epoch FROM least(now(), watermark) - last_prediction) AS "Silent for"
FROM   prediction_stats_state
CROSS  JOIN seen
WHERE  last_prediction < least(now(), watermark) - INTERVAL '$silent_after'
ORDER  BY 3
"""

SILENT_COUNT = sql('SELECT count(*) AS "Silent models"\nFROM   (\n    {silent}\n) AS silent', silent=sql(SILENT_MODELS))

AGGREGATES = """
SELECT extract(epoch FROM greatest(now() - watermark, INTERVAL '0')) AS "Lag",
       (SELECT count(*) FROM prediction_invalid_hour)                      AS "Hours to repair"
FROM   prediction_stats_state
"""


# --- single predictions -----------------------------------------------------------------------------------------------


def _single_predictions(condition: str, minutes: str, order: str, limit: int) -> str:
    """The first `limit` predictions in an order: they lie in its first `limit` minutes, and only these are read raw."""
    return sql(
        """
WITH minutes AS (
    SELECT bucket
    FROM   prediction_stats_minute
    WHERE  bucket >= $__timeFrom() AND bucket < $__timeTo()
      AND  bucket >= coalesce((SELECT raw_from FROM prediction_stats_state), '-infinity')
      AND  {where}
    GROUP  BY bucket
    {minutes}
    LIMIT  {limit}
)
SELECT timestamp   AS "Time",
       duration_ms AS "Duration",
       {version} AS "Version",
       CASE WHEN was_successful THEN 'succeeded' ELSE 'failed' END AS "Outcome",
       error       AS "Error",
       id::text    AS "Id"
FROM   minutes
CROSS  JOIN LATERAL (
    SELECT *
    FROM   prediction_log
    WHERE  timestamp >= bucket AND timestamp < bucket + INTERVAL '1 minute'
      AND  $__timeFilter(timestamp)
      AND  {where}
      AND  {condition}
    ORDER  BY {order}
    LIMIT  {limit}
) AS predictions
ORDER  BY {order}
LIMIT  {limit}
""",
        where=VERSIONS,
        version=VERSION,
        condition=condition,
        minutes=minutes,
        order=order,
        limit=str(limit),
    )


SLOWEST_PREDICTIONS = _single_predictions("true", "ORDER  BY max(duration_ms_max) DESC", "duration_ms DESC, id", 20)
FAILED_PREDICTIONS = _single_predictions(
    "NOT was_successful",
    "HAVING sum(total_requests - successful_requests) > 0\nORDER  BY bucket DESC",
    "timestamp DESC, id DESC",
    50,
)
