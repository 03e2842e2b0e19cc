-- The hours pending repair: each hour of UTC that an invalidation behind the watermark touches, once. What such an hour
-- counts is read from raw rows until it is refreshed. On the plain engine there are none.
CREATE OR REPLACE VIEW prediction_invalid_hour AS
SELECT DISTINCT generate_series(date_trunc('hour', invalid_from, 'UTC'),
                                invalid_to - INTERVAL '1 microsecond', INTERVAL '1 hour') AS hour
FROM   prediction_invalidation, prediction_stats_state
WHERE  invalid_to <= watermark;
