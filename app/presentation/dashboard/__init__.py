"""The pages at /dashboard: templates without figures, and modules that fill them from the public API."""
