-- Remove what was summarised of a model in the minutes that begin in [since, until) and are not behind the retention
-- edge of raw rows: all minutes are kept there, so hours and days are computed anew from them. NULL means any model, any
-- version, or no bound. Returns how many predictions. The lock keeps new summaries out. The setting tells the trigger on
-- the nodes that the function takes them out of the rollups itself. A statement changes one table, because Citus runs it
-- on the shards as it is, and there it calls no function that depends on settings, such as date_trunc.
CREATE OR REPLACE FUNCTION prediction_summary_remove(
    model text, version text, since timestamptz, until timestamptz
) RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    level  text;
    finer  text;
    width  interval;
    calls  bigint;
    total  bigint;
BEGIN
    LOCK TABLE prediction_summary IN SHARE ROW EXCLUSIVE MODE;
    since := greatest(date_bin('1 minute', coalesce(since, '-infinity') + INTERVAL '59.999999 seconds', 'epoch'),
                      (SELECT raw_from FROM prediction_stats_state));
    until := date_bin('1 minute', coalesce(until, 'infinity') + INTERVAL '59.999999 seconds', 'epoch');

    SET LOCAL citus.propagate_set_commands = 'local';
    SET LOCAL predlog.retention = 'on';
    DELETE FROM prediction_summary
    WHERE  (model IS NULL OR model_name = model) AND (version IS NULL OR model_version = version)
      AND  timestamp >= since AND timestamp < until;
    SET LOCAL predlog.retention = 'off';

    FOR level, width, finer IN VALUES ('minute', INTERVAL '1 minute', NULL), ('hour', INTERVAL '1 hour', 'minute'),
                                      ('day', INTERVAL '24 hours', 'hour') LOOP
        EXECUTE format($gone$
            WITH gone AS (
                DELETE FROM prediction_summary_%1$s
                WHERE  ($1 IS NULL OR model_name = $1) AND ($2 IS NULL OR model_version = $2)
                  AND  bucket >= date_bin($5, $3, 'epoch') AND bucket < $4
                RETURNING total_requests
            )
            SELECT coalesce(sum(total_requests), 0) FROM gone
        $gone$, level) INTO calls USING model, version, since, until, width;
        total := coalesce(total, calls);  -- of the minutes, which come first
        EXECUTE format($gone$
            DELETE FROM prediction_summary_latency_%1$s
            WHERE  ($1 IS NULL OR model_name = $1) AND ($2 IS NULL OR model_version = $2)
              AND  bucket >= date_bin($5, $3, 'epoch') AND bucket < $4
        $gone$, level) USING model, version, since, until, width;
        EXIT WHEN total = 0;
        CONTINUE WHEN finer IS NULL;
        EXECUTE format($anew$
            INSERT INTO prediction_summary_%1$s
            SELECT date_bin($5, bucket, 'epoch'), model_name, model_version, sum(total_requests),
                   sum(successful_requests), sum(duration_ns_sum), min(duration_ms_min), max(duration_ms_max)
            FROM   prediction_summary_%2$s
            WHERE  ($1 IS NULL OR model_name = $1) AND ($2 IS NULL OR model_version = $2)
              AND  bucket >= date_bin($5, $3, 'epoch')
              AND  bucket <  date_bin($5, $4 - INTERVAL '1 microsecond', 'epoch') + $5
            GROUP  BY 1, 2, 3
        $anew$, level, finer) USING model, version, since, until, width;
        EXECUTE format($anew$
            INSERT INTO prediction_summary_latency_%1$s
            SELECT date_bin($5, bucket, 'epoch'), model_name, model_version, bin, sum(calls)
            FROM   prediction_summary_latency_%2$s
            WHERE  ($1 IS NULL OR model_name = $1) AND ($2 IS NULL OR model_version = $2)
              AND  bucket >= date_bin($5, $3, 'epoch')
              AND  bucket <  date_bin($5, $4 - INTERVAL '1 microsecond', 'epoch') + $5
            GROUP  BY 1, 2, 3, 4
        $anew$, level, finer) USING model, version, since, until, width;
    END LOOP;
    RETURN total;
END
$$;
