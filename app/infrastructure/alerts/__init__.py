"""Alerts: their file, their tables, and their webhooks."""
