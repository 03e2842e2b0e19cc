"""Connections to PostgreSQL: the pool, its sessions, and what happens when they fail."""
