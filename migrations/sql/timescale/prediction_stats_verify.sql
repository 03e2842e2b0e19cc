-- Compare the buckets of a level in [low, high) with what they are made of, and invalidate those that differ: they are
-- read from raw rows, and refreshed again.
-- Counts only, because a refresh may miss rows or find them twice, but does not change them. A row that came after the
-- refresh may be invalidated once more. With literal bounds, and planned each time, so that few chunks are looked at.
CREATE OR REPLACE FUNCTION prediction_stats_verify(level text, width interval, low timestamptz, high timestamptz)
RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    source text := CASE level WHEN 'minute' THEN
        'SELECT timestamp AS at, model_name, model_version, 1 AS calls FROM prediction_log
         WHERE  timestamp >= %1$L AND timestamp < %2$L'
    ELSE
        'SELECT bucket AS at, model_name, model_version, total_requests AS calls FROM prediction_stats_%4$s
         WHERE  bucket >= %1$L AND bucket < %2$L'
    END;
BEGIN
    IF low >= high THEN  -- no bucket of this level is whole yet
        RETURN;
    END IF;
    EXECUTE format('
        INSERT INTO prediction_invalidation (invalid_from, invalid_to)
        SELECT min(bucket), max(bucket) + %3$L::interval
        FROM  (SELECT   bucket
               FROM    (SELECT time_bucket(%3$L, at) AS bucket, model_name, model_version, sum(calls) AS source,
                               0 AS stats, 0 AS latency
                        FROM  (' || source || ') AS rows
                        GROUP  BY 1, 2, 3
                        UNION  ALL
                        SELECT bucket, model_name, model_version, 0, total_requests, 0
                        FROM   prediction_stats_%5$s WHERE bucket >= %1$L AND bucket < %2$L
                        UNION  ALL
                        SELECT bucket, model_name, model_version, 0, 0, calls
                        FROM   prediction_latency_%5$s WHERE bucket >= %1$L AND bucket < %2$L) AS counts
               GROUP  BY bucket, model_name, model_version
               HAVING sum(source) <> sum(stats) OR sum(source) <> sum(latency)) AS differing
        GROUP  BY time_bucket(''1 hour'', bucket)',
        low, high, width, CASE level WHEN 'day' THEN 'hour' ELSE 'minute' END, level);
END
$$;
