SELECT add_job('prediction_model_job', INTERVAL '1 day', initial_start => now() + INTERVAL '1 day');
SELECT add_job('prediction_dropped_retain', INTERVAL '1 hour', config => '{}');
