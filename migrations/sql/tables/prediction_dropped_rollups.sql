-- What was reported, as numeric, which has no largest value.
CREATE TABLE prediction_dropped_minute (
    bucket      timestamptz  NOT NULL,
    model_name  text         NOT NULL,
    reason      text         NOT NULL,
    dropped     numeric      NOT NULL,
    PRIMARY KEY (model_name, bucket, reason)
) WITH (fillfactor = 70);

CREATE INDEX ON prediction_dropped_minute (bucket);

CREATE TABLE prediction_dropped_hour (
    bucket      timestamptz  NOT NULL,
    model_name  text         NOT NULL,
    reason      text         NOT NULL,
    dropped     numeric      NOT NULL,
    PRIMARY KEY (model_name, bucket, reason)
) WITH (fillfactor = 70);

CREATE INDEX ON prediction_dropped_hour (bucket);

CREATE TABLE prediction_dropped_day (
    bucket      timestamptz  NOT NULL,
    model_name  text         NOT NULL,
    reason      text         NOT NULL,
    dropped     numeric      NOT NULL,
    PRIMARY KEY (model_name, bucket, reason)
) WITH (fillfactor = 70);

CREATE INDEX ON prediction_dropped_day (bucket);
