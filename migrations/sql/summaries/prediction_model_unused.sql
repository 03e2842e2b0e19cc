-- The names of models and versions without a prediction, among these models; NULL means all. Each prediction is in a
-- day that is whole at the watermark, or in an hour or minute after that day, or in rows after the watermark, or in
-- invalid rows behind it. On the plain engine the watermark is the end of time, and the days have all. With literal
-- bounds, so that few chunks are looked at, and in the collation of their indexes. A bucket that is not yet refreshed
-- counts as a prediction. A summary is in its day at once.
CREATE OR REPLACE FUNCTION prediction_model_unused(among text[]) RETURNS SETOF prediction_model LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY EXECUTE format($unused$
        SELECT m.*
        FROM   prediction_model m
        WHERE  ($1 IS NULL OR m.model_name = ANY ($1))
          AND  NOT EXISTS (SELECT FROM (
            SELECT model_name, model_version FROM prediction_stats_day
            UNION ALL
            SELECT model_name, model_version FROM prediction_stats_hour
            WHERE  bucket >= date_trunc('day', %1$L::timestamptz, 'UTC')
            UNION ALL
            SELECT model_name, model_version FROM prediction_stats_minute
            WHERE  bucket >= date_trunc('hour', %1$L::timestamptz, 'UTC')
            UNION ALL
            SELECT model_name, model_version FROM prediction_log
            WHERE  timestamp >= %1$L::timestamptz
            UNION ALL
            SELECT model_name, model_version FROM prediction_summary_day
            UNION ALL
            SELECT p.model_name, p.model_version
            FROM   prediction_invalidation c
            JOIN   prediction_log p ON p.timestamp >= c.invalid_from AND p.timestamp < c.invalid_to) AS s
            WHERE  s.model_name    = m.model_name    COLLATE "default"
              AND  s.model_version = m.model_version COLLATE "default")
    $unused$, (SELECT watermark FROM prediction_stats_state)) USING among;
END
$$;
