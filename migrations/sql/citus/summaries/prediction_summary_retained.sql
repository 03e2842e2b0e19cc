-- Refuse new summaries behind the retention edge of raw rows, as predictions are refused there.
CREATE OR REPLACE FUNCTION prediction_summary_retained() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    edge  timestamptz;
BEGIN
    IF NOT EXISTS (SELECT FROM touched) THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT raw_from FROM %s', VARIADIC prediction_shards(tg_table_name, 'prediction_stats_state'))
    INTO edge;
    IF edge IS NOT NULL AND EXISTS (SELECT FROM touched WHERE timestamp < edge) THEN
        RAISE EXCEPTION 'older than the retention edge %', edge USING ERRCODE = 'PL001', DETAIL = edge;
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_summary_retained AFTER INSERT ON prediction_summary
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_summary_retained();
