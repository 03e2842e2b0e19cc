-- Refuse what the rollups would not see. Retention deletes single summaries, which stay in the rollups. The function
-- that removes summaries takes them out of the rollups itself. Both say so in a setting of their transaction. Citus
-- makes no trigger on shards that has to do with TRUNCATE: so there are two triggers, on every engine.
CREATE OR REPLACE FUNCTION prediction_summary_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF tg_op = 'DELETE' AND current_setting('predlog.retention', true) = 'on' THEN
        RETURN NULL;
    END IF;
    RAISE EXCEPTION 'prediction_summary takes inserts only: use prediction_summary_remove to delete'
    USING ERRCODE = 'feature_not_supported';
END
$$;

CREATE OR REPLACE TRIGGER prediction_summary_append_only BEFORE UPDATE OR DELETE ON prediction_summary
FOR EACH STATEMENT EXECUTE FUNCTION prediction_summary_append_only();

CREATE OR REPLACE TRIGGER prediction_summary_not_truncated BEFORE TRUNCATE ON prediction_summary
FOR EACH STATEMENT EXECUTE FUNCTION prediction_summary_append_only();
