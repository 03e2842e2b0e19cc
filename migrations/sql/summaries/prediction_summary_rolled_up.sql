-- Add summaries to the rollups, in the transaction that stores them. Rows are added in the order of their keys, and
-- each level after the finer one, so that two statements lock common rows in the same order.
CREATE OR REPLACE FUNCTION prediction_summary_rolled_up() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO prediction_summary_minute AS s
    SELECT date_trunc('minute', timestamp, 'UTC'), model_name, model_version,
           sum(total_requests), sum(successful_requests),
           coalesce(sum(duration_ns(duration_ms_sum)), 0) + coalesce(sum(long_duration_ns(duration_ms_sum)), 0),
           min(duration_ms_min), max(duration_ms_max)
    FROM   touched
    GROUP  BY 1, 2, 3
    ORDER  BY 2, 1, 3
    ON CONFLICT (model_name, bucket, model_version) DO UPDATE
    SET    total_requests      = s.total_requests      + excluded.total_requests,
           successful_requests = s.successful_requests + excluded.successful_requests,
           duration_ns_sum     = s.duration_ns_sum     + excluded.duration_ns_sum,
           duration_ms_min     = least(s.duration_ms_min, excluded.duration_ms_min),
           duration_ms_max     = greatest(s.duration_ms_max, excluded.duration_ms_max);

    INSERT INTO prediction_summary_latency_minute AS s
    SELECT date_trunc('minute', timestamp, 'UTC'), model_name, model_version, bin, sum(calls)
    FROM   touched, unnest(bins, bin_calls) AS sketch (bin, calls)
    GROUP  BY 1, 2, 3, 4
    ORDER  BY 2, 1, 3, 4
    ON CONFLICT (model_name, bucket, model_version, bin) DO UPDATE SET calls = s.calls + excluded.calls;

    INSERT INTO prediction_summary_hour AS s
    SELECT date_trunc('hour', timestamp, 'UTC'), model_name, model_version,
           sum(total_requests), sum(successful_requests),
           coalesce(sum(duration_ns(duration_ms_sum)), 0) + coalesce(sum(long_duration_ns(duration_ms_sum)), 0),
           min(duration_ms_min), max(duration_ms_max)
    FROM   touched
    GROUP  BY 1, 2, 3
    ORDER  BY 2, 1, 3
    ON CONFLICT (model_name, bucket, model_version) DO UPDATE
    SET    total_requests      = s.total_requests      + excluded.total_requests,
           successful_requests = s.successful_requests + excluded.successful_requests,
           duration_ns_sum     = s.duration_ns_sum     + excluded.duration_ns_sum,
           duration_ms_min     = least(s.duration_ms_min, excluded.duration_ms_min),
           duration_ms_max     = greatest(s.duration_ms_max, excluded.duration_ms_max);

    INSERT INTO prediction_summary_latency_hour AS s
    SELECT date_trunc('hour', timestamp, 'UTC'), model_name, model_version, bin, sum(calls)
    FROM   touched, unnest(bins, bin_calls) AS sketch (bin, calls)
    GROUP  BY 1, 2, 3, 4
    ORDER  BY 2, 1, 3, 4
    ON CONFLICT (model_name, bucket, model_version, bin) DO UPDATE SET calls = s.calls + excluded.calls;

    INSERT INTO prediction_summary_day AS s
    SELECT date_trunc('day', timestamp, 'UTC'), model_name, model_version,
           sum(total_requests), sum(successful_requests),
           coalesce(sum(duration_ns(duration_ms_sum)), 0) + coalesce(sum(long_duration_ns(duration_ms_sum)), 0),
           min(duration_ms_min), max(duration_ms_max)
    FROM   touched
    GROUP  BY 1, 2, 3
    ORDER  BY 2, 1, 3
    ON CONFLICT (model_name, bucket, model_version) DO UPDATE
    SET    total_requests      = s.total_requests      + excluded.total_requests,
           successful_requests = s.successful_requests + excluded.successful_requests,
           duration_ns_sum     = s.duration_ns_sum     + excluded.duration_ns_sum,
           duration_ms_min     = least(s.duration_ms_min, excluded.duration_ms_min),
           duration_ms_max     = greatest(s.duration_ms_max, excluded.duration_ms_max);

    INSERT INTO prediction_summary_latency_day AS s
    SELECT date_trunc('day', timestamp, 'UTC'), model_name, model_version, bin, sum(calls)
    FROM   touched, unnest(bins, bin_calls) AS sketch (bin, calls)
    GROUP  BY 1, 2, 3, 4
    ORDER  BY 2, 1, 3, 4
    ON CONFLICT (model_name, bucket, model_version, bin) DO UPDATE SET calls = s.calls + excluded.calls;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_summary_rolled_up AFTER INSERT ON prediction_summary
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_summary_rolled_up();

-- The names of their models are kept as those of predictions.
CREATE OR REPLACE TRIGGER prediction_summary_named AFTER INSERT ON prediction_summary
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_named();
