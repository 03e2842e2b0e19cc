-- Refresh what [since, until) touches, the finer levels before the coarser ones that are made of them; of each level
-- only the buckets that are whole at the watermark. By force, because our invalidations say what changed, and a refresh
-- that another session has begun and not ended may have used up TimescaleDB's own. The commits in between do not wait
-- for the disk. A crash that takes one of them takes all that follow, and the caller makes the last one, which says
-- what was done and does wait: until then the work counts as not begun.
CREATE OR REPLACE PROCEDURE prediction_stats_refresh_levels(since timestamptz, until timestamptz, watermark timestamptz)
LANGUAGE plpgsql AS $$
DECLARE
    durable  text := current_setting('synchronous_commit');
    level    text;
    width    interval;
    low      timestamptz;
    high     timestamptz;
BEGIN
    PERFORM set_config('synchronous_commit', 'off', false);
    FOR level, width IN VALUES ('minute', INTERVAL '1 minute'), ('hour', '1 hour'), ('day', '24 hours') LOOP
        low  := time_bucket(width, since);
        high := least(time_bucket(width, until + width - INTERVAL '1 microsecond'), time_bucket(width, watermark));
        CONTINUE WHEN low >= high;
        CALL refresh_continuous_aggregate(format('prediction_stats_%s', level)::regclass, low, high, force => true);
        CALL refresh_continuous_aggregate(format('prediction_latency_%s', level)::regclass, low, high, force => true);
    END LOOP;
    PERFORM set_config('synchronous_commit', durable, false);
END
$$;
