-- A shard of it for each shard of the log: inserts lock it as writers do, deletes have it alone. An advisory lock would
-- be anybody's to take, and this table is nobody's but the owner's.
-- Shards are moved while they are written to only if their table has a key.
CREATE TABLE prediction_stats_lock (
    model_name  text COLLATE "C"  CONSTRAINT prediction_stats_lock_pkey PRIMARY KEY
);

SELECT create_distributed_table('prediction_stats_lock', 'model_name', colocate_with => 'prediction_log');

COMMENT ON TABLE prediction_stats_lock IS
'Always empty. Inserts into prediction_log lock its shard as writers do, deletes have it alone.';
