-- Add new rows to the rollups and their models to the names, in the transaction of their insert, and refuse new rows
-- behind the retention edge: one trigger for all, which looks for its shards once. It runs on a shard and writes to the
-- shards beside it; a statement about several models runs it on every shard, also on those that it adds nothing to.
-- Inserts share the lock, and a delete has it alone: nobody adds to a bucket while a delete computes it anew.
-- Rows are added in the order of their keys, so that two statements lock common rollup rows in the same order. Hours are
-- made of the minutes of this statement, and days of its hours. One statement, because each is planned anew.
CREATE OR REPLACE FUNCTION prediction_log_added() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    shard  text[];
    edge   timestamptz;
BEGIN
    IF NOT EXISTS (SELECT FROM touched) THEN
        RETURN NULL;
    END IF;
    shard := prediction_shards(tg_table_name, 'prediction_stats_minute', 'prediction_stats_hour', 'prediction_stats_day',
                               'prediction_latency_minute', 'prediction_latency_hour', 'prediction_latency_day',
                               'prediction_model', 'prediction_stats_lock', 'prediction_stats_state');
    EXECUTE format('SELECT raw_from FROM %s', shard[9]) INTO edge;
    IF edge IS NOT NULL AND EXISTS (SELECT FROM touched WHERE timestamp < edge) THEN
        RAISE EXCEPTION 'older than the retention edge %', edge USING ERRCODE = 'PL001', DETAIL = edge;
    END IF;
    EXECUTE format('LOCK TABLE %s IN ROW EXCLUSIVE MODE', shard[8]);
    EXECUTE format($add$
        WITH minute_bins AS MATERIALIZED (
            SELECT date_bin('1 minute', timestamp, 'epoch') AS bucket, model_name, model_version,
                   latency_bin(duration_ms)               AS bin,
                   count(*)                               AS calls,
                   count(*) FILTER (WHERE was_successful) AS successful,
                   coalesce(sum(duration_ns(duration_ms)), 0)
                   + coalesce(sum(long_duration_ns(duration_ms)), 0) AS total,
                   min(duration_ms)                       AS low,
                   max(duration_ms)                       AS high
            FROM   touched
            GROUP  BY 1, 2, 3, 4
        ), hour_bins AS MATERIALIZED (
            SELECT date_bin('1 hour', bucket, 'epoch') AS bucket, model_name, model_version, bin, sum(calls) AS calls,
                   sum(successful) AS successful, sum(total) AS total, min(low) AS low, max(high) AS high
            FROM   minute_bins
            GROUP  BY 1, 2, 3, 4
        ), day_bins AS MATERIALIZED (
            SELECT date_bin('24 hours', bucket, 'epoch') AS bucket, model_name, model_version, bin, sum(calls) AS calls,
                   sum(successful) AS successful, sum(total) AS total, min(low) AS low, max(high) AS high
            FROM   hour_bins
            GROUP  BY 1, 2, 3, 4
        ), named AS (
            INSERT INTO %7$s (model_name, model_version)
            SELECT DISTINCT model_name, model_version COLLATE "C"
            FROM   day_bins
            ORDER  BY 1, 2
            ON CONFLICT DO NOTHING
        ), stats_minute AS (
            INSERT INTO %1$s AS s
            SELECT bucket, model_name, model_version, sum(calls), sum(successful), sum(total), min(low), max(high)
            FROM   minute_bins
            GROUP  BY 1, 2, 3
            ORDER  BY 2, 1, 3
            ON CONFLICT (model_name, bucket, model_version) DO UPDATE
            SET total_requests      = s.total_requests      + excluded.total_requests,
                successful_requests = s.successful_requests + excluded.successful_requests,
                duration_ns_sum     = s.duration_ns_sum     + excluded.duration_ns_sum,
                duration_ms_min     = least(s.duration_ms_min,    excluded.duration_ms_min),
                duration_ms_max     = greatest(s.duration_ms_max, excluded.duration_ms_max)
        ), stats_hour AS (
            INSERT INTO %2$s AS s
            SELECT bucket, model_name, model_version, sum(calls), sum(successful), sum(total), min(low), max(high)
            FROM   hour_bins
            GROUP  BY 1, 2, 3
            ORDER  BY 2, 1, 3
            ON CONFLICT (model_name, bucket, model_version) DO UPDATE
            SET total_requests      = s.total_requests      + excluded.total_requests,
                successful_requests = s.successful_requests + excluded.successful_requests,
                duration_ns_sum     = s.duration_ns_sum     + excluded.duration_ns_sum,
                duration_ms_min     = least(s.duration_ms_min,    excluded.duration_ms_min),
                duration_ms_max     = greatest(s.duration_ms_max, excluded.duration_ms_max)
        ), stats_day AS (
            INSERT INTO %3$s AS s
            SELECT bucket, model_name, model_version, sum(calls), sum(successful), sum(total), min(low), max(high)
            FROM   day_bins
            GROUP  BY 1, 2, 3
            ORDER  BY 2, 1, 3
            ON CONFLICT (model_name, bucket, model_version) DO UPDATE
            SET total_requests      = s.total_requests      + excluded.total_requests,
                successful_requests = s.successful_requests + excluded.successful_requests,
                duration_ns_sum     = s.duration_ns_sum     + excluded.duration_ns_sum,
                duration_ms_min     = least(s.duration_ms_min,    excluded.duration_ms_min),
                duration_ms_max     = greatest(s.duration_ms_max, excluded.duration_ms_max)
        ), latency_minute AS (
            INSERT INTO %4$s AS s
            SELECT bucket, model_name, model_version, bin, calls FROM minute_bins ORDER BY 2, 1, 3, 4
            ON CONFLICT (model_name, bucket, model_version, bin) DO UPDATE SET calls = s.calls + excluded.calls
        ), latency_hour AS (
            INSERT INTO %5$s AS s
            SELECT bucket, model_name, model_version, bin, calls FROM hour_bins ORDER BY 2, 1, 3, 4
            ON CONFLICT (model_name, bucket, model_version, bin) DO UPDATE SET calls = s.calls + excluded.calls
        )
        INSERT INTO %6$s AS s
        SELECT bucket, model_name, model_version, bin, calls FROM day_bins ORDER BY 2, 1, 3, 4
        ON CONFLICT (model_name, bucket, model_version, bin) DO UPDATE SET calls = s.calls + excluded.calls
    $add$, VARIADIC shard);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_log_added AFTER INSERT ON prediction_log
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_added();
