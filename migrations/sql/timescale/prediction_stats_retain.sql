-- Move the retention edges, and drop the chunks behind them. keep gives how long to keep each level, such as {"raw":
-- "30 days", "minute": "90 days"}; a level that is not named is kept. Raw rows go first: an aggregate is made of the
-- finer level and must outlive it, so no edge passes that of the finer level, and none moves back. The edge of raw rows
-- moves under the lock that keeps writers out, if there is no invalidation behind it; then nothing is read, written or
-- refreshed there. The look behind the lock must see what was committed while it waited, whatever isolation is the
-- database's default. Chunks that another session reads for long are left for the next run, because every later session
-- would have to wait, too.
CREATE OR REPLACE PROCEDURE prediction_stats_retain(keep jsonb) LANGUAGE plpgsql AS $$
DECLARE
    state     jsonb;
    level     text;
    finer     timestamptz := 'infinity';
    edge      timestamptz;
    moves     boolean;
    relation  text;
BEGIN
    PERFORM set_config('default_transaction_isolation', 'read committed', false);
    COMMIT;
    FOREACH level IN ARRAY ARRAY['raw', 'minute', 'hour', 'day'] LOOP
        state := (SELECT to_jsonb(s) FROM prediction_stats_state s);
        edge  := least(time_bucket('1 day', now() - (keep ->> level)::interval), finer);
        moves := keep ? level AND finer IS NOT NULL AND edge <= (state ->> 'watermark')::timestamptz
             AND edge > coalesce((state ->> (level || '_from'))::timestamptz, '-infinity')
             AND NOT (level = 'raw' AND EXISTS (SELECT FROM prediction_invalidation WHERE invalid_from < edge));
        IF moves AND level = 'raw' THEN
            BEGIN
                PERFORM set_config('lock_timeout', '250ms', true);
                LOCK TABLE ONLY prediction_log IN SHARE MODE;
                moves := NOT EXISTS (SELECT FROM prediction_invalidation WHERE invalid_from < edge);
            EXCEPTION WHEN lock_not_available THEN
                moves := false;
            END;
        END IF;
        IF moves THEN
            EXECUTE format('UPDATE prediction_stats_state SET %1$I = $1, generation = generation + 1
                            WHERE  coalesce(%1$I, ''-infinity'') < $1', level || '_from')
            USING edge;
        END IF;
        COMMIT;
        finer := (SELECT to_jsonb(s) ->> (level || '_from') FROM prediction_stats_state s);
        CONTINUE WHEN finer IS NULL;
        PERFORM set_config('lock_timeout', '2s', true);
        FOREACH relation IN ARRAY CASE level WHEN 'raw' THEN ARRAY['prediction_log']
                                  ELSE ARRAY['prediction_stats_' || level, 'prediction_latency_' || level] END LOOP
            BEGIN
                PERFORM drop_chunks(relation::regclass, older_than => finer)
                WHERE   EXISTS (SELECT FROM show_chunks(relation::regclass, older_than => finer));
            EXCEPTION WHEN lock_not_available THEN
                NULL;
            END;
        END LOOP;
        COMMIT;
    END LOOP;
END
$$;
