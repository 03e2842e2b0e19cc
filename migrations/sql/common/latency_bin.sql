-- The bin of a duration in the latency sketch: γ = 1.01 / 0.99, so that the middle of a bin is within 1 % of every
-- duration in it; zero has a bin of its own. Not STRICT, because PostgreSQL then inlines it: an aggregate over bins
-- costs no call for each row.
CREATE OR REPLACE FUNCTION latency_bin(duration_ms double precision) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN duration_ms > 0 THEN ceil(ln(duration_ms) / 0.020000666706669435)::integer ELSE -100000 END;
