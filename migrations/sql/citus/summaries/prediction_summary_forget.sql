-- Remove all that was summarised of a model in the whole days of [since, until), on all levels; NULL means any version, or
-- no bound. Returns how many predictions. The lock keeps new summaries out. The setting tells the trigger on the nodes
-- that the function takes them out of the rollups itself.
CREATE OR REPLACE FUNCTION prediction_summary_forget(model text, version text, since timestamptz, until timestamptz)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    total  bigint;
    level  text;
BEGIN
    LOCK TABLE prediction_summary IN SHARE ROW EXCLUSIVE MODE;
    since := coalesce(since, '-infinity');
    until := coalesce(until, 'infinity');

    SET LOCAL citus.propagate_set_commands = 'local';
    SET LOCAL predlog.retention = 'on';
    DELETE FROM prediction_summary
    WHERE  model_name = model AND (version IS NULL OR model_version = version)
      AND  timestamp >= since AND timestamp < until;
    SET LOCAL predlog.retention = 'off';

    SELECT coalesce(sum(total_requests), 0) INTO total FROM prediction_summary_day
    WHERE  model_name = model AND (version IS NULL OR model_version = version)
      AND  bucket >= since AND bucket < until;
    FOREACH level IN ARRAY ARRAY['minute', 'latency_minute', 'hour', 'latency_hour', 'day', 'latency_day'] LOOP
        EXECUTE format('DELETE FROM prediction_summary_%s
                        WHERE model_name = $1 AND ($2 IS NULL OR model_version = $2)
                        AND bucket >= $3 AND bucket < $4', level)
        USING model, version, since, until;
    END LOOP;
    RETURN total;
END
$$;
