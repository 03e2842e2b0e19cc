-- Delete single summaries that can no longer be sent again, and rollups behind the edge of their level. The service
-- refuses a minute that is more than 30 days old. The setting tells the trigger on the nodes that the summaries stay in
-- the rollups. Without an edge everything is kept.
CREATE OR REPLACE PROCEDURE prediction_summary_retain(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
DECLARE
    state   prediction_stats_state;
    family  text;
BEGIN
    SELECT * INTO state FROM prediction_stats_state;
    SET LOCAL citus.propagate_set_commands = 'local';
    SET LOCAL predlog.retention = 'on';
    DELETE FROM prediction_summary WHERE reported_at < now() - INTERVAL '31 days';
    COMMIT;
    FOREACH family IN ARRAY ARRAY['prediction_summary', 'prediction_summary_latency'] LOOP
        EXECUTE format('DELETE FROM %I_minute WHERE bucket < $1', family) USING state.minute_from;
        COMMIT;
        EXECUTE format('DELETE FROM %I_hour WHERE bucket < $1', family) USING state.hour_from;
        COMMIT;
        EXECUTE format('DELETE FROM %I_day WHERE bucket < $1', family) USING state.day_from;
        COMMIT;
    END LOOP;
END
$$;
