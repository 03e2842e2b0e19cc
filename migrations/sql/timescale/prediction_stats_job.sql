-- Run every few seconds by TimescaleDB, and never beside a refresh by hand: TimescaleDB would take what that one has
-- just begun for done. For half a minute at most, so that a caller gets an answer while there is always something new
-- to repair, and a refresh by hand gets its turn. The watermark goes on between two days of a long repair.
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
        CALL prediction_stats_settle();
        COMMIT;
        LOOP
            CALL prediction_stats_advance(INTERVAL '24 hours', up_to, done);
            EXIT WHEN done OR clock_timestamp() > until;
        END LOOP;
        CALL prediction_stats_repair(hours_left);
        EXIT WHEN hours_left = 0 OR clock_timestamp() > until;
    END LOOP;
    CALL prediction_stats_retain(config);
    PERFORM prediction_stats_release();
END
$$;
