-- Refresh the next piece behind the watermark. up_to says how far the watermark has come, done whether that is all.
CREATE OR REPLACE PROCEDURE prediction_stats_advance_watermark(piece interval, INOUT up_to timestamptz, INOUT done boolean)
LANGUAGE plpgsql AS $$
DECLARE
    state     prediction_stats_state;
    since     timestamptz;
    midnight  timestamptz;
BEGIN
    SELECT * INTO state FROM prediction_stats_state;
    since := greatest(state.watermark, state.raw_from);
    IF NOT EXISTS (SELECT FROM prediction_stats_minute) THEN  -- history begins with the first row
        since := greatest(since, least(state.invalidation_threshold, (SELECT time_bucket('1 day', min(timestamp))
                                                          FROM   prediction_log)));
    END IF;
    midnight := time_bucket('1 day', since);
    IF since > midnight THEN  -- a day that was begun is brought to its end
        midnight := midnight + INTERVAL '24 hours';
    ELSE
        midnight := 'infinity';
        IF since + piece < state.invalidation_threshold THEN  -- days without any prediction are passed over
            since := greatest(since, least(state.invalidation_threshold, coalesce(
                (SELECT time_bucket('1 day', min(timestamp)) FROM prediction_log WHERE timestamp >= since),
                state.invalidation_threshold)));
        END IF;
    END IF;
    up_to := least(state.invalidation_threshold, midnight, time_bucket('1 minute', since + piece));
    done  := up_to = state.invalidation_threshold;
    COMMIT;
    IF state.watermark < up_to THEN
        CALL prediction_stats_refresh(since, up_to, up_to);
        UPDATE prediction_stats_state SET watermark = up_to WHERE watermark < up_to;
        COMMIT;
    END IF;
END
$$;
