-- Take deleted rows out of the rollups, in the transaction of their delete.
-- An extreme cannot be subtracted, so the statistics of a bucket are computed anew: minutes from the rows that remain,
-- hours from their minutes, days from their hours. Bins are subtracted; a bin whose predictions all go is deleted first,
-- because the planner misjudges how many bins are left at zero.
-- Rows that retention deletes stay in the rollups: retention says so in a setting of its transaction.
CREATE OR REPLACE FUNCTION prediction_log_removed() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    IF current_setting('predlog.retention', true) = 'on' THEN
        RETURN NULL;
    END IF;
    LOCK TABLE prediction_stats_lock IN SHARE ROW EXCLUSIVE MODE;

    DELETE FROM prediction_stats_minute s
    USING (SELECT DISTINCT date_bin('1 minute', timestamp, 'epoch') AS bucket, model_name, model_version
           FROM   touched) t
    WHERE (s.bucket, s.model_name, s.model_version) = (t.bucket, t.model_name, t.model_version);

    INSERT INTO prediction_stats_minute
    SELECT date_bin('1 minute', timestamp, 'epoch') AS bucket,
           model_name,
           model_version,
           count(*),
           count(*) FILTER (WHERE was_successful),
           coalesce(sum(duration_ns(duration_ms)), 0) + coalesce(sum(long_duration_ns(duration_ms)), 0),
           min(duration_ms),
           max(duration_ms)
    FROM  (SELECT p.*
           FROM  (SELECT DISTINCT date_bin('1 minute', timestamp, 'epoch') AS bucket, model_name, model_version
                  FROM   touched) t
           JOIN   prediction_log p
             ON   p.model_name    = t.model_name
            AND   p.model_version = t.model_version
            AND   p.timestamp     >= t.bucket
            AND   p.timestamp     <  t.bucket + INTERVAL '1 minute') AS remaining
    GROUP  BY 1, 2, 3;

    DELETE FROM prediction_latency_minute s
    USING (SELECT date_bin('1 minute', timestamp, 'epoch') AS bucket, model_name, model_version,
                  latency_bin(duration_ms) AS bin, count(*) AS calls
           FROM   touched
           GROUP  BY 1, 2, 3, 4) t
    WHERE (s.bucket, s.model_name, s.model_version, s.bin) = (t.bucket, t.model_name, t.model_version, t.bin)
      AND  s.calls = t.calls;

    UPDATE prediction_latency_minute s
    SET    calls = s.calls - t.calls
    FROM  (SELECT date_bin('1 minute', timestamp, 'epoch') AS bucket, model_name, model_version,
                  latency_bin(duration_ms) AS bin, count(*) AS calls
           FROM   touched
           GROUP  BY 1, 2, 3, 4) t
    WHERE (s.bucket, s.model_name, s.model_version, s.bin) = (t.bucket, t.model_name, t.model_version, t.bin);

    DELETE FROM prediction_stats_hour s
    USING (SELECT DISTINCT date_bin('1 hour', timestamp, 'epoch') AS bucket, model_name, model_version
           FROM   touched) t
    WHERE (s.bucket, s.model_name, s.model_version) = (t.bucket, t.model_name, t.model_version);

    INSERT INTO prediction_stats_hour
    SELECT date_bin('1 hour', bucket, 'epoch') AS bucket,
           model_name,
           model_version,
           sum(total_requests)::bigint,
           sum(successful_requests)::bigint,
           sum(duration_ns_sum),
           min(duration_ms_min),
           max(duration_ms_max)
    FROM  (SELECT p.*
           FROM  (SELECT DISTINCT date_bin('1 hour', timestamp, 'epoch') AS bucket, model_name, model_version
                  FROM   touched) t
           JOIN   prediction_stats_minute p
             ON   p.model_name    = t.model_name
            AND   p.model_version = t.model_version
            AND   p.bucket        >= t.bucket
            AND   p.bucket        <  t.bucket + INTERVAL '1 hour') AS remaining
    GROUP  BY 1, 2, 3;

    DELETE FROM prediction_latency_hour s
    USING (SELECT date_bin('1 hour', timestamp, 'epoch') AS bucket, model_name, model_version,
                  latency_bin(duration_ms) AS bin, count(*) AS calls
           FROM   touched
           GROUP  BY 1, 2, 3, 4) t
    WHERE (s.bucket, s.model_name, s.model_version, s.bin) = (t.bucket, t.model_name, t.model_version, t.bin)
      AND  s.calls = t.calls;

    UPDATE prediction_latency_hour s
    SET    calls = s.calls - t.calls
    FROM  (SELECT date_bin('1 hour', timestamp, 'epoch') AS bucket, model_name, model_version,
                  latency_bin(duration_ms) AS bin, count(*) AS calls
           FROM   touched
           GROUP  BY 1, 2, 3, 4) t
    WHERE (s.bucket, s.model_name, s.model_version, s.bin) = (t.bucket, t.model_name, t.model_version, t.bin);

    DELETE FROM prediction_stats_day s
    USING (SELECT DISTINCT date_bin('24 hours', timestamp, 'epoch') AS bucket, model_name, model_version
           FROM   touched) t
    WHERE (s.bucket, s.model_name, s.model_version) = (t.bucket, t.model_name, t.model_version);

    INSERT INTO prediction_stats_day
    SELECT date_bin('24 hours', bucket, 'epoch') AS bucket,
           model_name,
           model_version,
           sum(total_requests)::bigint,
           sum(successful_requests)::bigint,
           sum(duration_ns_sum),
           min(duration_ms_min),
           max(duration_ms_max)
    FROM  (SELECT p.*
           FROM  (SELECT DISTINCT date_bin('24 hours', timestamp, 'epoch') AS bucket, model_name, model_version
                  FROM   touched) t
           JOIN   prediction_stats_hour p
             ON   p.model_name    = t.model_name
            AND   p.model_version = t.model_version
            AND   p.bucket        >= t.bucket
            AND   p.bucket        <  t.bucket + INTERVAL '24 hours') AS remaining
    GROUP  BY 1, 2, 3;

    DELETE FROM prediction_latency_day s
    USING (SELECT date_bin('24 hours', timestamp, 'epoch') AS bucket, model_name, model_version,
                  latency_bin(duration_ms) AS bin, count(*) AS calls
           FROM   touched
           GROUP  BY 1, 2, 3, 4) t
    WHERE (s.bucket, s.model_name, s.model_version, s.bin) = (t.bucket, t.model_name, t.model_version, t.bin)
      AND  s.calls = t.calls;

    UPDATE prediction_latency_day s
    SET    calls = s.calls - t.calls
    FROM  (SELECT date_bin('24 hours', timestamp, 'epoch') AS bucket, model_name, model_version,
                  latency_bin(duration_ms) AS bin, count(*) AS calls
           FROM   touched
           GROUP  BY 1, 2, 3, 4) t
    WHERE (s.bucket, s.model_name, s.model_version, s.bin) = (t.bucket, t.model_name, t.model_version, t.bin);

    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_log_removed AFTER DELETE ON prediction_log
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_log_removed();
