-- Repair the oldest day that has notes. hours_left says how many changed hours remain.
-- One statement finds the oldest note and all notes of its day, because a note may come between two statements.
CREATE OR REPLACE PROCEDURE prediction_stats_repair(INOUT hours_left bigint) LANGUAGE plpgsql AS $$
DECLARE
    state  prediction_stats_state;
    since  timestamptz;
    until  timestamptz;
    seen   bigint[];
BEGIN
    SELECT * INTO state FROM prediction_stats_state;
    DELETE FROM prediction_stats_change WHERE changed_to <= state.raw_from;
    WITH note AS (
        SELECT * FROM prediction_stats_change WHERE changed_to <= state.materialized_to
    )
    SELECT array_agg(id), min(changed_from), max(changed_to) INTO seen, since, until
    FROM   note
    WHERE  changed_from < (SELECT time_bucket('1 day', min(changed_from)) + INTERVAL '24 hours' FROM note);
    COMMIT;
    IF seen IS NOT NULL THEN
        CALL prediction_stats_refresh(since, until, state.materialized_to);
        DELETE FROM prediction_stats_change WHERE id = ANY (seen);
        UPDATE prediction_stats_state SET generation = generation + 1;
        COMMIT;
    END IF;
    SELECT count(DISTINCT time_bucket('1 hour', changed_from)) INTO hours_left
    FROM   prediction_stats_change
    WHERE  changed_to <= state.materialized_to;
END
$$;
