-- Take a model's history behind the retention edge out of the aggregates, which are all that still knows of it.
-- NULL means any version. Returns how many buckets were deleted.
CREATE OR REPLACE FUNCTION prediction_stats_forget(model text, version text, since timestamptz, until timestamptz)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    edge      timestamptz := (SELECT raw_from FROM prediction_stats_state);
    relation  text;
    gone      bigint;
    total     bigint := 0;
BEGIN
    FOREACH relation IN ARRAY ARRAY(
        SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)
        FROM   timescaledb_information.continuous_aggregates
        WHERE  view_schema = current_schema() AND view_name ~ '^prediction_(stats|latency)_') LOOP
        EXECUTE format('DELETE FROM %s WHERE model_name = $1 AND ($2 IS NULL OR model_version = $2)
                        AND bucket >= $3 AND bucket < $4', relation)
        USING model, version, since, least(until, coalesce(edge, '-infinity'));
        GET DIAGNOSTICS gone = ROW_COUNT;
        total := total + gone;
    END LOOP;
    -- What is remembered of buckets holds for a generation.
    UPDATE prediction_stats_state SET generation = generation + 1;
    RETURN total;
END
$$;
