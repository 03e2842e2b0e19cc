"""Schemas of JSON, query strings and headers."""
