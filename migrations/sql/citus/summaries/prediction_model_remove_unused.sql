-- Take the names without predictions, summarised ones included, out of prediction_model; returns how many. A name that
-- is taken out while a writer logs its next prediction would be missing: so the function looks behind a lock that
-- writers do not hold.
CREATE OR REPLACE FUNCTION prediction_model_remove_unused(among text[]) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
    gone bigint;
BEGIN
    PERFORM set_config('lock_timeout', '250ms', true);
    LOCK TABLE prediction_log IN SHARE MODE;
    DELETE FROM prediction_model m
    WHERE  m.model_name = ANY (among)
      AND  NOT EXISTS (SELECT FROM prediction_stats_day s
                       WHERE  s.model_name = m.model_name AND s.model_version = m.model_version)
      AND  NOT EXISTS (SELECT FROM prediction_summary_day s
                       WHERE  s.model_name = m.model_name AND s.model_version = m.model_version);
    GET DIAGNOSTICS gone = ROW_COUNT;
    RETURN gone;
EXCEPTION WHEN lock_not_available THEN
    RETURN 0;  -- a long write is under way: other writers must not wait for us, the daily run takes the names out
END
$$;
