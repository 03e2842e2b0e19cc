-- Add reports to the rollups (argument 1) or take them out (-1), in the transaction that writes them, on the shards
-- beside the one that is written to. Rows are added in the order of their keys, and each level after the finer one, so
-- that two statements lock common rows in the same order. Nothing is added behind the edge of a level, where retention
-- has deleted the other reports. Reports that retention deletes stay in the rollups: retention says so in a setting of
-- its transaction.
CREATE OR REPLACE FUNCTION prediction_dropped_rolled_up() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    state  prediction_stats_state;
    shard  text[];
    edge   timestamptz;
    level  text;
BEGIN
    IF tg_op = 'DELETE' AND current_setting('predlog.retention', true) = 'on' OR NOT EXISTS (SELECT FROM touched) THEN
        RETURN NULL;
    END IF;
    EXECUTE format('SELECT * FROM %s', VARIADIC prediction_shards(tg_table_name, 'prediction_stats_state')) INTO state;
    IF tg_op = 'INSERT' AND EXISTS (SELECT FROM touched WHERE timestamp < state.day_from) THEN
        RAISE EXCEPTION 'older than the retention edge %', state.day_from
        USING ERRCODE = 'PL002', DETAIL = state.day_from;
    END IF;
    FOR level, edge IN VALUES ('minute', state.minute_from), ('hour', state.hour_from), ('day', state.day_from) LOOP
        shard := prediction_shards(tg_table_name, 'prediction_dropped_' || level) || level;
        EXECUTE format($add$
            INSERT INTO %1$s AS s
            SELECT date_trunc(%2$L, timestamp, 'UTC'), model_name, reason, sum(count) * $1
            FROM   touched
            WHERE  timestamp >= coalesce($2, '-infinity')
            GROUP  BY 1, 2, 3
            ORDER  BY 2, 1, 3
            ON CONFLICT (model_name, bucket, reason) DO UPDATE SET dropped = s.dropped + excluded.dropped
        $add$, VARIADIC shard) USING tg_argv[0]::integer, edge;
    END LOOP;
    IF tg_argv[0] = '1' THEN
        RETURN NULL;
    END IF;
    FOREACH level IN ARRAY ARRAY['minute', 'hour', 'day'] LOOP
        shard := prediction_shards(tg_table_name, 'prediction_dropped_' || level) || level;
        EXECUTE format($remove$
            DELETE FROM %1$s s
            USING  touched t
            WHERE  (s.model_name, s.bucket, s.reason) = (t.model_name, date_trunc(%2$L, t.timestamp, 'UTC'), t.reason)
              AND  s.dropped = 0
        $remove$, VARIADIC shard);
    END LOOP;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_dropped_added AFTER INSERT ON prediction_dropped
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_dropped_rolled_up('1');

CREATE OR REPLACE TRIGGER prediction_dropped_removed AFTER DELETE ON prediction_dropped
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_dropped_rolled_up('-1');

CREATE OR REPLACE TRIGGER prediction_dropped_changed_1_to AFTER UPDATE ON prediction_dropped
REFERENCING NEW TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_dropped_rolled_up('1');

CREATE OR REPLACE TRIGGER prediction_dropped_changed_2_from AFTER UPDATE ON prediction_dropped
REFERENCING OLD TABLE AS touched FOR EACH STATEMENT EXECUTE FUNCTION prediction_dropped_rolled_up('-1');
