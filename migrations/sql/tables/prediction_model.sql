-- Every model and version that was ever logged, in the order of their bytes: a page of them reads as many as it shows.
-- A name without a prediction is no fault, because readers count the predictions of each name; it is taken out once a
-- day.
CREATE TABLE prediction_model (
    model_name     text COLLATE "C"  NOT NULL,
    model_version  text COLLATE "C"  NOT NULL,
    CONSTRAINT prediction_model_pkey PRIMARY KEY (model_name, model_version)
);

-- How many new models each caller may still log: GCRA's theoretical arrival time, and what was granted last.
CREATE TABLE prediction_model_allowance (
    caller   text         CONSTRAINT prediction_model_allowance_pkey PRIMARY KEY,
    tat      timestamptz  NOT NULL,
    granted  integer      NOT NULL
);
