-- Move the invalidation threshold to a minute ago, so that the watermark can follow it.
-- The last minute is left out, because most predictions are logged within seconds and what is not behind the threshold
-- needs no invalidation. The lock waits for the writers that still knew the old threshold. ONLY: writers lock the
-- hypertable itself, and compression works on its chunks and may go on.
CREATE OR REPLACE PROCEDURE prediction_stats_advance_threshold() LANGUAGE plpgsql AS $$
DECLARE
    target timestamptz := time_bucket('1 minute', clock_timestamp() - INTERVAL '1 minute');
BEGIN
    IF (SELECT invalidation_threshold < target FROM prediction_stats_state) THEN
        PERFORM set_config('lock_timeout', '250ms', true);
        LOCK TABLE ONLY prediction_log IN SHARE MODE;
        UPDATE prediction_stats_state SET invalidation_threshold = target WHERE invalidation_threshold < target;
    END IF;
EXCEPTION WHEN lock_not_available THEN
    NULL;  -- a long write is under way: the watermark waits for it, other writers must not wait for us
END
$$;
