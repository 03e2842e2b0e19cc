-- Reduce new reports until, of one model and for one reason, a minute has at most 60,000,000 dropped predictions, an
-- hour 60 times as many and a day 24 times as many as an hour, on the shards beside the one that is written to. The
-- reports themselves are reduced, so that they always add up to what the rollups say. A report of which nothing is left
-- is kept with a count of 0, or it would be new when it is sent again. Two transactions cannot both find room: the
-- trigger that runs before this one has added the reports to the rollups, and locks a bucket's row until the end. The
-- triggers of the UPDATE take what it cuts out of the rollups, so hours are looked at after minutes.
CREATE OR REPLACE FUNCTION prediction_dropped_bounded() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    level  text;
    most   bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM touched) THEN
        RETURN NULL;
    END IF;
    FOR level, most IN VALUES ('minute', 60000000), ('hour', 3600000000), ('day', 86400000000) LOOP
        EXECUTE format($cut$
            UPDATE %1$s l
            SET    count = l.count - least(l.count, cut.surplus - cut.given)
            FROM  (SELECT n.id, n.model_name, s.dropped - $1 AS surplus,
                          sum(n.count) OVER (PARTITION BY s.model_name, s.bucket, s.reason ORDER BY n.id) - n.count
                          AS given
                   FROM   touched t
                   JOIN   %1$s n ON n.id = t.id AND n.model_name = t.model_name
                   JOIN   %2$s s
                     ON   s.model_name = n.model_name AND s.bucket = date_trunc(%3$L, n.timestamp, 'UTC')
                    AND   s.reason = n.reason
                   WHERE  s.dropped > $1) AS cut
            WHERE  l.id = cut.id AND l.model_name = cut.model_name AND l.count > 0 AND cut.given < cut.surplus
        $cut$, VARIADIC prediction_shards(tg_table_name, 'prediction_dropped', 'prediction_dropped_' || level) || level)
        USING most;
    END LOOP;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_dropped_bounded AFTER INSERT ON prediction_dropped
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_dropped_bounded();
