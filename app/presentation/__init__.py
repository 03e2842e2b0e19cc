"""HTTP: one module a resource, each a blueprint and its marshmallow schemas."""
