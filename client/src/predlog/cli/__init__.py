"""The command `predlog`: tail, stats, send."""
