-- Put the statistics of 0.1 into the hypertables behind the new continuous aggregates, and have these in the columnstore.
-- TimescaleDB before 2.24 wants a refresh policy first, which would run beside our job: chunks stay in rows there.
DO $$
DECLARE
    item    record;
    target  text;
BEGIN
    FOR item IN SELECT * FROM (VALUES ('minute', INTERVAL '7 days'), ('hour', INTERVAL '1 day'), ('day', NULL))
                              AS kept (level, in_rows) LOOP
        SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name) INTO target
        FROM   timescaledb_information.continuous_aggregates
        WHERE  view_schema = current_schema() AND view_name = 'prediction_stats_' || item.level;
        EXECUTE format('
            INSERT INTO %s (bucket, model_name, model_version, total_requests, successful_requests, duration_ns_sum,
                            duration_ms_min, duration_ms_max)
            SELECT bucket, model_name, model_version, total_requests, successful_requests,
                   round(duration_ms_sum::numeric * 1000000), duration_ms_min, duration_ms_max
            FROM   old_stats_%s', target, item.level);
        CONTINUE WHEN item.in_rows IS NULL;
        EXECUTE format('ALTER MATERIALIZED VIEW prediction_stats_%s SET (timescaledb.enable_columnstore,
                        timescaledb.segmentby = ''model_name'', timescaledb.orderby = ''bucket, model_version'')',
                       item.level);
        BEGIN
            EXECUTE format('CALL add_columnstore_policy(''prediction_stats_%s'', after => %L::interval)',
                           item.level, item.in_rows);
        EXCEPTION WHEN feature_not_supported THEN
            NULL;
        END;
    END LOOP;
END
$$;
