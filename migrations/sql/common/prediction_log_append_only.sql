-- Refuse what the statistics would not see.
CREATE OR REPLACE FUNCTION prediction_log_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'prediction_log takes inserts and deletes only: the statistics would not see this %', TG_OP
    USING ERRCODE = 'feature_not_supported';
END
$$;

CREATE OR REPLACE TRIGGER prediction_log_append_only BEFORE UPDATE OR TRUNCATE ON prediction_log
FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_append_only();
