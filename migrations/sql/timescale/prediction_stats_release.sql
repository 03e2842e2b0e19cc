-- Let another session keep the aggregates up.
CREATE OR REPLACE FUNCTION prediction_stats_release() RETURNS void LANGUAGE sql AS $$
    UPDATE prediction_stats_holder SET pid = NULL, since = NULL WHERE pid = pg_backend_pid()
$$;
