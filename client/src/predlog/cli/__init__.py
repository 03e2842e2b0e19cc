"""The command `predlog`: tail, stats, histogram, export, import, send."""
