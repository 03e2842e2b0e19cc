-- Become the one session that keeps the aggregates up; false if another session is at it.
-- A session is known by its process and the time it began: one that is gone holds nothing. The row is locked first, so
-- that of two sessions that look at once only one finds it free.
CREATE OR REPLACE FUNCTION prediction_stats_hold() RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    holder prediction_stats_holder;
BEGIN
    SELECT * INTO holder FROM prediction_stats_holder FOR UPDATE;
    PERFORM pg_stat_clear_snapshot();
    IF holder.pid <> pg_backend_pid() AND EXISTS (
        SELECT FROM pg_stat_activity a
        WHERE  a.pid = holder.pid AND coalesce(a.backend_start = holder.since, true)
    ) THEN
        RETURN false;
    END IF;
    UPDATE prediction_stats_holder
    SET    pid = pg_backend_pid(), since = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid());
    RETURN true;
END
$$;
