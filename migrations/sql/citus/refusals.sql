-- Why Predlog would be wrong, or would not work, on this Citus: a sentence for each reason.
WITH workers AS (
    SELECT count(*) AS number FROM pg_dist_node WHERE noderole = 'primary' AND isactive AND shouldhaveshards
), settings AS (
    SELECT format('%s:%s', nodename, nodeport) AS node, success, split_part(result, ' ', 1) AS wal_level,
           CASE WHEN success THEN split_part(result, ' ', 2)::integer END AS prepared_transactions,
           split_part(result, ' ', 3) AS replication_role
    FROM   run_command_on_all_nodes($$
               SELECT concat_ws(' ', current_setting('wal_level'), current_setting('max_prepared_transactions'),
                                current_setting('session_replication_role'))
           $$) JOIN pg_dist_node USING (nodeid)
)
SELECT 'TimescaleDB and Citus are in the same database. There TimescaleDB would lose sight of the rows on other nodes: '
       'DROP EXTENSION one of the two first.' AS refusal
WHERE  EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb')
UNION ALL
SELECT 'Citus has no nodes here: tell it the address of the coordinator with citus_set_coordinator_host(…) and those of '
       'the workers with citus_add_node(…).'
WHERE  NOT EXISTS (SELECT FROM pg_dist_node WHERE groupid = 0)
   OR  (SELECT number FROM workers) = 0
UNION ALL
SELECT format('The node %s of Citus is away.', node)
FROM   settings WHERE NOT success
UNION ALL
SELECT format('The node %s of Citus has wal_level = %s: with wal_level = logical its shards can be moved while they are '
              'written to.', node, wal_level)
FROM   settings WHERE wal_level <> 'logical'
UNION ALL
SELECT format('The node %s of Citus has max_prepared_transactions = %s: a write to several nodes needs one, so there '
              'must be as many as max_connections of the coordinator, which is %s.',
              node, prepared_transactions, current_setting('max_connections'))
FROM   settings WHERE prepared_transactions < current_setting('max_connections')::integer
UNION ALL
SELECT format('The node %s of Citus has session_replication_role = %s, with which the triggers that keep the statistics '
              'would not run there.', node, replication_role)
FROM   settings WHERE success AND replication_role = 'replica';
