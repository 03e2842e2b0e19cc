-- Delete reports whose raw rows are gone, and rollups behind the edge of their level. In pieces, each in a transaction
-- of its own, so that writers do not wait. A report of the last 31 days is kept, because it may be sent again: the
-- service refuses a minute that is more than 30 days old.
CREATE OR REPLACE PROCEDURE prediction_dropped_retain(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
DECLARE
    piece  CONSTANT integer := 20000;
    gone   integer := piece;
    level  text;
BEGIN
    WHILE gone = piece LOOP
        PERFORM set_config('predlog.retention', 'on', true);
        DELETE FROM prediction_dropped
        WHERE  ctid = ANY (ARRAY(SELECT ctid FROM prediction_dropped
                                 WHERE  timestamp < (SELECT raw_from FROM prediction_stats_state)
                                   AND  reported_at < now() - INTERVAL '31 days' LIMIT piece));
        GET DIAGNOSTICS gone = ROW_COUNT;
        COMMIT;
    END LOOP;
    FOREACH level IN ARRAY ARRAY['minute', 'hour', 'day'] LOOP
        gone := piece;
        WHILE gone = piece LOOP
            EXECUTE format('
                DELETE FROM prediction_dropped_%1$s
                WHERE  ctid = ANY (ARRAY(SELECT ctid FROM prediction_dropped_%1$s
                                         WHERE  bucket < (SELECT %1$s_from FROM prediction_stats_state) LIMIT $1))',
                level)
            USING piece;
            GET DIAGNOSTICS gone = ROW_COUNT;
            COMMIT;
        END LOOP;
    END LOOP;
END
$$;
