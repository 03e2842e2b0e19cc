-- Materialise the next piece behind the watermark. up_to says how far it has come, done whether that is all.
CREATE OR REPLACE PROCEDURE prediction_stats_advance(piece interval, INOUT up_to timestamptz, INOUT done boolean)
LANGUAGE plpgsql AS $$
DECLARE
    state     prediction_stats_state;
    since     timestamptz;
    midnight  timestamptz;
BEGIN
    SELECT * INTO state FROM prediction_stats_state;
    since := greatest(state.materialized_to, state.raw_from);
    IF NOT EXISTS (SELECT FROM prediction_stats_minute) THEN  -- history begins with the first row
        since := greatest(since, least(state.settled_to, (SELECT time_bucket('1 day', min(timestamp))
                                                          FROM   prediction_log)));
    END IF;
    midnight := time_bucket('1 day', since);
    IF since > midnight THEN  -- a day that was begun is brought to its end
        midnight := midnight + INTERVAL '24 hours';
    ELSE
        midnight := 'infinity';
        IF since + piece < state.settled_to THEN  -- days without any call are passed over
            since := greatest(since, least(state.settled_to, coalesce(
                (SELECT time_bucket('1 day', min(timestamp)) FROM prediction_log WHERE timestamp >= since),
                state.settled_to)));
        END IF;
    END IF;
    up_to := least(state.settled_to, midnight, time_bucket('1 minute', since + piece));
    done  := up_to = state.settled_to;
    COMMIT;
    IF state.materialized_to < up_to THEN
        CALL prediction_stats_refresh(since, up_to, up_to);
        UPDATE prediction_stats_state SET materialized_to = up_to WHERE materialized_to < up_to;
        COMMIT;
    END IF;
END
$$;
