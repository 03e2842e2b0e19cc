-- The statistics as continuous aggregates; prediction_latency_… are made like these.

CREATE MATERIALIZED VIEW prediction_stats_minute
WITH   (timescaledb.continuous, timescaledb.materialized_only = true, timescaledb.create_group_indexes = false)
AS
SELECT time_bucket('1 minute', timestamp)          AS bucket,
       model_name,
       model_version,
       count(*)                                    AS total_requests,
       count(*) FILTER (WHERE was_successful)      AS successful_requests,
       coalesce(sum(duration_ns(duration_ms)), 0)
       + coalesce(sum(long_duration_ns(duration_ms)), 0) AS duration_ns_sum,
       min(duration_ms)                            AS duration_ms_min,
       max(duration_ms)                            AS duration_ms_max
FROM   prediction_log
GROUP  BY 1, 2, 3
WITH   NO DATA;

SELECT set_chunk_time_interval('prediction_stats_minute', INTERVAL '7 days');
CREATE INDEX ON prediction_stats_minute (model_name, bucket);

CREATE MATERIALIZED VIEW prediction_stats_hour
WITH   (timescaledb.continuous, timescaledb.materialized_only = true, timescaledb.create_group_indexes = false)
AS
SELECT time_bucket('1 hour', bucket) AS bucket,
       model_name,
       model_version,
       sum(total_requests)::bigint                 AS total_requests,
       sum(successful_requests)::bigint            AS successful_requests,
       sum(duration_ns_sum)                        AS duration_ns_sum,
       min(duration_ms_min)                        AS duration_ms_min,
       max(duration_ms_max)                        AS duration_ms_max
FROM   prediction_stats_minute
GROUP  BY 1, 2, 3
WITH   NO DATA;

SELECT set_chunk_time_interval('prediction_stats_hour', INTERVAL '7 days');
CREATE INDEX ON prediction_stats_hour (model_name, bucket);

CREATE MATERIALIZED VIEW prediction_stats_day
WITH   (timescaledb.continuous, timescaledb.materialized_only = true, timescaledb.create_group_indexes = false)
AS
SELECT time_bucket('1 day', bucket) AS bucket,
       model_name,
       model_version,
       sum(total_requests)::bigint                 AS total_requests,
       sum(successful_requests)::bigint            AS successful_requests,
       sum(duration_ns_sum)                        AS duration_ns_sum,
       min(duration_ms_min)                        AS duration_ms_min,
       max(duration_ms_max)                        AS duration_ms_max
FROM   prediction_stats_hour
GROUP  BY 1, 2, 3
WITH   NO DATA;

SELECT set_chunk_time_interval('prediction_stats_day', INTERVAL '28 days');
CREATE INDEX ON prediction_stats_day (model_name, bucket);
