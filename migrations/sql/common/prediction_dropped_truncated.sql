-- Empty the rollups with the reports.
CREATE OR REPLACE FUNCTION prediction_dropped_truncated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    TRUNCATE prediction_dropped_minute, prediction_dropped_hour, prediction_dropped_day;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_dropped_truncated AFTER TRUNCATE ON prediction_dropped
FOR EACH STATEMENT EXECUTE FUNCTION prediction_dropped_truncated();
