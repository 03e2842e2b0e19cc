-- Run every few seconds by TimescaleDB, and never beside a refresh by hand, because TimescaleDB would take what that
-- one has just begun for done. For half a minute at most, so that a caller gets an answer while there is always
-- something new to refresh, and a refresh by hand gets its turn. The watermark goes on between two invalid days.
CREATE OR REPLACE PROCEDURE prediction_stats_job(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
DECLARE
    until       timestamptz := clock_timestamp() + INTERVAL '30 seconds';
    up_to       timestamptz;
    done        boolean;
    hours_left  bigint;
BEGIN
    IF NOT prediction_stats_hold() THEN
        RETURN;
    END IF;
    COMMIT;
    LOOP
        CALL prediction_stats_advance_threshold();
        COMMIT;
        LOOP
            CALL prediction_stats_advance_watermark(INTERVAL '24 hours', up_to, done);
            EXIT WHEN done OR clock_timestamp() > until;
        END LOOP;
        CALL prediction_stats_refresh_invalidated(hours_left);
        EXIT WHEN hours_left = 0 OR clock_timestamp() > until;
    END LOOP;
    CALL prediction_stats_retain(config);
    PERFORM prediction_stats_release();
END
$$;
