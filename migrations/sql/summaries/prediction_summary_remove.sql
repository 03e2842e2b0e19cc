-- Remove what was summarised of a model in the minutes that begin in [since, until) and are not behind the retention
-- edge of raw rows: all minutes are kept there, so hours and days are computed anew from them. NULL means any model, any
-- version, or no bound. Returns how many predictions. The lock keeps new summaries out.
CREATE OR REPLACE FUNCTION prediction_summary_remove(
    model text, version text, since timestamptz, until timestamptz
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    before  constant text := coalesce(current_setting('predlog.retention', true), '');
    total   bigint;
BEGIN
    LOCK TABLE prediction_summary IN SHARE ROW EXCLUSIVE MODE;
    since := greatest(date_trunc('minute', coalesce(since, '-infinity') + INTERVAL '59.999999 seconds', 'UTC'),
                      (SELECT raw_from FROM prediction_stats_state));
    until := date_trunc('minute', coalesce(until, 'infinity') + INTERVAL '59.999999 seconds', 'UTC');

    PERFORM set_config('predlog.retention', 'on', true);
    DELETE FROM prediction_summary
    WHERE  (model IS NULL OR model_name = model) AND (version IS NULL OR model_version = version)
      AND  timestamp >= since AND timestamp < until;
    PERFORM set_config('predlog.retention', before, true);

    DELETE FROM prediction_summary_latency_minute
    WHERE  (model IS NULL OR model_name = model) AND (version IS NULL OR model_version = version)
      AND  bucket >= since AND bucket < until;

    WITH gone AS (
        DELETE FROM prediction_summary_minute
        WHERE  (model IS NULL OR model_name = model) AND (version IS NULL OR model_version = version)
          AND  bucket >= since AND bucket < until
        RETURNING total_requests
    )
    SELECT coalesce(sum(total_requests), 0) INTO total FROM gone;
    IF total = 0 THEN
        RETURN 0;
    END IF;

    DELETE FROM prediction_summary_hour
    WHERE  (model IS NULL OR model_name = model) AND (version IS NULL OR model_version = version)
      AND  bucket >= date_trunc('hour', since, 'UTC') AND bucket < until;

    INSERT INTO prediction_summary_hour
    SELECT date_trunc('hour', bucket, 'UTC'), model_name, model_version,
           sum(total_requests), sum(successful_requests),
           sum(duration_ns_sum), min(duration_ms_min), max(duration_ms_max)
    FROM   prediction_summary_minute
    WHERE  (model IS NULL OR model_name = model) AND (version IS NULL OR model_version = version)
      AND  bucket >= date_trunc('hour', since, 'UTC')
      AND  bucket <  date_trunc('hour', until - INTERVAL '1 microsecond', 'UTC') + INTERVAL '1 hour'
    GROUP  BY 1, 2, 3;

    DELETE FROM prediction_summary_latency_hour
    WHERE  (model IS NULL OR model_name = model) AND (version IS NULL OR model_version = version)
      AND  bucket >= date_trunc('hour', since, 'UTC') AND bucket < until;

    INSERT INTO prediction_summary_latency_hour
    SELECT date_trunc('hour', bucket, 'UTC'), model_name, model_version, bin, sum(calls)
    FROM   prediction_summary_latency_minute
    WHERE  (model IS NULL OR model_name = model) AND (version IS NULL OR model_version = version)
      AND  bucket >= date_trunc('hour', since, 'UTC')
      AND  bucket <  date_trunc('hour', until - INTERVAL '1 microsecond', 'UTC') + INTERVAL '1 hour'
    GROUP  BY 1, 2, 3, 4;

    DELETE FROM prediction_summary_day
    WHERE  (model IS NULL OR model_name = model) AND (version IS NULL OR model_version = version)
      AND  bucket >= date_trunc('day', since, 'UTC') AND bucket < until;

    INSERT INTO prediction_summary_day
    SELECT date_trunc('day', bucket, 'UTC'), model_name, model_version,
           sum(total_requests), sum(successful_requests),
           sum(duration_ns_sum), min(duration_ms_min), max(duration_ms_max)
    FROM   prediction_summary_hour
    WHERE  (model IS NULL OR model_name = model) AND (version IS NULL OR model_version = version)
      AND  bucket >= date_trunc('day', since, 'UTC')
      AND  bucket <  date_trunc('day', until - INTERVAL '1 microsecond', 'UTC') + INTERVAL '24 hours'
    GROUP  BY 1, 2, 3;

    DELETE FROM prediction_summary_latency_day
    WHERE  (model IS NULL OR model_name = model) AND (version IS NULL OR model_version = version)
      AND  bucket >= date_trunc('day', since, 'UTC') AND bucket < until;

    INSERT INTO prediction_summary_latency_day
    SELECT date_trunc('day', bucket, 'UTC'), model_name, model_version, bin, sum(calls)
    FROM   prediction_summary_latency_hour
    WHERE  (model IS NULL OR model_name = model) AND (version IS NULL OR model_version = version)
      AND  bucket >= date_trunc('day', since, 'UTC')
      AND  bucket <  date_trunc('day', until - INTERVAL '1 microsecond', 'UTC') + INTERVAL '24 hours'
    GROUP  BY 1, 2, 3, 4;
    RETURN total;
END
$$;
