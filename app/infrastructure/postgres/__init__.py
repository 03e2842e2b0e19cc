"""Connections to PostgreSQL: the pool, its sessions, and their errors."""
