-- A row is on the node of its model, and the state is on every node. Several shards a node can be spread over more
-- nodes later; but a question about all models costs a task for each shard.
SELECT create_reference_table('prediction_stats_state');

ALTER TABLE prediction_log ALTER COLUMN model_name TYPE text COLLATE "C";

SELECT create_distributed_table('prediction_log', 'model_name', colocate_with => 'none', shard_count => (
    SELECT CASE WHEN source = 'default' THEN 4 * (SELECT count(*) FROM pg_dist_node
                                                  WHERE  noderole = 'primary' AND isactive AND shouldhaveshards)
                ELSE setting::bigint END::integer
    FROM   pg_settings WHERE name = 'citus.shard_count'));

-- The shards of these tables that have the same models as the shard that a trigger runs on, or, of a reference table, its
-- only one. They are on the same node. Triggers read them instead of the tables, because Citus would plan each of these
-- statements for all nodes. In PL/pgSQL, which keeps the plan of the statement.
CREATE OR REPLACE FUNCTION prediction_shards(own name, VARIADIC relations text[])
RETURNS text[] LANGUAGE plpgsql STABLE AS $$
DECLARE
    found  text[];
BEGIN
    SELECT array_agg(quote_ident(relation || '_' || sibling.shardid) ORDER BY place) INTO found
    FROM   pg_dist_shard own_shard,
           unnest(relations) WITH ORDINALITY AS r (relation, place)
    JOIN   pg_dist_shard sibling ON sibling.logicalrelid = to_regclass(relation)
    WHERE  own_shard.shardid = substring(own FROM '[0-9]+$')::bigint
      AND (sibling.shardminvalue = own_shard.shardminvalue OR sibling.shardminvalue IS NULL);
    RETURN found;
END
$$;

-- Make a partition of each day from yesterday on. What came for a day before it had a partition is in the default one,
-- and then the day gets none.
CREATE OR REPLACE FUNCTION prediction_log_make_partitions(days integer) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    day        timestamptz;
    partition  text;
BEGIN
    FOR day IN SELECT generate_series(date_trunc('day', now(), 'UTC') - INTERVAL '24 hours',
                                      now() + days * INTERVAL '24 hours', INTERVAL '24 hours') LOOP
        partition := to_char(day AT TIME ZONE 'UTC', '"prediction_log_p"YYYYMMDD');
        CONTINUE WHEN to_regclass(partition) IS NOT NULL
                   OR EXISTS (SELECT 1 FROM prediction_log_default
                              WHERE  timestamp >= day AND timestamp < day + INTERVAL '24 hours');
        EXECUTE format('CREATE TABLE %I PARTITION OF prediction_log FOR VALUES FROM (%L) TO (%L)',
                       partition, day, day + INTERVAL '24 hours');
    END LOOP;
END
$$;

SELECT prediction_log_make_partitions(14);
