-- Delete reports whose raw rows are gone, and rollups behind the edge of their level. A report of the last 31 days is
-- kept, because it may be sent again: the service refuses a minute that is more than 30 days old. The setting tells the
-- triggers on the nodes that the reports stay in the rollups. Without an edge everything is kept.
CREATE OR REPLACE PROCEDURE prediction_dropped_retain(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
DECLARE
    state  prediction_stats_state;
BEGIN
    SELECT * INTO state FROM prediction_stats_state;
    SET LOCAL citus.propagate_set_commands = 'local';
    SET LOCAL predlog.retention = 'on';
    DELETE FROM prediction_dropped WHERE timestamp < state.raw_from AND reported_at < now() - INTERVAL '31 days';
    COMMIT;
    DELETE FROM prediction_dropped_minute WHERE bucket < state.minute_from;
    COMMIT;
    DELETE FROM prediction_dropped_hour WHERE bucket < state.hour_from;
    COMMIT;
    DELETE FROM prediction_dropped_day WHERE bucket < state.day_from;
    COMMIT;
END
$$;
