-- End the reader's sessions that take longer than this, or that hold advisory locks, with which it could fill the table
-- of locks, and delete jobs of its own. The reader can lift the limits of its own sessions, but not this one. Returns
-- how many sessions were ended.
CREATE OR REPLACE FUNCTION prediction_end_reads(longer_than interval) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER AS $$
BEGIN
    PERFORM delete_job(job_id) FROM timescaledb_information.jobs WHERE owner::text = 'predlog_reader';

    RETURN (
        SELECT count(pg_terminate_backend(a.pid))
        FROM   pg_stat_activity a
        WHERE  a.usename = 'predlog_reader' AND a.datname = current_database()
          AND  (a.state <> 'idle' AND least(a.xact_start, a.query_start) < clock_timestamp() - longer_than
                OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory'))
    );
END
$$;
