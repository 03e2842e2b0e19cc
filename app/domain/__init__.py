"""What a prediction log is, in pure Python: no imports beyond the standard library."""
