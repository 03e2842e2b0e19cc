-- The schema of Predlog 0.1 as twelve revisions left it: routines and triggers go, to be made again, and tables change
-- to what the five revisions make. All in one transaction, in which nobody writes.
LOCK TABLE prediction_log IN ACCESS EXCLUSIVE MODE;

DO $$
DECLARE
    item record;
BEGIN
    FOR item IN SELECT tgname FROM pg_trigger
                WHERE  tgrelid = 'prediction_log'::regclass AND tgname LIKE 'prediction%' LOOP
        EXECUTE format('DROP TRIGGER %I ON prediction_log', item.tgname);
    END LOOP;
    FOR item IN SELECT oid::regprocedure AS signature FROM pg_proc
                WHERE  pronamespace = current_schema()::regnamespace AND proname LIKE 'prediction%' LOOP
        EXECUTE format('DROP ROUTINE %s', item.signature);
    END LOOP;
END
$$;

CREATE INDEX prediction_log_failed ON prediction_log (timestamp DESC, id DESC, model_name) WHERE NOT was_successful;

ALTER TABLE prediction_loss RENAME TO prediction_dropped;
ALTER TABLE prediction_dropped
    DROP CONSTRAINT prediction_loss_pkey,
    ADD  CONSTRAINT prediction_dropped_pkey PRIMARY KEY (id, model_name),
    DROP CONSTRAINT prediction_loss_count,
    ADD  CONSTRAINT prediction_dropped_count CHECK (count >= 0);
ALTER INDEX prediction_loss_time RENAME TO prediction_dropped_time;
CREATE INDEX prediction_dropped_model_time ON prediction_dropped (model_name, timestamp);
CREATE INDEX prediction_dropped_reported   ON prediction_dropped (reported_at);

ALTER TABLE prediction_stats_change RENAME TO prediction_invalidation;
ALTER TABLE prediction_invalidation RENAME changed_from TO invalid_from;
ALTER TABLE prediction_invalidation RENAME changed_to   TO invalid_to;
ALTER SEQUENCE prediction_stats_change_id_seq RENAME TO prediction_invalidation_id_seq;

ALTER TABLE prediction_stats_state RENAME settled_to      TO invalidation_threshold;
ALTER TABLE prediction_stats_state RENAME materialized_to TO watermark;
ALTER TABLE prediction_stats_state
    DROP CONSTRAINT prediction_stats_state_engine,
    ADD  CONSTRAINT prediction_stats_state_engine CHECK (engine IN ('timescale', 'plain', 'citus'));

-- Sums become whole nanoseconds. On TimescaleDB the aggregates are made anew, see stats_out.sql.
DO $$
DECLARE
    level text;
BEGIN
    IF (SELECT engine FROM prediction_stats_state) = 'plain' THEN
        FOREACH level IN ARRAY ARRAY['minute', 'hour', 'day'] LOOP
            EXECUTE format('ALTER TABLE prediction_stats_%s ALTER COLUMN duration_ms_sum TYPE numeric
                            USING round(duration_ms_sum::numeric * 1000000)', level);
            EXECUTE format('ALTER TABLE prediction_stats_%s RENAME duration_ms_sum TO duration_ns_sum', level);
        END LOOP;
    END IF;
END
$$;

-- PostgreSQL 18 names the constraints of NOT NULL, too.
DO $$
DECLARE
    item record;
BEGIN
    FOR item IN
        SELECT conrelid::regclass AS relation, conname AS old_name, replace(replace(replace(replace(replace(replace(replace(conname,
               'duration_ms_sum', 'duration_ns_sum'),
               'prediction_loss', 'prediction_dropped'), 'prediction_stats_change', 'prediction_invalidation'),
               'changed_from', 'invalid_from'), 'changed_to', 'invalid_to'), 'settled_to', 'invalidation_threshold'),
               'materialized_to', 'watermark') AS new_name
        FROM   pg_constraint WHERE connamespace = current_schema()::regnamespace
    LOOP
        IF item.new_name <> item.old_name THEN
            EXECUTE format('ALTER TABLE %s RENAME CONSTRAINT %I TO %I', item.relation, item.old_name, item.new_name);
        END IF;
    END LOOP;
END
$$;

ALTER TABLE api_key
    ADD  expires_at      timestamptz,
    ADD  last_used_at    timestamptz,
    ADD  previous_hash   bytea,
    ADD  previous_until  timestamptz,
    ADD  CONSTRAINT api_key_previous CHECK
         ((previous_hash IS NULL) = (previous_until IS NULL) AND octet_length(previous_hash) = 32),
    ADD  CONSTRAINT api_key_hash_once UNIQUE (hash),
    DROP CONSTRAINT api_key_model_names,
    ADD  CONSTRAINT api_key_model_names CHECK
         (model_names IS NULL OR scope IN ('write', 'read') AND cardinality(model_names) > 0);
