-- The latency sketch: γ = 1.01 / 0.99, so that the middle of a bin is within 1 % of every duration in it. The functions
-- are not STRICT, because PostgreSQL then inlines them: an aggregate over bins costs no call for each row.

-- ln γ, as app/domain/sketch.py has it.
CREATE OR REPLACE FUNCTION latency_ln_gamma() RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN 0.020000666706669435;

-- The bin of a duration; zero has a bin of its own.
CREATE OR REPLACE FUNCTION latency_bin(duration_ms double precision) RETURNS integer
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN duration_ms > 0 THEN ceil(ln(duration_ms) / latency_ln_gamma())::integer ELSE -100000 END;

-- The middle of a bin in milliseconds.
CREATE OR REPLACE FUNCTION latency_of_bin(bin integer) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN bin > -100000 THEN 0.99 * exp(bin * latency_ln_gamma()) ELSE 0 END;
