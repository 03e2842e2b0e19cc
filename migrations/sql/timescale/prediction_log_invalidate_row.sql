-- Write an invalidation for the time of a deleted row behind the invalidation threshold.
-- Row by row, because the columnstore does not allow transition tables of deleted rows. A setting of the transaction
-- remembers the minute that was invalidated last. A statement that deletes many rows writes one invalidation beforehand
-- and gives its range in another setting, or there would be an invalidation for each minute.
CREATE OR REPLACE FUNCTION prediction_log_invalidate_row() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    since  timestamptz := time_bucket('1 minute', old.timestamp);
BEGIN
    IF since::text = current_setting('predlog.invalidated', true)
    OR old.timestamp <@ nullif(current_setting('predlog.invalidated_range', true), '')::tstzrange THEN
        RETURN NULL;
    END IF;
    IF old.timestamp < (SELECT invalidation_threshold FROM prediction_stats_state)
    OR current_setting('transaction_isolation') <> 'read committed' THEN
        INSERT INTO prediction_invalidation (invalid_from, invalid_to) VALUES (since, since + INTERVAL '1 minute');
        PERFORM set_config('predlog.invalidated', since::text, true);
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_log_removed AFTER DELETE ON prediction_log
FOR EACH ROW EXECUTE FUNCTION prediction_log_invalidate_row();
