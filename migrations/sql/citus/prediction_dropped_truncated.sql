-- Empty the rollups with the reports, shard by shard. The table on the coordinator itself is empty.
CREATE OR REPLACE FUNCTION prediction_dropped_truncated() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF tg_table_name <> 'prediction_dropped' THEN
        EXECUTE format('TRUNCATE %s, %s, %s', VARIADIC prediction_shards(
            tg_table_name, 'prediction_dropped_minute', 'prediction_dropped_hour', 'prediction_dropped_day'));
    END IF;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_dropped_truncated AFTER TRUNCATE ON prediction_dropped
FOR EACH STATEMENT EXECUTE FUNCTION prediction_dropped_truncated();
