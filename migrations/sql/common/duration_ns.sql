-- Durations as whole nanoseconds, because sums of them do not depend on the order of addition, as sums of doubles do.
-- Add up both functions: bigints add up much faster than numerics, which only durations beyond 104 days need. Such a
-- double is coarser than a nanosecond, and counts with its first 15 digits.
CREATE OR REPLACE FUNCTION duration_ns(duration_ms double precision) RETURNS bigint
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN duration_ms > -9e9 AND duration_ms < 9e9 THEN (duration_ms * 1e6)::bigint END;

CREATE OR REPLACE FUNCTION long_duration_ns(duration_ms double precision) RETURNS numeric
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN duration_ms >= 9e9 AND duration_ms < 'Infinity' THEN duration_ms::numeric * 1000000 END;
