-- Keep the names of all models and versions, in the shard beside the one that is written to. Those of predictions are
-- kept by prediction_log_added.
-- In the order of the names, so that two statements with common new names wait for each other in one direction only.
CREATE OR REPLACE FUNCTION prediction_log_named() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM touched) THEN
        RETURN NULL;
    END IF;
    EXECUTE format($named$
        INSERT INTO %1$s (model_name, model_version)
        SELECT DISTINCT model_name COLLATE "C", model_version COLLATE "C"
        FROM   touched
        ORDER  BY 1, 2
        ON CONFLICT DO NOTHING
    $named$, VARIADIC prediction_shards(tg_table_name, 'prediction_model'));
    RETURN NULL;
END
$$;
