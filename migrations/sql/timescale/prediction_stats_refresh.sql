-- Refresh what [since, until) touches, and invalidate the buckets that still differ from what they are made of. That a
-- refresh has found every row is not taken on trust: TimescaleDB 2.28 was seen to leave out the last batch of one that
-- was not forced, and a statement that was planned before a delete has moved a batch of the columnstore into rows does
-- not look for it there.
CREATE OR REPLACE PROCEDURE prediction_stats_refresh(since timestamptz, until timestamptz, watermark timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    level  text;
    width  interval;
BEGIN
    CALL prediction_stats_refresh_levels(since, until, watermark);
    FOR level, width IN VALUES ('minute', INTERVAL '1 minute'), ('hour', '1 hour'), ('day', '24 hours') LOOP
        PERFORM prediction_stats_verify(level, width, time_bucket(width, since), time_bucket(width,
            least(until + width - INTERVAL '1 microsecond', watermark)));
    END LOOP;
END
$$;
