-- Run once a day by TimescaleDB.
CREATE OR REPLACE PROCEDURE prediction_model_job(job_id integer, config jsonb) LANGUAGE plpgsql AS $$
BEGIN
    CALL prediction_model_tidy(NULL);
END
$$;
