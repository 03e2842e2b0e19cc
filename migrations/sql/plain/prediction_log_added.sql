-- Add new rows to the rollups, in the transaction of their insert.
-- Inserts share the lock, and a delete has it alone: nobody adds to a bucket while a delete computes it anew.
-- Rows are added in the order of their keys, so that two statements lock common rollup rows in the same order.
CREATE OR REPLACE FUNCTION prediction_log_added() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    LOCK TABLE prediction_stats_lock IN ROW EXCLUSIVE MODE;

    INSERT INTO prediction_stats_minute AS s
    SELECT date_bin('1 minute', timestamp, 'epoch') AS bucket,
           model_name,
           model_version,
           count(*),
           count(*) FILTER (WHERE was_successful),
           coalesce(sum(duration_ns(duration_ms)), 0) + coalesce(sum(long_duration_ns(duration_ms)), 0),
           min(duration_ms),
           max(duration_ms)
    FROM   touched
    GROUP  BY 1, 2, 3
    ORDER  BY 2, 1, 3
    ON CONFLICT (model_name, bucket, model_version) DO UPDATE
    SET total_requests      = s.total_requests      + excluded.total_requests,
        successful_requests = s.successful_requests + excluded.successful_requests,
        duration_ns_sum     = s.duration_ns_sum     + excluded.duration_ns_sum,
        duration_ms_min     = least(s.duration_ms_min,    excluded.duration_ms_min),
        duration_ms_max     = greatest(s.duration_ms_max, excluded.duration_ms_max);

    INSERT INTO prediction_latency_minute AS s
    SELECT date_bin('1 minute', timestamp, 'epoch') AS bucket, model_name, model_version,
           latency_bin(duration_ms) AS bin, count(*) AS calls
    FROM   touched
    GROUP  BY 1, 2, 3, 4
    ORDER  BY 2, 1, 3, 4
    ON CONFLICT (model_name, bucket, model_version, bin) DO UPDATE
    SET calls = s.calls + excluded.calls;

    INSERT INTO prediction_stats_hour AS s
    SELECT date_bin('1 hour', timestamp, 'epoch') AS bucket,
           model_name,
           model_version,
           count(*),
           count(*) FILTER (WHERE was_successful),
           coalesce(sum(duration_ns(duration_ms)), 0) + coalesce(sum(long_duration_ns(duration_ms)), 0),
           min(duration_ms),
           max(duration_ms)
    FROM   touched
    GROUP  BY 1, 2, 3
    ORDER  BY 2, 1, 3
    ON CONFLICT (model_name, bucket, model_version) DO UPDATE
    SET total_requests      = s.total_requests      + excluded.total_requests,
        successful_requests = s.successful_requests + excluded.successful_requests,
        duration_ns_sum     = s.duration_ns_sum     + excluded.duration_ns_sum,
        duration_ms_min     = least(s.duration_ms_min,    excluded.duration_ms_min),
        duration_ms_max     = greatest(s.duration_ms_max, excluded.duration_ms_max);

    INSERT INTO prediction_latency_hour AS s
    SELECT date_bin('1 hour', timestamp, 'epoch') AS bucket, model_name, model_version,
           latency_bin(duration_ms) AS bin, count(*) AS calls
    FROM   touched
    GROUP  BY 1, 2, 3, 4
    ORDER  BY 2, 1, 3, 4
    ON CONFLICT (model_name, bucket, model_version, bin) DO UPDATE
    SET calls = s.calls + excluded.calls;

    INSERT INTO prediction_stats_day AS s
    SELECT date_bin('24 hours', timestamp, 'epoch') AS bucket,
           model_name,
           model_version,
           count(*),
           count(*) FILTER (WHERE was_successful),
           coalesce(sum(duration_ns(duration_ms)), 0) + coalesce(sum(long_duration_ns(duration_ms)), 0),
           min(duration_ms),
           max(duration_ms)
    FROM   touched
    GROUP  BY 1, 2, 3
    ORDER  BY 2, 1, 3
    ON CONFLICT (model_name, bucket, model_version) DO UPDATE
    SET total_requests      = s.total_requests      + excluded.total_requests,
        successful_requests = s.successful_requests + excluded.successful_requests,
        duration_ns_sum     = s.duration_ns_sum     + excluded.duration_ns_sum,
        duration_ms_min     = least(s.duration_ms_min,    excluded.duration_ms_min),
        duration_ms_max     = greatest(s.duration_ms_max, excluded.duration_ms_max);

    INSERT INTO prediction_latency_day AS s
    SELECT date_bin('24 hours', timestamp, 'epoch') AS bucket, model_name, model_version,
           latency_bin(duration_ms) AS bin, count(*) AS calls
    FROM   touched
    GROUP  BY 1, 2, 3, 4
    ORDER  BY 2, 1, 3, 4
    ON CONFLICT (model_name, bucket, model_version, bin) DO UPDATE
    SET calls = s.calls + excluded.calls;

    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_log_added AFTER INSERT ON prediction_log
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_added();
