-- Take the names without predictions among these out of prediction_model, in pieces; NULL means all names.
CREATE OR REPLACE PROCEDURE prediction_model_tidy(among text[]) LANGUAGE plpgsql AS $$
DECLARE
    names  text[] := ARRAY(SELECT DISTINCT model_name FROM prediction_model_unused(among));
    place  integer := 1;
BEGIN
    DELETE FROM prediction_model_allowance WHERE tat < clock_timestamp();
    COMMIT;
    WHILE place <= cardinality(names) LOOP
        PERFORM prediction_model_remove_unused(names[place : place + 499]);
        COMMIT;
        place := place + 500;
    END LOOP;
END
$$;
