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

ALTER TABLE prediction_loss
    DROP CONSTRAINT prediction_loss_pkey,
    ADD  CONSTRAINT prediction_loss_pkey PRIMARY KEY (id, model_name),
    DROP CONSTRAINT prediction_loss_count,
    ADD  CONSTRAINT prediction_loss_count CHECK (count >= 0);
CREATE INDEX prediction_loss_model_time ON prediction_loss (model_name, timestamp);
CREATE INDEX prediction_loss_reported   ON prediction_loss (reported_at);

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
