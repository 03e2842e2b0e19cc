-- Inserts lock it as writers do, deletes have it alone. An advisory lock would be anybody's to take, and this table is
-- nobody's but the owner's.
CREATE TABLE prediction_stats_lock ();
COMMENT ON TABLE prediction_stats_lock IS
'Always empty. Inserts into prediction_log lock it as writers do, deletes have it alone.';
