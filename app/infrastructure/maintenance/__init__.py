"""What each storage engine needs to be kept up: refresh, retention, the columnstore."""
