"""CloudEvents of inference loggers: read in each mode of their HTTP binding, and turned into halves of predictions."""
