-- The names of models and versions without a prediction, among these models; NULL means all. The days have all
-- predictions at every moment, those that were summarised in tables of their own.
CREATE OR REPLACE FUNCTION prediction_model_unused(among text[]) RETURNS SETOF prediction_model LANGUAGE plpgsql AS $$
BEGIN
    RETURN QUERY
        SELECT m.model_name, m.model_version
        FROM   prediction_model m
        WHERE  (among IS NULL OR m.model_name = ANY (among))
          AND  NOT EXISTS (SELECT FROM prediction_stats_day s
                           WHERE  s.model_name = m.model_name AND s.model_version = m.model_version)
          AND  NOT EXISTS (SELECT FROM prediction_summary_day s
                           WHERE  s.model_name = m.model_name AND s.model_version = m.model_version);
END
$$;
