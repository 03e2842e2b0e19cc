-- A row is a batch of predictions of one model on its way to the log. Citus sends the row as it is to the node of the
-- model, in one round trip; rows that are selected it would collect and send in several. The columns of a batch are
-- array literals: as texts, so that only the node reads them. Each has an element for each id. A row that no trigger has
-- unpacked is refused, because `stored` is missing.
CREATE TABLE prediction_batch (
    model_name      text  COLLATE "C"  NOT NULL,
    batch_id        uuid               NOT NULL  DEFAULT gen_random_uuid(),
    ids             text,
    timestamp       text,
    model_version   text,
    duration_ms     text,
    was_successful  text,
    error           text,
    metadata        text,
    request_id      text,
    stored          bigint             NOT NULL,
    CONSTRAINT prediction_batch_pkey PRIMARY KEY (model_name, batch_id)
);

SELECT create_distributed_table('prediction_batch', 'model_name', colocate_with => 'prediction_log');

COMMENT ON TABLE prediction_batch IS
'Always empty. Its triggers store a batch of predictions of one model in prediction_log.';

-- So many new ids of predictions, as an array literal. The coordinator computes them, so that they follow each other.
CREATE OR REPLACE FUNCTION prediction_log_ids(number integer) RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT array_agg(nextval('prediction_log_id_seq'))::text FROM generate_series(1, number)
$$;

-- Store a batch in the shard of the log beside the one that is written to. In the order of the unique index, so that
-- two overlapping batches wait for each other without a deadlock. If some predictions were stored before, the row goes
-- on, and says in `stored` how many are new; otherwise the row is dropped.
CREATE OR REPLACE FUNCTION prediction_batch_unpacked() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    number  bigint;
BEGIN
    EXECUTE format($add$
        INSERT INTO %s (id, timestamp, model_name, model_version, duration_ms, was_successful, error, metadata,
                        request_id)
        SELECT id, timestamp, $2, model_version, duration_ms, was_successful, error, metadata, request_id
        FROM   unnest($1::bigint[], $3::timestamptz[], $4::text[], $5::double precision[], $6::boolean[], $7::text[],
                      $8::json[], $9::uuid[])
               AS call (id, timestamp, model_version, duration_ms, was_successful, error, metadata, request_id)
        ORDER  BY request_id, timestamp
        ON CONFLICT (request_id, timestamp, model_name) DO NOTHING
    $add$, VARIADIC prediction_shards(tg_table_name, 'prediction_log'))
    USING NEW.ids, NEW.model_name, NEW.timestamp, NEW.model_version, NEW.duration_ms, NEW.was_successful, NEW.error,
          NEW.metadata, NEW.request_id;
    GET DIAGNOSTICS number = ROW_COUNT;
    IF number = cardinality(NEW.ids::bigint[]) THEN
        RETURN NULL;
    END IF;
    NEW := jsonb_populate_record(NULL::prediction_batch, jsonb_build_object(
               'model_name', NEW.model_name, 'batch_id', NEW.batch_id, 'stored', number));
    RETURN NEW;
END
$$;

CREATE OR REPLACE TRIGGER prediction_batch_unpacked BEFORE INSERT ON prediction_batch
FOR EACH ROW EXECUTE FUNCTION prediction_batch_unpacked();

-- Delete a row that has said how many of its predictions are new.
CREATE OR REPLACE FUNCTION prediction_batch_gone() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    EXECUTE format('DELETE FROM %I WHERE model_name = $1 AND batch_id = $2', tg_table_name)
    USING NEW.model_name, NEW.batch_id;
    RETURN NULL;
END
$$;

CREATE OR REPLACE TRIGGER prediction_batch_gone AFTER INSERT ON prediction_batch
FOR EACH ROW EXECUTE FUNCTION prediction_batch_gone();
