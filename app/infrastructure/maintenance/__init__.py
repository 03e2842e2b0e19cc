"""The maintenance of each storage engine: refresh, retention, the columnstore."""
