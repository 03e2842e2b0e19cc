-- Refuse new rows behind the retention edge: the aggregates there are all that is left, and are not computed again.
CREATE OR REPLACE FUNCTION prediction_log_retained() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    edge timestamptz := (SELECT raw_from FROM prediction_stats_state);
BEGIN
    IF edge IS NOT NULL AND EXISTS (SELECT FROM touched WHERE timestamp < edge) THEN
        RAISE EXCEPTION 'older than the retention edge %', edge USING ERRCODE = 'PL001', DETAIL = edge;
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_log_retained AFTER INSERT ON prediction_log
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_retained();
