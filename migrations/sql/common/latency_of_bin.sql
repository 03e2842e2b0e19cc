-- The middle of a bin in milliseconds: within 1 % of every duration that fell into it.
CREATE OR REPLACE FUNCTION latency_of_bin(bin integer) RETURNS double precision
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN bin > -100000 THEN 0.99 * exp(bin * 0.020000666706669435) ELSE 0 END;
