-- Note the times of new rows that lie behind settled_to, one note for each hour.
-- A transaction with a snapshot of its own may not see that settled_to has moved: it notes all of its rows.
CREATE OR REPLACE FUNCTION prediction_log_changed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    settled timestamptz := (SELECT settled_to FROM prediction_stats_state);
BEGIN
    IF current_setting('transaction_isolation') <> 'read committed' THEN
        settled := 'infinity';
    END IF;
    INSERT INTO prediction_stats_change (changed_from, changed_to)
    SELECT time_bucket('1 minute', min(timestamp)),
           time_bucket('1 minute', max(timestamp)) + INTERVAL '1 minute'
    FROM   touched
    WHERE  timestamp < settled
    GROUP  BY time_bucket('1 hour', timestamp);
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_log_added AFTER INSERT ON prediction_log
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_changed();
