-- One row: which session keeps the aggregates up.
CREATE TABLE prediction_stats_holder (pid integer, since timestamptz);
INSERT INTO prediction_stats_holder VALUES (NULL, NULL);
