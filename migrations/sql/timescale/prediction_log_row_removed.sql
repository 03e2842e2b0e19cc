-- Note the times of deleted rows that lie behind settled_to.
-- Row by row, because the columnstore does not allow transition tables of deleted rows; a setting of the transaction
-- remembers the minute that was noted last. A statement that removes many rows notes their times at once beforehand and
-- says for which times in another setting, or there would be a note for each minute.
CREATE OR REPLACE FUNCTION prediction_log_row_removed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    since  timestamptz := time_bucket('1 minute', old.timestamp);
BEGIN
    IF since::text = current_setting('predlog.noted', true)
    OR old.timestamp <@ nullif(current_setting('predlog.noted_range', true), '')::tstzrange THEN
        RETURN NULL;
    END IF;
    IF old.timestamp < (SELECT settled_to FROM prediction_stats_state)
    OR current_setting('transaction_isolation') <> 'read committed' THEN
        INSERT INTO prediction_stats_change (changed_from, changed_to) VALUES (since, since + INTERVAL '1 minute');
        PERFORM set_config('predlog.noted', since::text, true);
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_log_removed AFTER DELETE ON prediction_log
FOR EACH ROW EXECUTE FUNCTION prediction_log_row_removed();
