-- Keep the names of all models and versions.
-- In the order of the names, so that two statements with common new names wait for each other in one direction only.
-- A name that is there costs a look into the index: nothing is written.
CREATE OR REPLACE FUNCTION prediction_log_named() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    INSERT INTO prediction_model (model_name, model_version)
    SELECT DISTINCT model_name COLLATE "C", model_version COLLATE "C"
    FROM   touched
    ORDER  BY 1, 2
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_log_named AFTER INSERT ON prediction_log
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_named();
