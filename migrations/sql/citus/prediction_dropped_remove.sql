-- Remove what was reported of the minutes that begin in [since, until); NULL means any model, or no bound.
-- The lock keeps reports out meanwhile. Deleting single reports takes them out of the rollups; what the rollups still
-- hold of the range are reports that retention has deleted. If minutes are gone, whole hours are removed, and if hours
-- are gone, whole days. A statement changes one table, because Citus runs it on the shards as it is: so the coarser
-- levels are reduced before the finer one is deleted. Nor does Citus call a function there that depends on settings, such
-- as date_trunc.
CREATE OR REPLACE FUNCTION prediction_dropped_remove(
    models text[], since timestamptz, until timestamptz, OUT reports bigint, OUT calls numeric
) LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    state    prediction_stats_state;
    level    text;
    coarser  text;
    width    interval;
    before   timestamptz;
    gone     numeric;
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

    FOR level, width, before IN VALUES ('minute', INTERVAL '1 minute', 'infinity'),
                                       ('hour', INTERVAL '1 hour', coalesce(state.minute_from, '-infinity')),
                                       ('day', INTERVAL '24 hours', coalesce(state.hour_from, '-infinity')) LOOP
        FOREACH coarser IN ARRAY CASE level WHEN 'minute' THEN ARRAY['hour', 'day'] WHEN 'hour' THEN ARRAY['day']
                                 ELSE ARRAY[]::text[] END LOOP
            EXECUTE format($less$
                UPDATE prediction_dropped_%1$s s
                SET    dropped = s.dropped - t.dropped
                FROM  (SELECT date_bin(%3$L, bucket, 'epoch') AS bucket, model_name, reason, sum(dropped) AS dropped
                       FROM   prediction_dropped_%2$s
                       WHERE  ($1 IS NULL OR model_name = ANY ($1))
                         AND  bucket >= $2 AND bucket <= $3 AND bucket < $4
                       GROUP  BY 1, 2, 3) t
                WHERE  s.model_name = t.model_name AND s.bucket = t.bucket AND s.reason = t.reason
            $less$, coarser, level, CASE coarser WHEN 'day' THEN INTERVAL '24 hours' ELSE '1 hour' END) USING models, since, until - width, before;
        END LOOP;
        EXECUTE format($gone$
            WITH gone AS (
                DELETE FROM prediction_dropped_%1$s
                WHERE  ($1 IS NULL OR model_name = ANY ($1)) AND bucket >= $2 AND bucket <= $3 AND bucket < $4
                RETURNING dropped
            )
            SELECT coalesce(sum(dropped), 0) FROM gone
        $gone$, level) INTO gone USING models, since, until - width, before;
        calls := calls + gone;
    END LOOP;

    DELETE FROM prediction_dropped_hour
    WHERE  (models IS NULL OR model_name = ANY (models)) AND dropped = 0
      AND  bucket >= date_trunc('hour', since, 'UTC') AND bucket < until;

    DELETE FROM prediction_dropped_day
    WHERE  (models IS NULL OR model_name = ANY (models)) AND dropped = 0
      AND  bucket >= date_trunc('day', since, 'UTC') AND bucket < until;
END
$$;
