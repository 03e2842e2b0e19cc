-- Delete single summaries that can no longer be sent again, and rollups behind the edge of their level. In pieces, each
-- in a transaction of its own, so that writers do not wait. The service refuses a minute that is more than 30 days old.
CREATE OR REPLACE PROCEDURE prediction_summary_retain(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
DECLARE
    piece   CONSTANT integer := 20000;
    gone    integer := piece;
    level   text;
    family  text;
BEGIN
    WHILE gone = piece LOOP
        PERFORM set_config('predlog.retention', 'on', true);
        DELETE FROM prediction_summary
        WHERE  ctid = ANY (ARRAY(SELECT ctid FROM prediction_summary
                                 WHERE  reported_at < now() - INTERVAL '31 days' LIMIT piece));
        GET DIAGNOSTICS gone = ROW_COUNT;
        COMMIT;
    END LOOP;
    FOREACH level IN ARRAY ARRAY['minute', 'hour', 'day'] LOOP
        FOREACH family IN ARRAY ARRAY['prediction_summary_', 'prediction_summary_latency_'] LOOP
            gone := piece;
            WHILE gone = piece LOOP
                EXECUTE format('
                    DELETE FROM %1$s%2$s
                    WHERE  ctid = ANY (ARRAY(SELECT ctid FROM %1$s%2$s
                                             WHERE  bucket < (SELECT %2$s_from FROM prediction_stats_state) LIMIT $1))',
                    family, level)
                USING piece;
                GET DIAGNOSTICS gone = ROW_COUNT;
                COMMIT;
            END LOOP;
        END LOOP;
    END LOOP;
END
$$;
