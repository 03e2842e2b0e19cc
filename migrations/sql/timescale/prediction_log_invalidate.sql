-- Write invalidations for new rows behind the invalidation threshold, one for each hour. A transaction with a snapshot
-- of its own may not see that the threshold has moved: it invalidates the times of all its rows.
CREATE OR REPLACE FUNCTION prediction_log_invalidate() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    threshold timestamptz := (SELECT invalidation_threshold FROM prediction_stats_state);
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        threshold := 'infinity';
    END IF;
    INSERT INTO prediction_invalidation (invalid_from, invalid_to)
    SELECT time_bucket('1 minute', min(timestamp)),
           time_bucket('1 minute', max(timestamp)) + INTERVAL '1 minute'
    FROM   touched
    WHERE  timestamp < threshold
    GROUP  BY time_bucket('1 hour', timestamp);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_log_added AFTER INSERT ON prediction_log
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_invalidate();
