-- Take deleted rows out of the rollups, in the transaction of their delete, on the shards beside the one that is deleted
-- from. An extreme cannot be subtracted, so the statistics of a bucket are
-- computed anew: minutes from the rows that remain, hours from their minutes, days from their hours. Bins are
-- subtracted; a bin whose predictions all go is deleted first.
-- Rows that retention deletes stay in the rollups: retention says so in a setting of its transaction.
CREATE OR REPLACE FUNCTION prediction_log_removed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    lock_shard  text;
    shard       text[];
    level       text;
    width       text;
    finer       text;
BEGIN
    IF current_setting('predlog.retention', true) = 'on' OR NOT EXISTS (SELECT FROM touched) THEN
        RETURN NULL;
    END IF;
    lock_shard := (prediction_shards(tg_table_name, 'prediction_stats_lock'))[1];
    EXECUTE format('LOCK TABLE %s IN SHARE ROW EXCLUSIVE MODE', lock_shard);
    FOR level, width, finer IN VALUES ('minute', '1 minute', NULL), ('hour', '1 hour', 'minute'),
                                      ('day', '24 hours', 'hour') LOOP
        shard := prediction_shards(tg_table_name, 'prediction_stats_' || level, 'prediction_latency_' || level)
              || coalesce(prediction_shards(tg_table_name, 'prediction_stats_' || finer), ARRAY[quote_ident(tg_table_name)])
              || width;
        EXECUTE format($remove$
            DELETE FROM %1$s s
            USING (SELECT DISTINCT date_bin(%4$L, timestamp, 'epoch') AS bucket, model_name, model_version
                   FROM   touched) t
            WHERE (s.bucket, s.model_name, s.model_version) = (t.bucket, t.model_name, t.model_version)
        $remove$, VARIADIC shard);
        EXECUTE format('
            INSERT INTO %1$s
            SELECT date_bin(%4$L, at, ''epoch''), model_name, model_version, sum(calls), sum(successful), sum(total),
                   min(low), max(high)
            FROM  (SELECT DISTINCT date_bin(%4$L, timestamp, ''epoch'') AS bucket, model_name, model_version
                   FROM   touched) t
            JOIN   (SELECT model_name, model_version, ' || CASE WHEN finer IS NULL THEN '
                           timestamp AS at, 1 AS calls, was_successful::integer AS successful,
                           coalesce(duration_ns(duration_ms), long_duration_ns(duration_ms), 0) AS total, duration_ms AS low, duration_ms AS high' ELSE '
                           bucket AS at, total_requests AS calls, successful_requests AS successful,
                           duration_ns_sum AS total, duration_ms_min AS low, duration_ms_max AS high' END || '
                    FROM   %3$s) AS remaining USING (model_name, model_version)
            WHERE  at >= t.bucket AND at < t.bucket + %4$L::interval
            GROUP  BY 1, 2, 3', VARIADIC shard);
        EXECUTE format($remove$
            DELETE FROM %2$s s
            USING (SELECT date_bin(%4$L, timestamp, 'epoch') AS bucket, model_name, model_version,
                          latency_bin(duration_ms) AS bin, count(*) AS calls
                   FROM   touched
                   GROUP  BY 1, 2, 3, 4) t
            WHERE (s.bucket, s.model_name, s.model_version, s.bin) = (t.bucket, t.model_name, t.model_version, t.bin)
              AND  s.calls = t.calls
        $remove$, VARIADIC shard);
        EXECUTE format($remove$
            UPDATE %2$s s
            SET    calls = s.calls - t.calls
            FROM  (SELECT date_bin(%4$L, timestamp, 'epoch') AS bucket, model_name, model_version,
                          latency_bin(duration_ms) AS bin, count(*) AS calls
                   FROM   touched
                   GROUP  BY 1, 2, 3, 4) t
            WHERE (s.bucket, s.model_name, s.model_version, s.bin) = (t.bucket, t.model_name, t.model_version, t.bin)
        $remove$, VARIADIC shard);
    END LOOP;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_log_removed AFTER DELETE ON prediction_log
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_removed();
