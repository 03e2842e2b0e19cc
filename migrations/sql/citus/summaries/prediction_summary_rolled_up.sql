-- Add summaries to the rollups, in the transaction that stores them, on the shards beside the one that is written to.
-- Rows are added in the order of their keys, and each level after the finer one, so that two statements lock common
-- rows in the same order.
CREATE OR REPLACE FUNCTION prediction_summary_rolled_up() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    level  text;
    width  text;
BEGIN
    IF NOT EXISTS (SELECT FROM touched) THEN
        RETURN NULL;
    END IF;
    FOR level, width IN VALUES ('minute', '1 minute'), ('hour', '1 hour'), ('day', '24 hours') LOOP
        EXECUTE format($add$
            WITH stats AS (
                INSERT INTO %1$s AS s
                SELECT date_bin(%3$L, timestamp, 'epoch'), model_name, model_version,
                       sum(total_requests), sum(successful_requests),
                       coalesce(sum(duration_ns(duration_ms_sum)), 0)
                       + coalesce(sum(long_duration_ns(duration_ms_sum)), 0),
                       min(duration_ms_min), max(duration_ms_max)
                FROM   touched
                GROUP  BY 1, 2, 3
                ORDER  BY 2, 1, 3
                ON CONFLICT (model_name, bucket, model_version) DO UPDATE
                SET    total_requests      = s.total_requests      + excluded.total_requests,
                       successful_requests = s.successful_requests + excluded.successful_requests,
                       duration_ns_sum     = s.duration_ns_sum     + excluded.duration_ns_sum,
                       duration_ms_min     = least(s.duration_ms_min, excluded.duration_ms_min),
                       duration_ms_max     = greatest(s.duration_ms_max, excluded.duration_ms_max)
            )
            INSERT INTO %2$s AS s
            SELECT date_bin(%3$L, timestamp, 'epoch'), model_name, model_version, bin, sum(calls)
            FROM   touched, unnest(bins, bin_calls) AS sketch (bin, calls)
            GROUP  BY 1, 2, 3, 4
            ORDER  BY 2, 1, 3, 4
            ON CONFLICT (model_name, bucket, model_version, bin) DO UPDATE SET calls = s.calls + excluded.calls
        $add$, VARIADIC prediction_shards(tg_table_name, 'prediction_summary_' || level,
                                          'prediction_summary_latency_' || level) || width);
    END LOOP;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_summary_rolled_up AFTER INSERT ON prediction_summary
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_summary_rolled_up();

-- The names of their models are kept as those of predictions.
CREATE OR REPLACE TRIGGER prediction_summary_named AFTER INSERT ON prediction_summary
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_named();
