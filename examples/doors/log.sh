#!/bin/sh
# Logs a prediction with curl. PREDLOG_URL is the service, PREDLOG_API_KEY the key; --retry repeats after a 429 or 503.
set -eu
record=$(cat <<END
{"model_name": "apartment_price", "model_version": "3", "duration_ms": 12.5, "was_successful": true,
 "timestamp": "$(date -u +%Y-%m-%dT%H:%M:%SZ)", "request_id": "$(cat /proc/sys/kernel/random/uuid)"}
END
)
curl --silent --show-error --fail-with-body --retry 5 --retry-connrefused --max-time 30 \
    --header "X-API-Key: ${PREDLOG_API_KEY:-}" --json "[$record]" \
    "${PREDLOG_URL:-http://localhost:8000}/api/v1/predict-logs"
