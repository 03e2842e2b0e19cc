-- Refresh the day whose invalidations behind the watermark have waited longest. hours_left says how many invalid hours
-- remain. A day that late predictions invalidate all the time waits behind the other days after each refresh.
-- One statement finds the first invalidation and all of its day, because another may come between two statements.
CREATE OR REPLACE PROCEDURE prediction_stats_refresh_invalidated(INOUT hours_left bigint) LANGUAGE plpgsql AS $$
DECLARE
    state  prediction_stats_state;
    since  timestamptz;
    until  timestamptz;
    seen   bigint[];
BEGIN
    SELECT * INTO state FROM prediction_stats_state;
    DELETE FROM prediction_invalidation WHERE invalid_to <= state.raw_from;
    WITH behind AS (
        SELECT *, time_bucket('1 day', invalid_from) AS day
        FROM   prediction_invalidation
        WHERE  invalid_to <= state.watermark
    )
    SELECT array_agg(id), min(invalid_from), max(invalid_to) INTO seen, since, until
    FROM   behind
    WHERE  day = (SELECT day FROM behind ORDER BY id LIMIT 1);
    COMMIT;
    IF seen IS NOT NULL THEN
        CALL prediction_stats_refresh(since, until, state.watermark);
        DELETE FROM prediction_invalidation WHERE id = ANY (seen);
        UPDATE prediction_stats_state SET generation = generation + 1;
        COMMIT;
    END IF;
    SELECT count(*) INTO hours_left FROM prediction_invalid_hour;
END
$$;
