-- Fill the tables that are new.
INSERT INTO prediction_dropped_minute
SELECT date_trunc('minute', timestamp, 'UTC'), model_name, reason, sum(count)
FROM   prediction_dropped
GROUP  BY 1, 2, 3;

INSERT INTO prediction_dropped_hour
SELECT date_trunc('hour', bucket, 'UTC'), model_name, reason, sum(dropped)
FROM   prediction_dropped_minute
GROUP  BY 1, 2, 3;

INSERT INTO prediction_dropped_day
SELECT date_trunc('day', bucket, 'UTC'), model_name, reason, sum(dropped)
FROM   prediction_dropped_hour
GROUP  BY 1, 2, 3;

-- Each prediction is in a day that is whole at the watermark, or in an hour or minute after that day, or in rows after
-- the watermark, or in rows that changed behind it.
DO $$
BEGIN
    EXECUTE format($fill$
        INSERT INTO prediction_model (model_name, model_version)
        SELECT model_name, model_version FROM prediction_stats_day
        UNION
        SELECT model_name, model_version FROM prediction_stats_hour
        WHERE  bucket >= date_trunc('day', %1$L::timestamptz, 'UTC')
        UNION
        SELECT model_name, model_version FROM prediction_stats_minute
        WHERE  bucket >= date_trunc('hour', %1$L::timestamptz, 'UTC')
        UNION
        SELECT model_name, model_version FROM prediction_log
        WHERE  timestamp >= %1$L::timestamptz
        UNION
        SELECT p.model_name, p.model_version
        FROM   prediction_invalidation c
        JOIN   prediction_log p ON p.timestamp >= c.invalid_from AND p.timestamp < c.invalid_to
    $fill$, (SELECT watermark FROM prediction_stats_state));
END
$$;
