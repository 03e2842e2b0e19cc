"""OpenTelemetry's spans: read in both encodings of OTLP/HTTP, and turned into predictions."""
