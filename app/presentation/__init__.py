"""HTTP: one module for each resource, with a blueprint and marshmallow schemas."""
