-- Rows behind the retention edge are as good as gone: a delete does not find them. Retention deletes them in pieces,
-- and they stay in the rollups; another delete would compute their buckets anew from what is left.
CREATE OR REPLACE FUNCTION prediction_log_gone() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF old.timestamp < (SELECT raw_from FROM prediction_stats_state) THEN
        RETURN NULL;
    END IF;
    RETURN old;
END
$$;

CREATE OR REPLACE TRIGGER prediction_log_gone BEFORE DELETE ON prediction_log FOR EACH ROW
WHEN (current_setting('predlog.retention', true) IS DISTINCT FROM 'on') EXECUTE FUNCTION prediction_log_gone();
