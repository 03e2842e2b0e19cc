-- Refuse what the statistics would not see. Citus makes no trigger on shards that has to do with TRUNCATE, and refuses
-- TRUNCATE on the coordinator alone: so there are two triggers, on every engine.
CREATE OR REPLACE FUNCTION prediction_log_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'prediction_log takes inserts and deletes only: the statistics would not see this %', TG_OP
    USING ERRCODE = 'feature_not_supported';
END
$$;

CREATE OR REPLACE TRIGGER prediction_log_append_only BEFORE UPDATE ON prediction_log
FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_append_only();

CREATE OR REPLACE TRIGGER prediction_log_not_truncated BEFORE TRUNCATE ON prediction_log
FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_append_only();
