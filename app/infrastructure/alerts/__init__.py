"""Alerts: their file, their tables, and the webhooks that are told."""
