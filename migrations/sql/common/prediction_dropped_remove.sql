-- Remove what was reported of the minutes that begin in [since, until); NULL means any model, or no bound.
-- The lock keeps reports out meanwhile. Deleting single reports takes them out of the rollups; what the rollups still
-- hold of the range are reports that retention has deleted. If minutes are gone, whole hours are removed, and if hours
-- are gone, whole days.
CREATE OR REPLACE FUNCTION prediction_dropped_remove(
    models text[], since timestamptz, until timestamptz, OUT reports bigint, OUT calls numeric
) LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    state prediction_stats_state;
BEGIN
    LOCK TABLE prediction_dropped IN SHARE ROW EXCLUSIVE MODE;
    SELECT * INTO state FROM prediction_stats_state;
    since := date_trunc('minute', coalesce(since, '-infinity') + INTERVAL '59.999999 seconds', 'UTC');
    until := date_trunc('minute', coalesce(until, 'infinity')  + INTERVAL '59.999999 seconds', 'UTC');

    -- Retention has moved these edges and has not come to these rows yet. The triggers leave such rows as they are, so
    -- what is deleted below of single reports would be taken out of the coarser levels once more with them.
    DELETE FROM prediction_dropped_minute
    WHERE  (models IS NULL OR model_name = ANY (models))
      AND  bucket >= since AND bucket < until AND bucket < state.minute_from;
    DELETE FROM prediction_dropped_hour
    WHERE  (models IS NULL OR model_name = ANY (models))
      AND  bucket >= date_trunc('hour', since, 'UTC') AND bucket < until AND bucket < state.hour_from;

    WITH gone AS (
        DELETE FROM prediction_dropped
        WHERE  (models IS NULL OR model_name = ANY (models)) AND timestamp >= since AND timestamp < until
        RETURNING count
    )
    SELECT count(*), coalesce(sum(count), 0) INTO reports, calls FROM gone;
    WITH gone AS (
        DELETE FROM prediction_dropped_minute
        WHERE  (models IS NULL OR model_name = ANY (models))
          AND  bucket >= since AND bucket + INTERVAL '1 minute' <= until AND true
        RETURNING *
    ), less_hour AS (
        UPDATE prediction_dropped_hour s
        SET    dropped = s.dropped - t.dropped
        FROM  (SELECT date_trunc('hour', bucket, 'UTC') AS bucket, model_name, reason, sum(dropped) AS dropped
               FROM   gone GROUP BY 1, 2, 3) t
        WHERE (s.model_name, s.bucket, s.reason) = (t.model_name, t.bucket, t.reason)
    ), less_day AS (
        UPDATE prediction_dropped_day s
        SET    dropped = s.dropped - t.dropped
        FROM  (SELECT date_trunc('day', bucket, 'UTC') AS bucket, model_name, reason, sum(dropped) AS dropped
               FROM   gone GROUP BY 1, 2, 3) t
        WHERE (s.model_name, s.bucket, s.reason) = (t.model_name, t.bucket, t.reason)
    )
    SELECT calls + coalesce(sum(dropped), 0) INTO calls FROM gone;

    WITH gone AS (
        DELETE FROM prediction_dropped_hour
        WHERE  (models IS NULL OR model_name = ANY (models))
          AND  bucket >= since AND bucket + INTERVAL '1 hour' <= until AND bucket < state.minute_from
        RETURNING *
    ), less_day AS (
        UPDATE prediction_dropped_day s
        SET    dropped = s.dropped - t.dropped
        FROM  (SELECT date_trunc('day', bucket, 'UTC') AS bucket, model_name, reason, sum(dropped) AS dropped
               FROM   gone GROUP BY 1, 2, 3) t
        WHERE (s.model_name, s.bucket, s.reason) = (t.model_name, t.bucket, t.reason)
    )
    SELECT calls + coalesce(sum(dropped), 0) INTO calls FROM gone;

    WITH gone AS (
        DELETE FROM prediction_dropped_day
        WHERE  (models IS NULL OR model_name = ANY (models))
          AND  bucket >= since AND bucket + INTERVAL '24 hours' <= until AND bucket < state.hour_from
        RETURNING *
    )
    SELECT calls + coalesce(sum(dropped), 0) INTO calls FROM gone;

    DELETE FROM prediction_dropped_hour
    WHERE  (models IS NULL OR model_name = ANY (models)) AND dropped = 0
      AND  bucket >= date_trunc('hour', since, 'UTC') AND bucket < until;

    DELETE FROM prediction_dropped_day
    WHERE  (models IS NULL OR model_name = ANY (models)) AND dropped = 0
      AND  bucket >= date_trunc('day', since, 'UTC') AND bucket < until;
END
$$;
