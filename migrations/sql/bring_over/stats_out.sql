-- Take the statistics of 0.1 out of its continuous aggregates, and drop these, the coarser ones first; chunk by chunk, or
-- the columnstore's tables would stay behind. All buckets are kept: retention may have dropped the rows of some.
DO $$
DECLARE
    level text;
BEGIN
    FOREACH level IN ARRAY ARRAY['day', 'hour', 'minute'] LOOP
        EXECUTE format('CREATE TEMP TABLE old_stats_%1$s ON COMMIT DROP AS SELECT * FROM prediction_stats_%1$s', level);
        PERFORM drop_chunks(format('prediction_stats_%s', level)::regclass, older_than => 'infinity'::timestamptz);
        EXECUTE format('DROP MATERIALIZED VIEW prediction_stats_%s', level);
    END LOOP;
END
$$;
